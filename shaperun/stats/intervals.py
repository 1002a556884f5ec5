"""Arrays of independent results -> estimates, intervals and tests.

Every sample is a one-dimensional array, shape (n,), of finite numbers, one number an independent
run; many samples of one size are the rows of an array of shape (m, n). One that is not raises
ValueError, and so does a `level` outside (0, 1). docs/calibration.md shows what was measured.
"""

from dataclasses import dataclass
from math import comb, sqrt

import numpy as np
from numpy.typing import ArrayLike

from shaperun.stats.sample import Sample, as_sample, as_samples, iqms, significance_level

BOOTSTRAPS = 999
MIN_RUNS_FOR_MEAN = 20  # runs from which on an interval for the mean holds its level


@dataclass(frozen=True)
class Interval:
    """A confidence interval for one statistic of a sample."""

    low: float
    high: float
    level: float
    method: str


@dataclass(frozen=True)
class Intervals:
    """Confidence intervals of many samples: `low` and `high` have shape (m,), one a sample."""

    low: Sample
    high: Sample
    level: float
    method: str


def interval(
    x: ArrayLike,
    *,
    statistic: str = "mean",
    level: float = 0.95,
    rng: np.random.Generator,
) -> Interval | None:
    """An interval for a statistic of the population that `x`, shape (n,), was drawn from.

    - `median`: order statistics, from the k-th smallest value to the k-th largest. They cover with
      1 − 2 P(B < k), B binomial(n, ½), whatever the population; `level` of the result is that true
      level, which for n < 6 is all there is and may be less than was asked for.
    - `iqm`: the union of IQM ± (1 + 1/n) · t(n − 1) · s / √n and the percentile bootstrap (Efron
      1979; 999 resamples drawn from `rng`). Each alone covers too little with few runs, in
      different populations; the factor is what docs/calibration.md shows to be enough, but for
      populations of two places with nothing in between, which fewer than 20 runs may not see both.
    - `mean`: the union of Student's t and the bootstrap-t (Efron & Tibshirani 1993, ch. 12), from
      n = 20 on. Fewer runs cannot know the mean: where one in five fails, a tenth of the samples
      of 10 hold no failure, and no formula can make up for what is not in the sample.

    Returns:
        None where there is no interval worth its level: n < 2, n < 3 for `iqm`, n < 20 for `mean`
        and where the bootstrap-t has no end, because most of the runs agree to the last digit.

    Raises:
        ValueError: another statistic.
    """
    found = intervals(as_sample(x)[None], statistic=statistic, level=level, rng=rng)
    if found is None or not np.isfinite([found.low, found.high]).all():
        return None
    return Interval(float(found.low[0]), float(found.high[0]), found.level, found.method)


def intervals(
    x: ArrayLike,
    *,
    statistic: str = "mean",
    level: float = 0.95,
    rng: np.random.Generator,
) -> Intervals | None:
    """What `interval` finds in every row of `x`, shape (m, n), with one drawing from `rng` for all.

    An interval for the mean without an end has an infinite one here.
    """
    methods = {"mean": _mean_intervals, "median": _median_intervals, "iqm": _iqm_intervals}
    if statistic not in methods:
        known = ", ".join(methods)
        raise ValueError(f"there is no interval for {statistic!r}, only for {known}")
    significance_level(level)
    values = np.sort(as_samples(x), axis=1)
    return methods[statistic](values, level, rng) if values.shape[1] > 1 else None


def _mean_intervals(values: Sample, level: float, rng: np.random.Generator) -> Intervals | None:
    n = values.shape[1]
    if n < MIN_RUNS_FOR_MEAN:
        return None
    shifted = values - values[:, :1]  # where all runs agree, exactly 0
    error = shifted.std(axis=1, ddof=1) / sqrt(n)
    means = values[:, 0] + shifted.mean(axis=1)
    low, high = _t_intervals(means, error, n - 1, level)
    least, most = _ends(_studentised(shifted - shifted.mean(axis=1, keepdims=True), rng), level)
    low, high = np.minimum(low, means - most * error), np.maximum(high, means - least * error)
    return Intervals(low, high, level, "Student's t and bootstrap-t")


def _studentised(centred: Sample, rng: np.random.Generator) -> Sample:
    """T of every resample's mean, shape (m, 999); infinite where a resample has no spread."""
    n = centred.shape[1]
    weights = _resamples(n, 0, rng).T
    means, squares = centred @ weights, centred**2 @ weights
    variances = squares - means**2
    variances[variances < 1e-12 * squares] = 0  # what rounding leaves
    with np.errstate(divide="ignore", invalid="ignore"):
        t = sqrt(n - 1) * means / np.sqrt(variances)
    return np.asarray(np.where(np.isnan(t), 0, t))


