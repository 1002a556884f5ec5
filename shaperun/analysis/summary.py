"""Statistics of a study: estimates per arm, and comparisons with the baseline."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl

from shaperun.analysis.learning_speed import (
    AUC,
    SOLVED,
    STEPS_TO_SOLVED,
    solving_time_bounds,
)
from shaperun.common.errors import UserError
from shaperun.common.text import count_decimals, format_fixed
from shaperun.envs.base import Bounds, Environment
from shaperun.envs.metrics import metric_bounds, metric_direction, metric_names
from shaperun.stats import intervals, permutation
from shaperun.stats.comparison import Comparison, compare, seeds_needed
from shaperun.stats.sample import iqm
from shaperun.study.models import Study

_SEED = 0  # of resampling, so that a summary repeats
ALPHA = 0.05
NEVER_SOLVED = "never solved"
IDENTICAL = "identical"  # a rate in all runs

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

    def interval_of(self, aggregate: str) -> tuple[float | None, float | None]:
        """Return the interval of a statistic among `AGGREGATES`; the worst run has none."""
        return {
            "iqm": (self.low, self.high),
            "median": (self.median_low, self.median_high),
            "mean": (self.mean_low, self.mean_high),
        }.get(aggregate, (None, None))


def describe_intervals(runs: Iterable[int]) -> str:
    """Return what intervals show, given the numbers of runs; empty if they are all single."""
    counts = set(runs) - {0, 1}
    if counts == {2}:
        return "the range of the two runs"
    return f"95% intervals{' (two runs: their range)' * (2 in counts)}" if counts else ""


def describe_estimates(arms: Sequence[ArmSummary]) -> str:
    """Return what the values and intervals in a table of the arms' metrics are."""
    shown = describe_intervals(arm.runs for arm in arms)
    if not shown:
        return "Values of single runs, without intervals, which need 2 runs"
    texts = (format_estimate(*metric)[1] for arm in arms for metric in arm.metrics.items())
    same = f"; {IDENTICAL}: the same in all runs" if IDENTICAL in texts else ""
    return f"Interquartile means over runs, with {shown}{same}"


def format_estimates(metric: str, estimates: Sequence[Estimate]) -> list[tuple[str, str]]:
    """Return the estimates of a column and their intervals as text, with the same decimals."""
    return format_intervals(metric, [(e.iqm, e.low, e.high) for e in estimates])


def format_estimate(metric: str, estimate: Estimate) -> tuple[str, str]:
    """Return an estimate and its interval as text; the latter is empty for a single run."""
    [texts] = format_estimates(metric, [estimate])
    return texts


def format_intervals(
    metric: str, values: Sequence[tuple[float, float | None, float | None]]
) -> list[tuple[str, str]]:
    """Return values and their intervals as text, with the same decimals; None: no interval."""
    percent, digits = metric.endswith("_rate"), _count_digits(values)

    def show(value: float) -> str:
        return f"{value:.0%}" if percent else format_fixed(value, digits)

    def show_interval(low: float | None, high: float | None) -> str:
        if low is None or high is None:
            return ""
        if percent and math.isclose(low, high, abs_tol=1e-9):
            return IDENTICAL
        return f"[{show(low)}, {show(high)}]"

    return [(show(value), show_interval(low, high)) for value, low, high in values]


def _count_digits(values: Sequence[tuple[float | None, ...]]) -> int:
    """Return no decimals for numbers from 100 on, one for smaller ones, and more below 1."""
    if any(abs(value or 0.0) >= 100 for value, *_ in values):
        return 0
    return max(1, count_decimals([v for row in values for v in row if v is not None], 2))


def format_difference(result: Comparison) -> tuple[str, str]:
    """Return a difference and its interval, if any, as text with the same decimals."""
    values = (result.difference, result.low, result.high)
    digits = count_decimals(values, 2)
    difference, low, high = (format_fixed(value, digits, sign="+") for value in values)
    if math.isnan(result.low):
        return difference, ""
    level = "" if math.isclose(result.level, 0.95) else f" ({result.level:.0%} interval)"
    return difference, f"[{low}, {high}]{level}"


