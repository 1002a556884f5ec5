"""Every arm's policies under every arm's reward, from what their episodes recorded."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import polars as pl

from shaperun.analysis.relabel import missing_columns, shaped_returns
from shaperun.envs.base import OWN_REWARD
from shaperun.rewards.config import RewardConfig
from shaperun.stats import sample
from shaperun.study.models import Study

SCHEMA = {
    "arm": pl.String,
    "reward": pl.String,
    "return": pl.Float64,
    "missing": pl.String,
}


def cross_rewards(final: pl.DataFrame, study: Study) -> pl.DataFrame:
    """What the policies of each arm earn under each reward.

    Undiscounted, and exact in every mode; a reward with a schedule pays as it does at the end of
    training. An arm without shaping learns from the environment's own reward, so it has no column
    of its own.

    Args:
        final: the episodes of the last evaluation of every finished run.
        study: the arms, the baseline first.

    Returns:
        One row a pair: arm (whose policies), reward (an arm, or `environment`), return (the
        interquartile mean over runs of the mean over episodes; null where it cannot be had), and
        missing (the terms that were not recorded, with commas between; empty if none).
    """
    environment = study.environment.describe()
    rows = []
    for arm, config in study.arms.items():
        episodes = final.filter(arm=arm)
        if episodes.is_empty():
            continue
        rows.append(_row(arm, OWN_REWARD, episodes, episodes["return"].to_numpy(), ()))
        for name, reward in shaping_arms(study):
            lacks = missing_columns(study.resolved(config), study.resolved(reward), environment)
            returns = None if lacks else shaped_returns(episodes, study, reward)
            rows.append(_row(arm, name, episodes, returns, sorted(lacks)))
    return pl.DataFrame(rows, SCHEMA)


def shaping_arms(study: Study) -> list[tuple[str, RewardConfig]]:
    """The arms whose learner sees something else than the environment's own reward."""
    return [(name, reward) for name, reward in study.arms.items() if reward.mode != "log"]


def average_over_runs(episodes: pl.DataFrame, returns: np.ndarray) -> float:
    """The interquartile mean over runs of their mean returns, given one return an episode (N,)."""
    table = episodes.select("seed").with_columns(pl.Series("return", returns))
    return sample.iqm(table.group_by("seed").agg(pl.col("return").mean())["return"].to_numpy())


def _row(
    arm: str,
    reward: str,
    episodes: pl.DataFrame,
    returns: np.ndarray | None,
    missing: Iterable[str],
) -> dict[str, object]:
    value = None if returns is None else average_over_runs(episodes, returns)
    return {"arm": arm, "reward": reward, "return": value, "missing": ", ".join(missing)}
