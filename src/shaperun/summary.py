"""The statistics of a study: what each arm came to over its runs, and against the baseline."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from shaperun import stats
from shaperun.errors import UserError
from shaperun.results import metrics
from shaperun.study import Study
from shaperun.terms import Environment

# The few resamples that large samples need are drawn from here, so that a summary repeats.
_SEED = 0


@dataclass(frozen=True)
class Estimate:
    """One metric of one arm over its runs; low and high are None where there is one run only."""

    mean: float
    iqm: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class ArmSummary:
    """One arm: how many finished runs are behind it, and its metrics."""

    arm: str
    runs: int
    metrics: dict[str, Estimate]


@dataclass(frozen=True)
class ArmComparison:
    """One arm against the baseline in one metric."""

    arm: str
    metric: str
    result: stats.Comparison


@dataclass(frozen=True)
class Summary:
    """All arms with a finished run, and their comparisons with the baseline."""

    study: str
    baseline: str
    arms: list[ArmSummary]
    comparisons: list[ArmComparison]

    def document(self) -> dict[str, Any]:
        """As `compare --json` prints it."""
        return {
            "study": self.study,
            "baseline": self.baseline,
            "arms": {
                arm.arm: {
                    "runs": arm.runs,
                    **{name: vars(estimate) for name, estimate in arm.metrics.items()},
                }
                for arm in self.arms
            },
            "comparisons": [
                {
                    "arm": comparison.arm,
                    "baseline": self.baseline,
                    "metric": comparison.metric,
                    **{key: _number(value) for key, value in vars(comparison.result).items()},
                }
                for comparison in self.comparisons
            ],
        }

    def table(self) -> pl.DataFrame:
        """One row an arm; a metric has the columns METRIC_mean, _iqm, _low and _high."""
        return pl.DataFrame(
            [
                {"arm": arm.arm, "runs": arm.runs}
                | {
                    f"{name}_{key}": value
                    for name, estimate in arm.metrics.items()
                    for key, value in vars(estimate).items()
                }
                for arm in self.arms
            ]
        )


def summarize(study: Study, environment: Environment, runs: pl.DataFrame, by: str) -> Summary:
    """Summarise the finished runs, the best arm first.

    Args:
        study: names the arms and the baseline.
        environment: names the metrics.
        runs: one row a run, as `results.run_metrics` makes it.
        by: the metric to rank the arms by.

    Raises:
        UserError: the metric is unknown, or a shaped return: arms with different rewards are
            measured in different units by it.
    """
    names = metrics(environment)
    check_ranking(by, names)
    arms = [
        ArmSummary(arm, len(rows), {name: _estimate(rows[name].to_numpy()) for name in names})
        for arm in study.arms
        if len(rows := runs.filter(arm=arm))
    ]
    arms.sort(key=lambda arm: -arm.metrics[by].mean)
    comparisons = [
        ArmComparison(arm.arm, name, result)
        for arm in arms
        if arm.arm != study.baseline
        for name in names
        if (result := _compare(runs, arm.arm, study.baseline, name))
    ]
    return Summary(study.study, study.baseline, arms, comparisons)


def check_ranking(by: str, names: list[str]) -> None:
    """Refuse what arms cannot be ranked by.

    Raises:
        UserError: says what they can be ranked by.
    """
    if by.startswith(("shaped", "shaping")):
        raise UserError(
            f"arms cannot be ranked by {by}: every arm measures it in units of its own reward, "
            "so the largest number means nothing. Rank by the environment's: " + ", ".join(names)
        )
    if by not in names:
        raise UserError(f"there is no metric {by}; there are {', '.join(names)}")


def centre(curves: pl.DataFrame) -> pl.DataFrame:
    """Per arm and evaluation: the mean return over the runs that got there, and its interval."""
    rows = []
    for (arm, timesteps), runs in curves.group_by("arm", "timesteps", maintain_order=True):
        estimate = _estimate(runs["return"].to_numpy())
        rows.append(
            {
                "arm": arm,
                "timesteps": timesteps,
                "return_centre": estimate.mean,
                "return_low": estimate.low,
                "return_high": estimate.high,
                "runs": len(runs),
            }
        )
    return pl.DataFrame(rows, infer_schema_length=None).sort("arm", "timesteps")


def _estimate(values: np.ndarray) -> Estimate:
    interval = stats.interval(values, rng=np.random.default_rng(_SEED))
    low, high = (interval.low, interval.high) if interval else (None, None)
    return Estimate(float(values.mean()), stats.iqm(values), low, high)


def _compare(runs: pl.DataFrame, arm: str, baseline: str, name: str) -> stats.Comparison | None:
    a, b = (runs.filter(arm=which)[name].to_numpy() for which in (arm, baseline))
    return stats.compare(a, b, paired=False, rng=np.random.default_rng(_SEED))


def _number(value: object) -> object:
    return None if isinstance(value, float) and not math.isfinite(value) else value
