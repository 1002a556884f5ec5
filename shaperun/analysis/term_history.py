"""What each term paid over training, and which terms taught nothing."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import polars as pl

from shaperun.analysis.relabel import contributions
from shaperun.common.text import format_number, humanize
from shaperun.envs.base import OWN_REWARD
from shaperun.study.models import Study

WEAK = 0.01
"""The share of what moves the learner's return below which the shaping cannot matter."""


def term_history(episodes: pl.DataFrame, study: Study) -> pl.DataFrame:
    """What each weighted term paid in each evaluation episode, in long form.

    A schedule's factor is that of the moment. Of each evaluation the first episodes count, which
    all evaluations have.

    Returns:
        One row an episode and term: arm, seed, timesteps, term, contribution.
    """
    first = episodes.filter(pl.col("episode") < study.evaluation.episodes)
    total = study.training.total_timesteps
    schema = {"arm": pl.String, "seed": pl.Int64, "timesteps": pl.Int64}
    tables = [pl.DataFrame(schema=schema | {"term": pl.String, "contribution": pl.Float64})]
    for (arm, timesteps), rows in first.group_by("arm", "timesteps", maintain_order=True):
        reward = study.arms[str(arm)]
        progress = min(1.0, int(str(timesteps)) / total)
        paid = contributions(rows, study, reward, progress)
        wide = rows.select("arm", "seed", "timesteps").with_columns(
            **{name: pl.Series(values) for name, values in paid.items()}
        )
        index = ["arm", "seed", "timesteps"]
        tables.append(wide.unpivot(index=index, variable_name="term", value_name="contribution"))
    return pl.concat(tables)


def over_training(history: pl.DataFrame) -> pl.DataFrame:
    """The mean contribution of each term at each evaluation: arm, timesteps, term, contribution."""
    return (
        history.group_by("arm", "timesteps", "term", maintain_order=True)
        .agg(pl.col("contribution").mean())
        .sort("arm", "timesteps", maintain_order=True)
    )


def term_notes(history: pl.DataFrame, arm: str) -> list[str]:
    """Which terms of an arm never moved, drowned the others, or were too weak to matter."""
    rows = history.filter(arm=arm)
    spreads = {
        str(term): _spread(values["contribution"])
        for (term,), values in rows.group_by("term", maintain_order=True)
    }
    return list(_notes(rows, spreads))


def _spread(values: pl.Series) -> float:
    """Standard deviation, exactly 0 for a constant, which rounding would deny."""
    return float(np.std(values.to_numpy())) if values.n_unique() > 1 else 0.0


def _notes(rows: pl.DataFrame, spreads: dict[str, float]) -> Iterator[str]:
    shaping = {name: spread for name, spread in spreads.items() if name != OWN_REWARD}
    for name, spread in shaping.items():
        if not spread:
            value = rows.filter(term=name)["contribution"][0]
            yield f"{humanize(name)} came to {format_number(value)} in every episode and taught nothing"
    total = sum(shaping.values())
    loudest = max(shaping, key=lambda name: shaping[name], default="")
    if sum(map(bool, shaping.values())) > 1 and shaping[loudest] >= DROWNED_SHARE * total:
        share = format_number(100 * shaping[loudest] / total)
        yield f"{humanize(loudest)} makes {share}% of what moved the shaping; the rest is drowned"
    own = spreads.get(OWN_REWARD, 0.0)
    if shaping and own and total < WEAK * own:
        share = format_number(100 * total / (total + own))
        yield f"the shaping makes {share}% of what moved the return: too little to matter"


DROWNED_SHARE = 0.9  # the share of what moves the return that leaves nothing to the other terms
