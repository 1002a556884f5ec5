"""Statistics of a study: estimates per arm, and comparisons with the baseline."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl

from shaperun.analysis.learning_speed import AUC, SOLVED, STEPS_TO_SOLVED
from shaperun.common.errors import UserError
from shaperun.common.text import format_fixed
from shaperun.envs.base import Environment
from shaperun.envs.metrics import metric_direction, metric_names
from shaperun.stats import intervals, permutation
from shaperun.stats.comparison import Comparison, compare, seeds_needed
from shaperun.stats.sample import iqm
from shaperun.study.models import Study

_SEED = 0  # of resampling, so that a summary repeats
ALPHA = 0.05
MIN_PAIRS = permutation.min_runs(ALPHA, paired=True)

Samples = Mapping[str, Mapping[str, np.ndarray]]
"""Arm -> metric, or `seed` -> one value per run, in the order of seeds."""

# The verdicts where more of a metric is better (1), worse (-1) or neither (0).
_VERDICTS = {
    1: {"better": "better", "worse": "worse"},
    -1: {"better": "worse", "worse": "better"},
    0: {"better": "higher", "worse": "lower"},
}

AGGREGATES = {
    "iqm": "the interquartile mean",
    "mean": "the mean",
    "median": "the median",
    "worst": "the worst",
}


@dataclass(frozen=True)
class Estimate:
    """One metric of one arm over its runs.

    `low` and `high` are the interval of the interquartile mean at `level`; for two runs that of
    the median at level 0.5, and None for one run. The median's interval has the highest level
    that the number of runs allows. The mean has an interval from 20 runs on.
    """

    mean: float
    iqm: float
    low: float | None
    high: float | None
    level: float | None
    median: float
    median_low: float | None
    median_high: float | None
    median_level: float | None
    mean_low: float | None
    mean_high: float | None


def format_estimates(metric: str, estimates: Sequence[Estimate]) -> list[tuple[str, str]]:
    """Return the estimates of a column and their intervals as text, with the same decimals."""
    digits = 0 if any(abs(estimate.iqm) >= 100 for estimate in estimates) else 1
    return [format_estimate(metric, estimate, digits) for estimate in estimates]


def format_estimate(metric: str, estimate: Estimate, digits: int | None = None) -> tuple[str, str]:
    """Return an estimate and its interval as text; the latter is empty for a single run."""
    percent = metric.endswith("_rate")
    if digits is None:
        digits = 0 if abs(estimate.iqm) >= 100 else 1

    def show(value: float) -> str:
        if percent:  # the interval of a share may exceed 0 to 1
            return f"{min(1.0, max(0.0, value)):.0%}"
        return format_fixed(value, digits)

    if estimate.low is None or estimate.high is None:
        return show(estimate.iqm), ""
    if percent and estimate.low == estimate.high:
        return show(estimate.iqm), "identical in all runs"
    return show(estimate.iqm), f"[{show(estimate.low)}, {show(estimate.high)}]"


def format_metric(name: str, value: float) -> str:
    """Return a rate in percent, any other metric as a number."""
    return f"{value:.0%}" if name.endswith("_rate") else format_fixed(value, 1)


@dataclass(frozen=True)
class ArmSummary:
    """The estimates of one arm over its finished runs.

    `metrics` are those of its final policies, `learning` of its learning curves (`auc` and
    `steps_to_solved`). `solved` runs ever reached the solved return; the others are censored.
    """

    arm: str
    runs: int
    metrics: dict[str, Estimate]
    learning: dict[str, Estimate]
    solved: int | None = None


@dataclass(frozen=True)
class ArmComparison:
    """One arm against its baseline in one metric, with its runs paired by seed or not.

    The verdict of `result` is "higher" or "lower" where neither is better, as for length.
    `p_adjusted` is the p-value after Holm's correction for all arms compared in this metric.
    """

    arm: str
    baseline: str
    metric: str
    result: Comparison
    paired: bool
    p_adjusted: float


@dataclass(frozen=True)
class Summary:
    """All arms with a finished run, and their comparisons with the baseline."""

    study: str
    baseline: str
    arms: list[ArmSummary]
    comparisons: list[ArmComparison]

    def document(self) -> dict[str, Any]:
        """Return the statistics as JSON, for `compare --json`."""
        return {
            "study": self.study,
            "baseline": self.baseline,
            "arms": {
                arm.arm: {
                    "runs": arm.runs,
                    **{n: vars(e) for n, e in (arm.metrics | arm.learning).items()},
                    **({} if arm.solved is None else {"solved_runs": arm.solved}),
                }
                for arm in self.arms
            },
            "comparisons": [
                {
                    "arm": c.arm,
                    "baseline": c.baseline,
                    "metric": c.metric,
                    **{key: _finite_or_none(value) for key, value in vars(c.result).items()},
                    "paired": c.paired,
                    "p_adjusted": c.p_adjusted,
                }
                for c in self.comparisons
            ],
        }

    def table(self) -> pl.DataFrame:
        """Return one row per arm, with a column for each field of each metric's `Estimate`."""
        return pl.DataFrame(
            [
                {"arm": arm.arm, "runs": arm.runs}
                | {
                    f"{name}_{key}": value
                    for name, estimate in (arm.metrics | arm.learning).items()
                    for key, value in vars(estimate).items()
                }
                for arm in self.arms
            ]
        )


