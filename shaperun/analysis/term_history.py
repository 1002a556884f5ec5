"""Contributions of each term over training, and terms without effect."""

from __future__ import annotations

import numpy as np
import polars as pl

from shaperun.analysis.relabel import recorded_contributions
from shaperun.common.text import format_number, humanize
from shaperun.envs.base import OWN_REWARD
from shaperun.study.models import Study

WEAK_SHARE = 0.01  # of the variation in the return; below it shaping cannot matter
DOMINANT_SHARE = 0.9  # of the variation between terms; above it the other terms hardly matter


def term_history(episodes: pl.DataFrame, study: Study) -> pl.DataFrame:
    """Return each weighted term's contribution in each evaluation episode, in long form.

    A schedule has the factor that the evaluation recorded. Only the first episodes of an evaluation
    count, which all evaluations have.

    Returns:
        One row per episode and term: arm, seed, timesteps, term, contribution.
    """
    first = episodes.filter(pl.col("episode") < study.evaluation.episodes)
    schema = {"arm": pl.String, "seed": pl.Int64, "timesteps": pl.Int64}
    tables = [pl.DataFrame(schema=schema | {"term": pl.String, "contribution": pl.Float64})]
    for (arm,), rows in first.group_by("arm", maintain_order=True):
        terms = recorded_contributions(rows, study, study.arms[str(arm)])
        index = ["arm", "seed", "timesteps"]
        wide = rows.select(index).with_columns(**{n: pl.Series(v) for n, v in terms.items()})
        tables.append(wide.unpivot(index=index, variable_name="term", value_name="contribution"))
    return pl.concat(tables)


def mean_term_history(history: pl.DataFrame) -> pl.DataFrame:
    """Return one row per arm, evaluation and term: arm, timesteps, term, mean contribution."""
    return (
        history.group_by("arm", "timesteps", "term", maintain_order=True)
        .agg(pl.col("contribution").mean())
        .sort("arm", "timesteps", maintain_order=True)
    )


def term_notes(history: pl.DataFrame, arm: str) -> list[str]:
    """Return sentences on an arm's terms that are constant, dominate the others or are too weak."""
    groups = history.filter(arm=arm).group_by("term", maintain_order=True)
    values = {str(term): rows["contribution"] for (term,), rows in groups}
    spreads = {term: _spread(series) for term, series in values.items()}
    env_spread = spreads.pop(OWN_REWARD, 0.0)
    notes = [
        f"{humanize(name)} paid {format_number(values[name][0])} in every episode, "
        "so it had no effect on learning"
        for name, spread in spreads.items()
        if not spread
    ]
    total = sum(spreads.values())
    largest = max(spreads, key=lambda name: spreads[name], default="")
    if sum(map(bool, spreads.values())) > 1 and spreads[largest] >= DOMINANT_SHARE * total:
        share = format_number(100 * spreads[largest] / total)
        notes.append(
            f"{humanize(largest)} makes {share}% of the variation in the shaping, so the other "
            "terms had almost no effect"
        )
    if spreads and total < WEAK_SHARE * env_spread:
        share = format_number(100 * total / (total + env_spread))
        notes.append(
            f"the shaping makes {share}% of the variation in the return, too little to matter"
        )
    return notes


def schedule_notes(final: pl.DataFrame, study: Study) -> dict[str, str]:
    """Return a phrase on the factors with which the schedules of arms ended, given all arms."""
    notes = {}
    for arm, reward in study.arms.items():
        rows = final.filter(arm=arm)
        if reward.schedule and len(rows):
            notes[arm] = _describe_factors(rows.group_by("seed").agg(pl.col("schedule").last()))
    return notes


def _describe_factors(runs: pl.DataFrame) -> str:
    factors = runs["schedule"].to_numpy()
    low, high, mean = map(format_number, (factors.min(), factors.max(), factors.mean()))
    if low == high:
        return f"its schedule ended at a factor of {mean}"
    return f"its schedule ended at factors from {low} to {high}, on average {mean}"


def _spread(values: pl.Series) -> float:
    """Return the standard deviation, exactly 0 for a constant in spite of rounding."""
    return float(np.std(values.to_numpy())) if values.n_unique() > 1 else 0.0
