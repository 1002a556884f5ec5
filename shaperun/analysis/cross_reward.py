"""Every arm's policies under every arm's reward, from their recorded episodes."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import polars as pl

from shaperun.analysis.relabel import final_progress, missing_terms, shaped_returns
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
    """Compute the return of each arm's policies under each reward, from the final episodes.

    Returns are undiscounted, and exact in every mode. A schedule has its factor at the end of
    training; an earned one the mean of those with which the runs of its arm ended, and without such
    a run it does not occur. An arm without shaping occurs only as `arm`, since its reward is the
    environment's.

    Returns:
        One row per pair: arm (of the policies), reward (of an arm, or `environment`), return (the
        interquartile mean over runs of the mean over episodes; null if a term was not recorded),
        and missing (those terms, comma-separated).
    """
    environment = study.evaluated_environment.describe()
    rows = []
    ends = {n: final_progress(final.filter(arm=n), reward) for n, reward in shaping_arms(study)}
    for arm, config in study.arms.items():
        episodes = final.filter(arm=arm)
        if episodes.is_empty():
            continue
        rows.append(_row(arm, OWN_REWARD, episodes, episodes["return"].to_numpy(), ()))
        for name, progress in ends.items():
            if progress is None:
                continue
            reward = study.arms[name]
            resolved = study.resolve_reward(config), study.resolve_reward(reward)
            missing = missing_terms(*resolved, environment)
            returns = None if missing else shaped_returns(episodes, study, reward, progress)
            rows.append(_row(arm, name, episodes, returns, sorted(missing)))
    return pl.DataFrame(rows, SCHEMA)


def shaping_arms(study: Study) -> list[tuple[str, RewardConfig]]:
    """Return the arms whose learner sees a shaped reward."""
    return [(name, reward) for name, reward in study.arms.items() if reward.mode != "log"]


def average_over_runs(episodes: pl.DataFrame, returns: np.ndarray) -> float:
    """Return the interquartile mean over runs of their mean returns, given one per episode (N,)."""
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
