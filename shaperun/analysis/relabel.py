"""Returns of recorded episodes under any arm's reward, from their term sums, without a rollout.

A recorded episode has, for each term of its run, the sum over the states after each step and the
values at the first and the last state. They determine the undiscounted shaped return exactly in
every mode; under a schedule, for one factor throughout the episode.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from shaperun.envs.base import OWN_REWARD, Array, Environment
from shaperun.rewards.config import RewardConfig, shaping_factor
from shaperun.rewards.kernel import RewardKernel
from shaperun.rewards.schedule import EarnedSchedule
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
    return _contributions(episodes, study, reward, shaping_factor(reward)(progress))


def recorded_contributions(
    episodes: pl.DataFrame, study: Study, reward: RewardConfig
) -> dict[str, Array]:
    """Return the contributions in an arm's own episodes, with the factors that they recorded."""
    factor = episodes["schedule"].to_numpy().astype(float) if reward.schedule else 1.0
    return _contributions(episodes, study, reward, factor)


def _contributions(
    episodes: pl.DataFrame, study: Study, reward: RewardConfig, factor: float | Array
) -> dict[str, Array]:
    environment = study.evaluated_environment.describe()
    kernel = study.training_of(reward).kernel(environment, study.resolve_reward(reward))
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


def final_progress(episodes: pl.DataFrame, reward: RewardConfig) -> float | None:
    """Return the progress at which a schedule has the factor of the end of an arm's training.

    It is 1, and for an earned schedule the mean share that the arm's runs had earned in their last
    evaluation; None without an episode of them.
    """
    schedule = reward.schedule
    if not isinstance(schedule, EarnedSchedule):
        return 1.0
    last = episodes.filter(pl.col("timesteps") == pl.col("timesteps").max().over("seed"))
    factors = last.group_by("seed").agg(pl.col("schedule").first())["schedule"].to_numpy()
    if not len(factors):
        return None
    change = schedule.to - schedule.start
    return float((factors.mean() - schedule.start) / change) if change else 1.0


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
