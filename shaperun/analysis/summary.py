"""The statistics of a study: what each arm came to over its runs, and against the baseline."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl

from shaperun.analysis.learning_speed import AUC, SOLVED, STEPS_TO_SOLVED
from shaperun.common.errors import UserError
from shaperun.envs.base import Environment
from shaperun.envs.metrics import direction, metric_names
from shaperun.stats import intervals, permutation
from shaperun.stats.comparison import Comparison, compare, seeds_needed
from shaperun.stats.sample import iqm
from shaperun.study.models import Study

# The few resamples that large samples need are drawn from here, so that a summary repeats.
_SEED = 0

ALPHA = 0.05
Samples = Mapping[str, Mapping[str, np.ndarray]]
"""Arm -> metric, or `seed` -> one value a run, in the order of the seeds."""

MIN_PAIRS = permutation.min_runs(ALPHA, paired=True)


@dataclass(frozen=True)
class Estimate:
    """One metric of one arm over its runs.

    The interval is of the interquartile mean, or with two runs of the median, at the level of 0.5
    that two runs allow; low, high and level are None where there is one run only. The median's is
    at the level that so many runs allow. The mean has one from 20 runs on.
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


def format_estimate(metric: str, estimate: Estimate) -> tuple[str, str]:
    """A metric as it is shown, and its interval; the latter is empty for a single run."""
    percent = metric.endswith("_rate")
    whole = percent or abs(estimate.iqm) >= 100

    def show(value: float) -> str:
        if percent:  # an interval for a share cannot leave 0 to 1
            return f"{min(1.0, max(0.0, value)):.0%}"
        return (f"{value:,.0f}" if whole else f"{value:,.1f}").replace("-", "−")

    if estimate.low is None or estimate.high is None:
        return show(estimate.iqm), ""
    if percent and estimate.low == estimate.high:  # no spread is no interval
        return show(estimate.iqm), "every run"
    return show(estimate.iqm), f"{show(estimate.low)}…{show(estimate.high)}"


@dataclass(frozen=True)
class ArmSummary:
    """One arm: how many finished runs are behind it, and its metrics."""

    arm: str
    runs: int
    metrics: dict[str, Estimate]
    """By what its final policies do."""
    learning: dict[str, Estimate]
    """By how quickly they learned, where that was asked for: `auc`, `steps_to_solved`."""
    solved: int | None = None
    """How many runs ever reached the return that counts as solved; the others are censored."""


@dataclass(frozen=True)
class ArmComparison:
    """One arm against its baseline in one metric."""

    arm: str
    baseline: str
    metric: str
    result: Comparison
    """Its verdict says "higher" or "lower" where neither is better, as with an episode's length."""
    paired: bool
    """Whether the runs were paired by seed."""
    p_adjusted: float
    """The p-value after Holm's correction for all arms that are compared in this metric."""


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
                    **{n: vars(e) for n, e in (arm.metrics | arm.learning).items()},
                    **({} if arm.solved is None else {"solved_runs": arm.solved}),
                }
                for arm in self.arms
            },
            "comparisons": [
                {
                    "arm": comparison.arm,
                    "baseline": comparison.baseline,
                    "metric": comparison.metric,
                    **{key: _number(value) for key, value in vars(comparison.result).items()},
                    "paired": comparison.paired,
                    "p_adjusted": comparison.p_adjusted,
                }
                for comparison in self.comparisons
            ],
        }

    def table(self) -> pl.DataFrame:
        """One row an arm; a metric has a column for each field of `Estimate`, METRIC_mean first."""
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
    """Summarise the finished runs, the best arm first.

    Args:
        study: names the arms and the baseline.
        environment: names the metrics.
        runs: one row a run, as `results.run_metrics` makes it, with the columns of
            `learning_speed` where the learning is to be compared as well.
        by: the metric to rank the arms by.

    Raises:
        UserError: the metric is unknown, or a shaped return: arms with different rewards are
            measured in different units by it.
    """
    names = metric_names(environment)
    check_ranking(by, names)
    learning = [name for name in (AUC, STEPS_TO_SOLVED) if name in runs.columns]
    samples = _samples(runs)
    arms = [
        _arm_summary(arm, samples[arm], names, learning) for arm in study.arms if arm in samples
    ]
    arms.sort(key=lambda arm: -arm.metrics[by].iqm)
    others = [arm.arm for arm in arms if arm.arm != study.baseline]
    pairs = [(arm, study.baseline_of(arm)) for arm in others]
    names = [*names, *learning]
    found = {name: _comparisons(samples, pairs, name) for name in names}
    directions = {name: _direction(name, environment) for name in names}
    found = {name: [_with_verdict_for(c, directions[name]) for c in found[name]] for name in names}
    in_order = [c for arm in others for name in names for c in found[name] if c.arm == arm]
    return Summary(study.study, study.baseline, arms, in_order)