def format_metrics(name: str, values: Sequence[float], *, apart: bool = False) -> list[str]:
    """Return values of a metric with the same decimals; rates in percent.

    They show three digits of the largest value and, if `apart`, two of the smallest difference from
    the first value (one for rates), but at most six decimals.
    """
    percent = name.endswith("_rate")
    shown = [100 * value for value in values] if percent else list(values)
    digits = 0 if percent else max(1, count_decimals(shown, 3))
    gaps = [abs(value - shown[0]) for value in shown[1:] if value != shown[0]]
    if apart and gaps:
        digits = max(digits, count_decimals([min(gaps)], 1 if percent else 2))
    return [f"{format_fixed(value, digits)}{'%' * percent}" for value in shown]


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
    `p_adjusted` is the p-value after Holm's correction for all arms compared in this metric, and
    `fewest` the runs per arm from which on any difference could survive it. `never_solved` has
    those of the two arms of which no run solved the environment, for `steps_to_solved`; if both,
    that is the verdict, and there is no difference (NaN).
    """

    arm: str
    baseline: str
    metric: str
    result: Comparison
    paired: bool
    p_adjusted: float
    fewest: int
    never_solved: tuple[str, ...] = ()

    @property
    def is_tested(self) -> bool:
        """True if there are enough runs for an interval: with fewer, no test could decide."""
        return math.isfinite(self.result.low)

    @property
    def never_notes(self) -> list[str]:
        """Notes on arms that never solved the environment."""
        return [f"{NEVER_SOLVED} by {arm}" for arm in self.never_solved]

    @property
    def advice(self) -> str:
        """A sentence on the seeds needed; empty with a verdict, or without such a number."""
        needed = self.result.seeds_needed
        if needed is None:
            return ""
        if needed == self.fewest:  # what the test needs, however large the difference
            return f"At least {needed} seeds per arm are needed for any verdict."
        return f"About {needed} seeds per arm would be needed to detect this difference."


@dataclass(frozen=True)
class Summary:
    """All arms with a finished run, best first by a metric, and comparisons in all metrics."""

    study: str
    baseline: str
    arms: list[ArmSummary]
    comparisons: list[ArmComparison]
    by: str = "return"

    def compared_in(self, metric: str) -> dict[str, ArmComparison]:
        """Return the comparison of each arm with its baseline in one metric."""
        return {c.arm: c for c in self.comparisons if c.metric == metric}

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
        """Return one row per arm, with columns for each metric's `Estimate` and `Comparison`.

        Those of the comparison are the difference from the baseline, with its interval, p-values
        and verdict; null for the baseline.
        """
        compared = {(c.arm, c.metric): c for c in self.comparisons}
        rows = [
            {"arm": arm.arm, "runs": arm.runs}
            | {
                f"{name}_{key}": value
                for name, estimate in (arm.metrics | arm.learning).items()
                for key, value in (
                    vars(estimate) | _comparison_cells(compared.get((arm.arm, name)))
                ).items()
            }
            for arm in self.arms
        ]
        return pl.DataFrame(rows, infer_schema_length=None)


def _comparison_cells(comparison: ArmComparison | None) -> dict[str, object]:
    result = comparison and comparison.result
    return {
        "difference": result and _finite_or_none(result.difference),
        "difference_low": result and _finite_or_none(result.low),
        "difference_high": result and _finite_or_none(result.high),
        "p_value": result and result.p_value,
        "p_adjusted": comparison and comparison.p_adjusted,
        "verdict": result and result.verdict,
    }


def summarize(study: Study, environment: Environment, runs: pl.DataFrame, by: str) -> Summary:
    """Summarize the finished runs, the best arm by a metric first.

    The table has one row per run: those of `results.run_metrics` or `results.measure_runs`.

    Raises:
        UserError: arms cannot be ranked by this metric.
    """
    metrics = metric_names(environment)
    check_metric(by, metrics)
    learning = [name for name in (AUC, STEPS_TO_SOLVED) if name in runs.columns]
    samples = _samples_by_arm(runs)
    bounds = dict(metric_bounds(environment))
    if "return" in bounds:
        bounds[AUC] = bounds["return"]
    if STEPS_TO_SOLVED in learning:
        bounds[STEPS_TO_SOLVED] = solving_time_bounds(runs, study.training.total_timesteps)
    arms = [
        ArmSummary(
            arm,
            len(samples[arm]["seed"]),
            {name: _estimate(samples[arm][name], bounds.get(name)) for name in metrics},
            {name: _estimate(samples[arm][name], bounds.get(name)) for name in learning},
            int(samples[arm][SOLVED].sum()) if SOLVED in samples[arm] else None,
        )
        for arm in study.arms
        if arm in samples
    ]
    directions = {name: metric_direction(name, environment) for name in metrics}
    arms.sort(key=lambda arm: arm.metrics[by].iqm * -(directions[by] or 1))
    pairs = [(a.arm, study.baseline_of(a.arm)) for a in arms if a.arm != study.baseline]
    directions |= {name: {AUC: 1, STEPS_TO_SOLVED: -1}[name] for name in learning}
    comparisons = [
        comparison
        for name, direction in directions.items()
        for comparison in _compare_arms(samples, pairs, name, direction, bounds.get(name))
    ]
    order = [arm for arm, _ in pairs]
    comparisons.sort(key=lambda c: order.index(c.arm))
    return Summary(study.study, study.baseline, arms, comparisons, by)


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


def _estimate(values: np.ndarray, bounds: Bounds | None) -> Estimate:
    of_iqm, of_median, of_mean = (
        intervals.interval(values, statistic=name, bounds=bounds, rng=np.random.default_rng(_SEED))
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
    samples: Samples,
    pairs: Sequence[tuple[str, str]],
    metric: str,
    direction: int,
    bounds: Bounds | None,
) -> list[ArmComparison]:
    """Compare arms with their baselines in one metric; winners must survive Holm's correction."""
    pairs = [(arm, baseline) for arm, baseline in pairs if baseline in samples]
    comparisons = [_compare_pair(samples, pair, metric, len(pairs), bounds) for pair in pairs]
    adjusted = permutation.holm([c.result.p_value for c in comparisons])
    concluded = []
    for comparison, p in zip(comparisons, adjusted, strict=True):
        result = comparison.result
        if p > ALPHA and result.verdict in ("better", "worse"):
            needed = seeds_needed(
                *(samples[arm][metric] for arm in (comparison.arm, comparison.baseline)),
                paired=comparison.paired,
                alpha=ALPHA / len(pairs),
                bounds=bounds,
            )
            verdict = "underpowered" if needed else "no difference shown"
            result = replace(result, verdict=verdict, seeds_needed=needed)
        verdict = _VERDICTS[direction].get(result.verdict, result.verdict)
        concluded.append(
            replace(comparison, result=replace(result, verdict=verdict), p_adjusted=float(p))
        )
    return concluded


