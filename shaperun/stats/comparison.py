"""Comparison of the runs of an arm with those of a baseline."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, nan, sqrt

import numpy as np
from numpy.typing import ArrayLike

from shaperun.stats.intervals import (
    CENSORED_SHARE,
    Bounds,
    difference_intervals,
    row_correlations,
    shares_at_bounds,
    trusted_correlations,
)
from shaperun.stats.permutation import RESAMPLES, min_runs, p_values, smallest_p
from shaperun.stats.sample import Sample, as_sample, iqm, rounding_error, significance_level

MAX_SEEDS = 100  # per arm; larger numbers are not worth recommending
POWER = 0.8
EFFICIENCY = 0.84  # of the IQM: var(mean) / var(IQM) in a normal population


@dataclass(frozen=True)
class Comparison:
    """Result of comparing a sample `a` with a baseline `b`.

    Attributes:
        difference: iqm(a) − iqm(b).
        low: lower end of the interval for the difference; NaN if `a` or `b` has fewer than three
            runs.
        high: upper end; NaN as `low`.
        level: confidence level of the interval.
        p_value: two-sided p of the permutation test.
        improvement: P(A > B) + ½ P(A = B), over all pairs (paired: over the given pairs).
        verdict: "better", "worse", "no difference shown" or "underpowered".
        seeds_needed: runs per arm that would probably detect the difference, or that the test needs
            for any verdict; None unless underpowered.
    """

    difference: float
    low: float
    high: float
    level: float
    p_value: float
    improvement: float
    verdict: str
    seeds_needed: int | None


def compare(
    a: ArrayLike,
    b: ArrayLike,
    *,
    paired: bool,
    level: float = 0.95,
    comparisons: int = 1,
    bounds: Bounds | None = None,
    rng: np.random.Generator,
) -> Comparison | None:
    """Compare `a`, shape (n,), with the baseline `b`, shape (m,); paired needs n = m.

    It is one of so many `comparisons` whose p-values will be corrected by `holm`: `seeds_needed`
    is for the correction's first and strictest step, at a level of α / comparisons. All values are
    within `bounds`, if they have any.

    The test is that of `p_values`, the interval that of `difference_intervals`. "better" and
    "worse" need both a p of at most 1 − level and an interval without 0: the null hypothesis of the
    test is a single population, and a difference in spread alone may reject it. Otherwise the
    verdict is "underpowered" if `seeds_needed` returns a number, and else "no difference shown".

    Returns:
        None if `a` or `b` is empty.

    Raises:
        ValueError: paired samples have different lengths, `a` or `b` is not one-dimensional or not
            finite, `level` is not in (0, 1), or `bounds` are not finite and in order.
    """
    alpha = significance_level(level)
    a, b = as_sample(a), as_sample(b)
    if paired and len(a) != len(b):
        raise ValueError(f"paired samples must have the same length, not {len(a)} and {len(b)}")
    if not len(a) or not len(b):
        return None
    ends = difference_intervals(
        a[None], b[None], paired=paired, level=level, bounds=bounds, rng=rng
    )
    low, high = (float(ends.low[0]), float(ends.high[0])) if ends else (nan, nan)
    strictest = alpha / comparisons
    resamples = max(RESAMPLES, ceil(10 / strictest))  # with fewer, p might not become that small
    p = float(p_values(a[None], b[None], paired=paired, rng=rng, resamples=resamples)[0])
    verdict = None
    if p <= alpha:
        verdict = "better" if low > 0 else "worse" if high < 0 else None
    needed = None if verdict else seeds_needed(a, b, paired=paired, alpha=strictest, bounds=bounds)
    signs = np.sign(a - b) if paired else np.sign(a[:, None] - b[None, :])
    return Comparison(
        difference=iqm(a) - iqm(b),
        low=low,
        high=high,
        level=level,
        p_value=p,
        improvement=float(0.5 + 0.5 * signs.mean()),
        verdict=verdict or ("underpowered" if needed else "no difference shown"),
        seeds_needed=needed,
    )


def seeds_needed(
    a: ArrayLike, b: ArrayLike, *, paired: bool, alpha: float, bounds: Bounds | None = None
) -> int | None:
    """Return the runs per arm with which `compare` has 80% power to detect the observed difference.

    It is `runs_to_detect` for the difference iqm(a) − iqm(b) and the variance s_a² + s_b². For
    paired samples, twice their covariance is subtracted, with the correlation that
    `difference_intervals` trusts. The result is larger than the present number of runs, and at
    least the number with which the test can reach `alpha` at all. Where runs at a bound widen the
    interval, it is raised to the number with which such runs have one that excludes 0.

    Returns:
        None for no difference, or one that takes more than 100 runs per arm; but if there are too
        few runs for the test to reach `alpha`, the number with which it can.

    Raises:
        ValueError: `a` or `b` is not one-dimensional or not finite.
    """
    a, b = as_sample(a), as_sample(b)
    n, fewest = min(len(a), len(b)), min_runs(alpha, paired)
    if n < 2:
        return fewest
    for_any_verdict = fewest if smallest_p(len(a), len(b), paired) > alpha else None
    difference = abs(iqm(a) - iqm(b))
    if difference <= rounding_error(np.concatenate([a, b])):
        return for_any_verdict
    spread_a, spread_b = float(a.std(ddof=1)), float(b.std(ddof=1))
    r = float(trusted_correlations(row_correlations(a[None], b[None]), n)[0]) if paired else 0.0
    variance = max(0.0, spread_a**2 + spread_b**2 - 2 * r * spread_a * spread_b)
    needed = runs_to_detect(difference, variance, alpha)
    number = max(ceil(min(needed, MAX_SEEDS + 1)), fewest, n + 1)
    if bounds and any(_hides_spread(x, bounds) for x in (a, b)):
        while number <= MAX_SEEDS and not _excludes_zero(a, b, number, bounds):
            number += 1 + number // 20
    if number <= MAX_SEEDS:
        return number
    return for_any_verdict


def runs_to_detect(difference: float, variance: float, alpha: float) -> float:
    """Return the runs per arm with which a difference of IQMs is detected with 80% power.

    (z(1 − α/2) + z(0.8))² · variance / (0.84 difference²) + z(1 − α/2)² / 2, with the variance of
    the difference between two runs, one per arm: the normal approximation with the small-sample
    term of Guenther 1981 for one mean, as the interval of each arm has n − 1 degrees of freedom;
    0.84 is the efficiency of the IQM.
    """
    from scipy.special import ndtri

    z = float(ndtri(1 - alpha / 2))
    effect = sqrt(EFFICIENCY / variance) * difference if variance else np.inf
    return ((z + float(ndtri(POWER))) / effect) ** 2 + z**2 / 2


def _hides_spread(x: Sample, bounds: Bounds) -> bool:
    return bool(np.max(shares_at_bounds(x[None], bounds)) >= CENSORED_SHARE)


def _excludes_zero(a: Sample, b: Sample, runs: int, bounds: Bounds) -> bool:
    """Return whether the interval excludes 0 for so many runs that are distributed like these."""
    shares = (np.arange(runs) + 0.5) / runs
    more = (np.quantile(x, shares, method="inverted_cdf")[None] for x in (a, b))
    ends = difference_intervals(*more, paired=False, bounds=bounds, rng=np.random.default_rng(0))
    return ends is not None and bool(ends.low[0] > 0 or ends.high[0] < 0)