def _median_intervals(values: Sample, level: float, _rng: np.random.Generator) -> Intervals:
    n = values.shape[1]
    # P(B < k) for k = 1, 2, …: how often fewer than k of n values lie below the median.
    below = np.cumsum([comb(n, j) for j in range(n // 2)]) / 2**n
    k = max(1, int((1 - 2 * below >= level - 1e-12).sum()))
    held = float(1 - 2 * below[k - 1])
    return Intervals(values[:, k - 1], values[:, n - k], held, "order statistics")


def _iqm_intervals(values: Sample, level: float, rng: np.random.Generator) -> Intervals | None:
    n = values.shape[1]
    if n < 3:
        return None
    error = (1 + 1 / n) * values.std(axis=1, ddof=1) / sqrt(n)
    low, high = _t_intervals(iqms(values), error, n - 1, level)
    least, most = _ends(values @ _resamples(n, n // 4, rng).T, level)
    method = "widened t and bootstrap"
    return Intervals(np.minimum(low, least), np.maximum(high, most), level, method)


def _resamples(n: int, cut: int, rng: np.random.Generator) -> Sample:
    """Weights (999, n) that make of n sorted values the trimmed means of their resamples."""
    kept = np.sort(rng.integers(0, n, size=(BOOTSTRAPS, n)), axis=1)[:, cut : n - cut]
    cells = kept + n * np.arange(BOOTSTRAPS)[:, None]
    counts = np.bincount(cells.ravel(), minlength=BOOTSTRAPS * n)
    return np.asarray(counts.reshape(BOOTSTRAPS, n) / kept.shape[1])


def _ends(values: Sample, level: float) -> tuple[Sample, Sample]:
    """The ends, shape (m,), of what holds the middle of the 999 values in every row."""
    k = max(1, int((1 - level) / 2 * (BOOTSTRAPS + 1) + 1e-9))
    ordered = np.partition(values, [k - 1, BOOTSTRAPS - k], axis=1)
    return ordered[:, k - 1], ordered[:, BOOTSTRAPS - k]


def differences(
    a: ArrayLike,
    b: ArrayLike,
    *,
    paired: bool,
    level: float = 0.95,
    rng: np.random.Generator,
) -> Intervals | None:
    """Intervals for iqm(A) − iqm(B), from every row of `a`, shape (m, n), and `b`, shape (m, k).

    The intervals of the two IQMs combined, which allows for populations of different shapes (MOVER:
    Zou & Donner 2008): the lower end lies √(down² + up²) below the difference, `down` what the
    interval of A reaches below its IQM and `up` what that of B reaches above. Pairs add the term
    −2 r · down · up (Zou 2007): ones that go against each other make it wider, ones that go
    together narrower, by no more correlation than so few pairs show (`trusted_correlations`).

    Returns:
        None for fewer than three runs on either side.
    """
    a, b = as_samples(a), as_samples(b)
    seed = int(rng.integers(2**32))  # one for both, so that swapping them changes the sign only
    first, second = (
        intervals(x, statistic="iqm", level=level, rng=np.random.default_rng(seed)) for x in (a, b)
    )
    if first is None or second is None:
        return None
    of_a, of_b = iqms(a), iqms(b)
    together = (
        trusted_correlations(row_correlations(a, b), a.shape[1]) if paired else np.zeros(len(a))
    )
    below = _combined(of_a - first.low, second.high - of_b, together)
    above = _combined(first.high - of_a, of_b - second.low, together)
    return Intervals(of_a - of_b - below, of_a - of_b + above, level, "combined intervals")


def _combined(one: Sample, other: Sample, correlations: Sample) -> Sample:
    squared = one**2 + other**2 - 2 * correlations * one * other
    return np.asarray(np.sqrt(np.maximum(squared, 0)))


def row_correlations(a: Sample, b: Sample) -> Sample:
    """Pearson's r of every row of `a` with that of `b`; 0 where one of them has no spread."""
    a, b = (x - x.mean(axis=1, keepdims=True) for x in (a, b))
    scale = np.sqrt((a**2).sum(axis=1) * (b**2).sum(axis=1))
    return np.asarray(np.divide((a * b).sum(axis=1), scale, out=np.zeros(len(a)), where=scale > 0))


def trusted_correlations(correlations: Sample, n: int) -> Sample:
    """Correlations of n pairs: negative ones as they are, of positive ones the least likely.

    That is the lower end of Fisher's (1921) one-sided 95% interval,
    tanh(artanh r − 1.645/√(n − 3)), but 0 at least and 0.7 at most: values that go together need
    not have errors that do, and with more docs/calibration.md has cells that fall short.
    """
    if n <= 3:
        return np.minimum(correlations, 0)
    r = correlations.clip(0, 1 - 1e-9)
    least = np.tanh(np.arctanh(r) - 1.645 / sqrt(n - 3))
    return np.where(correlations < 0, correlations, least.clip(0, 0.7))


def _t_intervals(centres: Sample, errors: Sample, df: float, level: float) -> tuple[Sample, Sample]:
    from scipy.special import stdtrit  # scipy.stats takes much longer to import

    widths = float(stdtrit(df, (1 + level) / 2)) * errors
    return centres - widths, centres + widths