def _compare_pair(
    samples: Samples, arms: tuple[str, str], metric: str, count: int, bounds: Bounds | None
) -> ArmComparison:
    """Compare an arm with its baseline, one of so many pairs; p is not yet adjusted.

    Arms are paired if they have the same seeds, and enough of them: a rule that does not look at
    the outcomes.
    """
    strictest = ALPHA / count  # the level of Holm's first step
    arm, baseline = (samples[name] for name in arms)
    enough = len(arm["seed"]) >= permutation.min_pairs(strictest)
    paired = enough and np.array_equal(arm["seed"], baseline["seed"])
    values, rng = (arm[metric], baseline[metric]), np.random.default_rng(_SEED)
    result = compare(*values, paired=paired, comparisons=count, bounds=bounds, rng=rng)
    assert result is not None  # noqa: S101 (for the type checker: both have runs)
    never: tuple[str, ...] = ()
    if metric == STEPS_TO_SOLVED:
        never = tuple(name for name in arms if not samples[name][SOLVED].any())
    if len(never) == len(arms):
        nan = math.nan
        result = replace(
            result, difference=nan, low=nan, high=nan, verdict=NEVER_SOLVED, seeds_needed=None
        )
    fewest = permutation.min_runs(strictest, paired=False)
    return ArmComparison(*arms, metric, result, paired, result.p_value, fewest, never)


def _finite_or_none(value: object) -> object:
    return None if isinstance(value, float) and not math.isfinite(value) else value