def summarize(study: Study, environment: Environment, runs: pl.DataFrame, by: str) -> Summary:
    """Summarize the finished runs, the best arm by a metric first.

    The table has one row per run with its metrics (`results.run_metrics`), optionally joined with
    the columns of `learning_speed`.

    Raises:
        UserError: arms cannot be ranked by this metric.
    """
    metrics = metric_names(environment)
    check_metric(by, metrics)
    learning = [name for name in (AUC, STEPS_TO_SOLVED) if name in runs.columns]
    samples = _samples_by_arm(runs)
    arms = [
        ArmSummary(
            arm,
            len(samples[arm]["seed"]),
            {name: _estimate(samples[arm][name]) for name in metrics},
            {name: _estimate(samples[arm][name]) for name in learning},
            int(samples[arm][SOLVED].sum()) if SOLVED in samples[arm] else None,
        )
        for arm in study.arms
        if arm in samples
    ]
    arms.sort(key=lambda arm: -arm.metrics[by].iqm)
    pairs = [(a.arm, study.baseline_of(a.arm)) for a in arms if a.arm != study.baseline]
    directions = {name: metric_direction(name, environment) for name in metrics}
    directions |= {name: {AUC: 1, STEPS_TO_SOLVED: -1}[name] for name in learning}
    comparisons = [
        c for name in directions for c in _compare_arms(samples, pairs, name, directions[name])
    ]
    order = [arm for arm, _ in pairs]
    comparisons.sort(key=lambda c: order.index(c.arm))
    return Summary(study.study, study.baseline, arms, comparisons)


def _samples_by_arm(runs: pl.DataFrame) -> Samples:
    """Split the table once: looking up each arm and metric in it would take seconds."""
    tables = runs.sort("seed").partition_by("arm", as_dict=True, include_key=False)
    return {
        str(arm): {name: table[name].to_numpy() for name in table.columns if name != "study"}
        for (arm,), table in tables.items()
    }


def check_metric(by: str, names: list[str]) -> None:
    """Check that arms can be ranked by a metric.

    Raises:
        UserError: the metric is unknown, or part of a shaped reward.
    """
    if by.startswith(("shaped", "shaping")):
        raise UserError(
            f"arms cannot be ranked by {by}, which each arm measures in units of its own reward; "
            f"choose from {', '.join(names)}"
        )
    if by not in names:
        raise UserError(f"unknown metric {by}; choose from {', '.join(names)}")


def center_curves(curves: pl.DataFrame) -> pl.DataFrame:
    """Return the interquartile mean return over runs per arm and evaluation, with its interval."""
    points = curves.group_by("arm", "timesteps", maintain_order=True).agg("return", runs=pl.len())
    # Points with the same number of runs at once: one by one they would take seconds.
    tables = [_center_points(same) for same in points.partition_by("runs", maintain_order=True)]
    return pl.concat(tables).sort("arm", "timesteps")


def _center_points(points: pl.DataFrame) -> pl.DataFrame:
    values = np.stack([returns.to_numpy() for returns in points["return"]])
    rng = np.random.default_rng(_SEED)
    result = intervals.intervals(values, statistic="iqm", rng=rng)
    result = result or intervals.intervals(values, statistic="median", rng=rng)
    low, high = (result.low, result.high) if result else [[None] * len(points)] * 2
    return points.select(
        "arm",
        "timesteps",
        pl.Series("return_centre", [iqm(row) for row in values]),
        pl.Series("return_low", low, pl.Float64),
        pl.Series("return_high", high, pl.Float64),
        "runs",
    )


def _estimate(values: np.ndarray) -> Estimate:
    of_iqm, of_median, of_mean = (
        intervals.interval(values, statistic=name, rng=np.random.default_rng(_SEED))
        for name in ("iqm", "median", "mean")
    )
    return Estimate(
        float(values.mean()),
        iqm(values),
        *_ends(of_iqm or of_median),
        float(np.median(values)),
        *_ends(of_median),
        *_ends(of_mean)[:2],
    )


def _ends(interval: intervals.Interval | None) -> tuple[float | None, float | None, float | None]:
    return (interval.low, interval.high, interval.level) if interval else (None, None, None)


def _compare_arms(
    samples: Samples, pairs: Sequence[tuple[str, str]], metric: str, direction: int
) -> list[ArmComparison]:
    """Compare arms with their baselines in one metric; winners must survive Holm's correction."""
    pairs = [(arm, baseline) for arm, baseline in pairs if baseline in samples]
    results = [_compare_samples(samples[arm], samples[base], metric) for arm, base in pairs]
    adjusted = permutation.holm([result.p_value for _, result in results])
    comparisons = []
    for (arm, baseline), (paired, result), p in zip(pairs, results, adjusted, strict=True):
        verdict, needed = result.verdict, result.seeds_needed
        if verdict in ("better", "worse") and p > ALPHA:
            values = samples[arm][metric], samples[baseline][metric]
            # The significance level of Holm's first and strictest step.
            needed = seeds_needed(*values, paired=paired, alpha=ALPHA / len(pairs))
            verdict = "underpowered" if needed else "no difference shown"
        verdict = _VERDICTS[direction].get(verdict, verdict)
        result = replace(result, verdict=verdict, seeds_needed=needed)
        comparisons.append(ArmComparison(arm, baseline, metric, result, paired, float(p)))
    return comparisons


def _compare_samples(
    arm: Mapping[str, np.ndarray], baseline: Mapping[str, np.ndarray], metric: str
) -> tuple[bool, Comparison]:
    """Compare two arms, paired if they have the same seeds and enough for the paired test."""
    paired = len(arm["seed"]) >= MIN_PAIRS and np.array_equal(arm["seed"], baseline["seed"])
    rng = np.random.default_rng(_SEED)
    result = compare(arm[metric], baseline[metric], paired=paired, rng=rng)
    assert result is not None  # noqa: S101 (for the type checker: both have runs)
    return paired, result


def _finite_or_none(value: object) -> object:
    return None if isinstance(value, float) and not math.isfinite(value) else value