def _samples(runs: pl.DataFrame) -> Samples:
    """Taken apart once: looking up each arm and metric in the table would take seconds."""
    tables = runs.sort("seed").partition_by("arm", as_dict=True, include_key=False)
    return {
        str(arm): {name: table[name].to_numpy() for name in table.columns if name != "study"}
        for (arm,), table in tables.items()
    }


def _arm_summary(
    arm: str,
    sample: Mapping[str, np.ndarray],
    names: Sequence[str],
    learning: Sequence[str],
) -> ArmSummary:
    solved = int(sample[SOLVED].sum()) if SOLVED in sample else None
    final, curve = ({name: _estimate(sample[name]) for name in some} for some in (names, learning))
    return ArmSummary(arm, len(sample["seed"]), final, curve, solved)


def _direction(metric: str, environment: Environment) -> int:
    """The same of how quickly an arm learned as well."""
    return {AUC: 1, STEPS_TO_SOLVED: -1}.get(metric) or direction(metric, environment)


def _with_verdict_for(comparison: ArmComparison, direction: int) -> ArmComparison:
    result = comparison.result
    words = {1: ("better", "worse"), -1: ("worse", "better"), 0: ("higher", "lower")}[direction]
    verdict = dict(zip(("better", "worse"), words, strict=True)).get(result.verdict, result.verdict)
    return replace(comparison, result=replace(result, verdict=verdict))


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


def center_curves(curves: pl.DataFrame) -> pl.DataFrame:
    """Per arm and evaluation: the interquartile mean return over the runs that got there."""
    points = curves.group_by("arm", "timesteps", maintain_order=True).agg("return", runs=pl.len())
    # All points with so many runs behind them at once: one by one they would take seconds.
    tables = [_centres(same) for same in points.partition_by("runs", maintain_order=True)]
    return pl.concat(tables).sort("arm", "timesteps")


def _centres(points: pl.DataFrame) -> pl.DataFrame:
    values = np.stack([returns.to_numpy() for returns in points["return"]])
    rng = np.random.default_rng(_SEED)
    found = intervals.intervals(values, statistic="iqm", rng=rng)
    found = found or intervals.intervals(values, statistic="median", rng=rng)
    low, high = (found.low, found.high) if found else [[None] * len(points)] * 2
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


def _ends(found: intervals.Interval | None) -> tuple[float | None, float | None, float | None]:
    return (found.low, found.high, found.level) if found else (None, None, None)


def _comparisons(
    samples: Samples, pairs: Sequence[tuple[str, str]], name: str
) -> list[ArmComparison]:
    """Arms against their baselines in one metric; a winner must survive Holm's correction."""
    pairs = [(arm, baseline) for arm, baseline in pairs if baseline in samples]
    found = [_compare(samples[arm], samples[baseline], name) for arm, baseline in pairs]
    adjusted = permutation.holm([result.p_value for _, result in found])
    return [
        _corrected(
            ArmComparison(arm, baseline, name, result, paired, float(p)),
            (samples[arm][name], samples[baseline][name]),
            len(found),
        )
        for (arm, baseline), (paired, result), p in zip(pairs, found, adjusted, strict=True)
    ]


def _compare(
    arm: Mapping[str, np.ndarray], baseline: Mapping[str, np.ndarray], name: str
) -> tuple[bool, Comparison]:
    """Paired by seed where both arms have so many, and the same, that the test can speak up."""
    paired = len(arm["seed"]) >= MIN_PAIRS and np.array_equal(arm["seed"], baseline["seed"])
    rng = np.random.default_rng(_SEED)
    result = compare(arm[name], baseline[name], paired=paired, rng=rng)
    assert result is not None  # noqa: S101 (for the type checker: both have runs)
    return paired, result


def _corrected(
    comparison: ArmComparison, values: tuple[np.ndarray, np.ndarray], compared: int
) -> ArmComparison:
    """A winner that does not survive the correction is no winner with so few seeds."""
    if comparison.result.verdict not in ("better", "worse") or comparison.p_adjusted <= ALPHA:
        return comparison
    alpha = ALPHA / compared  # Holm's first and strictest step
    needed = seeds_needed(*values, paired=comparison.paired, alpha=alpha)
    verdict = "underpowered" if needed else "no difference shown"
    return replace(
        comparison, result=replace(comparison.result, verdict=verdict, seeds_needed=needed)
    )


def _number(value: object) -> object:
    return None if isinstance(value, float) and not math.isfinite(value) else value


AGGREGATES = {
    "iqm": "the interquartile mean",
    "mean": "the mean",
    "median": "the median",
    "worst": "the worst",
}


def format_metric(name: str, value: float) -> str:
    """A share in percent, anything else as a number."""
    return f"{value:.0%}" if name.endswith("_rate") else f"{value:,.1f}".replace("-", "−")
