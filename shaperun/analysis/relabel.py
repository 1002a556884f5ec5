"""What recorded episodes pay under any arm's reward, from their term sums, without a rollout.

A recorded episode has, for every term its run knew, the sum over the states after each step and the
values at the first and the last state. That determines the undiscounted shaped return exactly in
every mode; under a schedule it does so for one factor, here that of a moment of training.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl

from shaperun.envs.base import OWN_REWARD, Array, Environment
from shaperun.rewards.config import AnyTerm, RewardConfig
from shaperun.rewards.kernel import RewardKernel
from shaperun.study.models import Study

Definitions = Mapping[str, AnyTerm]


def missing_columns(
    runs_of: RewardConfig, reward: RewardConfig, environment: Environment
) -> set[str]:
    """The weighted terms of a reward that the runs of another arm did not record.

    Args:
        runs_of: the arm that was trained, the study's terms included (`Study.resolved`).
        reward: the arm whose reward is wanted, likewise.
        environment: its terms, outcomes and own reward can always be had.
    """
    weighted = {name for name, weight in reward.weights.items() if weight * reward.scale}
    return {
        name
        for name in weighted - environment.built_in.keys()
        # The same name is the same term only where it is defined the same.
        if runs_of.terms.get(name) != reward.terms[name]
    }


def contributions(
    episodes: pl.DataFrame, study: Study, reward: RewardConfig, progress: float = 1.0
) -> dict[str, Array]:
    """What each weighted term paid in each episode (N,); together they are the shaped return.

    Args:
        episodes: evaluation episodes as recorded, N of them; they must have recorded the terms.
        study: names the environment and the learner's γ.
        reward: the reward that is to pay.
        progress: the share of training whose factor applies, where the reward has a schedule.
    """
    environment = study.environment.describe()
    gamma = study.training_of(reward).gamma
    kernel = RewardKernel(environment, study.resolved(reward), gamma)
    return contributions_with_kernel(episodes, kernel, environment, progress)


def contributions_with_kernel(
    episodes: pl.DataFrame, kernel: RewardKernel, environment: Environment, progress: float = 1.0
) -> dict[str, Array]:
    """The same by a kernel."""
    factor = kernel.factor(progress)
    sums, first, last = (
        _columns(episodes, kind, kernel, environment) for kind in ("sum", "first", "last")
    )
    terminated = episodes["terminated"].to_numpy().astype(float)
    parts = kernel.contributions_from_sums(sums, first, last, terminated, factor)
    return kernel.returns_by_term(parts, episodes["return"].to_numpy().astype(float), factor)


def shaped_returns(
    episodes: pl.DataFrame, study: Study, reward: RewardConfig, progress: float = 1.0
) -> Array:
    """The undiscounted return (N,) of recorded episodes under a reward; arguments as above."""
    parts = contributions(episodes, study, reward, progress)
    return sum(parts.values(), start=np.zeros(len(episodes)))


def _columns(
    episodes: pl.DataFrame, kind: str, kernel: RewardKernel, environment: Environment
) -> Array:
    """The recorded `sum`, `first` or `last` values (N, K); 0 for what does not count."""
    values = np.zeros((len(episodes), len(kernel.names)))
    if kind != "sum" and kernel.mode != "potential":
        return values
    for place, (name, weight) in enumerate(zip(kernel.names, kernel.weights, strict=True)):
        if weight:
            values[:, place] = _column(episodes, kind, name, environment)
    return values


def _column(episodes: pl.DataFrame, kind: str, name: str, environment: Environment) -> Array:
    """Outcomes and the environment's reward are known of every episode, weighed or not."""
    if name == OWN_REWARD:
        return episodes["return"].to_numpy().astype(float)
    if name in environment.outcomes:
        return (episodes["outcome"] == name).to_numpy().astype(float)
    return episodes[f"{kind}_{name}"].to_numpy().astype(float)
