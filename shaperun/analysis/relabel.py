"""Returns of recorded episodes under any arm's reward, from their term sums, without a rollout.

A recorded episode has, for each term of its run, the sum over the states after each step and the
values at the first and the last state. They determine the undiscounted shaped return exactly in
every mode; under a schedule, for one factor throughout the episode.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from shaperun.envs.base import OWN_REWARD, Array, Environment
from shaperun.rewards.config import RewardConfig
from shaperun.rewards.kernel import RewardKernel
from shaperun.study.models import Study


def missing_terms(
    runs_of: RewardConfig, reward: RewardConfig, environment: Environment
) -> set[str]:
    """Return the weighted terms of a reward that the runs of another arm did not record."""
    weighted = {name for name, weight in reward.weights.items() if weight * reward.scale}
    return {
        name
        for name in weighted - environment.built_in.keys()
        # Arms may define different terms under one name.
        if runs_of.terms.get(name) != reward.terms[name]
    }


def contributions(
    episodes: pl.DataFrame, study: Study, reward: RewardConfig, progress: float = 1.0
) -> dict[str, Array]:
    """Return each weighted term's contribution (N,) to the shaped return of each episode.

    The N episodes recorded the reward's terms; a schedule is evaluated at the share `progress`.
    """
    environment = study.evaluated_environment.describe()
    kernel = study.training_of(reward).kernel(environment, study.resolve_reward(reward))
    return contributions_with_kernel(episodes, kernel, environment, progress)


def contributions_with_kernel(
    episodes: pl.DataFrame, kernel: RewardKernel, environment: Environment, progress: float = 1.0
) -> dict[str, Array]:
    """Return the contributions as `contributions` does, for a given kernel."""
    factor = kernel.factor(progress)
    sums, first, last = (
        _recorded_values(episodes, kind, kernel, environment) for kind in ("sum", "first", "last")
    )
    terminated = episodes["terminated"].to_numpy().astype(float)
    final = terminated if kernel.bootstraps else np.ones(len(episodes))
    parts = kernel.contributions_from_sums(sums, first, last, final, factor)
    return kernel.returns_by_term(parts, episodes["return"].to_numpy().astype(float), factor)


def shaped_returns(
    episodes: pl.DataFrame, study: Study, reward: RewardConfig, progress: float = 1.0
) -> Array:
    """Return the undiscounted shaped returns (N,); arguments as for `contributions`."""
    parts = contributions(episodes, study, reward, progress)
    return sum(parts.values(), start=np.zeros(len(episodes)))


def _recorded_values(
    episodes: pl.DataFrame, kind: str, kernel: RewardKernel, environment: Environment
) -> Array:
    """Return the recorded `sum`, `first` or `last` values (N, K); 0 for terms without weight."""
    values = np.zeros((len(episodes), len(kernel.names)))
    if kind != "sum" and kernel.mode != "potential":
        return values
    for index, (name, weight) in enumerate(zip(kernel.names, kernel.weights, strict=True)):
        if weight:
            values[:, index] = _recorded_column(episodes, kind, name, environment)
    return values


def _recorded_column(
    episodes: pl.DataFrame, kind: str, name: str, environment: Environment
) -> Array:
    # Every episode has its outcome and the environment's return, weighted or not.
    if name == OWN_REWARD:
        return episodes["return"].to_numpy().astype(float)
    if name in environment.outcomes:
        return (episodes["outcome"] == name).to_numpy().astype(float)
    return episodes[f"{kind}_{name}"].to_numpy().astype(float)
