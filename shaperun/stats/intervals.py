"""Confidence intervals for the mean, median and interquartile mean, and for differences of IQMs.

A sample is a one-dimensional array, shape (n,), of finite numbers, one per independent run; m
samples of the same size are the rows of an array of shape (m, n). All functions raise ValueError
for other arrays, for a `level` outside (0, 1), and for `bounds` that are not finite and in order.
docs/calibration.md has the measured coverage.
"""

from dataclasses import dataclass, replace
from math import comb, sqrt

import numpy as np
from numpy.typing import ArrayLike, NDArray

from shaperun.stats.sample import Sample, as_sample, as_samples, iqms, significance_level

Bounds = tuple[float, float]
"""Smallest and largest value that a run can have."""

BOOTSTRAPS = 999
CENSORED_SHARE = 0.5  # of runs at a bound, from which on their spread is not trusted
MAX_MARGIN_CORRELATION = 0.7  # with which margins of paired arms are combined
SHOWN_TOGETHER = 0.9  # correlation of pairs from which on their differences are used instead
MIN_RUNS_FOR_MEAN = 20  # with fewer runs, no interval for the mean reaches its level


@dataclass(frozen=True)
class Interval:
    """Confidence interval for one statistic of a population, and the name of its method."""

    low: float
    high: float
    level: float
    method: str


@dataclass(frozen=True)
class Intervals:
    """Confidence intervals of m samples: `low` and `high` have shape (m,)."""

    low: Sample
    high: Sample
    level: float
    method: str


def interval(
    x: ArrayLike,
    *,
    statistic: str = "mean",
    level: float = 0.95,
    bounds: Bounds | None = None,
    rng: np.random.Generator,
) -> Interval | None:
    """Return an interval for a statistic of the population of the sample `x`, shape (n,).

    - `median`: order statistics, from the k-th smallest value to the k-th largest. Their coverage
      is 1 − 2 P(B < k), B binomial(n, ½), for any population; `level` of the result is this
      coverage, which for n < 6 may be below the requested level.
    - `iqm`: the union of IQM ± (1 + 1/n) · t(n − 1) · s / √n and the percentile bootstrap (Efron
      1979; 999 resamples drawn from `rng`). With few runs each alone covers too little, in
      different populations. docs/calibration.md shows that the factor is sufficient, except for
      populations of two separate clusters, which fewer than 20 runs may not both contain.
    - `mean`: the union of Student's t and the bootstrap-t (Efron & Tibshirani 1993, ch. 12), for
      n ≥ 20. Fewer runs say too little about the mean: if one run in five fails, a tenth of the
      samples of 10 contain no failure, and no formula can correct for that.

    Where the values have `bounds`, so has the interval. If at least half of the runs are at a
    bound, their spread says nothing about the others that they hide, and the far end is at least
    that of `_distribution_free_ends`.

    Returns:
        None without a valid interval: n < 2, n < 3 for `iqm`, n < 20 for `mean`, or an unbounded
        bootstrap-t interval because most runs are equal to the last digit.

    Raises:
        ValueError: the statistic is unknown.
    """
    values = as_sample(x)[None]
    result = intervals(values, statistic=statistic, level=level, bounds=bounds, rng=rng)
    if result is None or not np.isfinite([result.low, result.high]).all():
        return None
    return Interval(float(result.low[0]), float(result.high[0]), result.level, result.method)


def intervals(
    x: ArrayLike,
    *,
    statistic: str = "mean",
    level: float = 0.95,
    bounds: Bounds | None = None,
    rng: np.random.Generator,
) -> Intervals | None:
    """Return `interval` for each row of `x`, shape (m, n), with the same resamples for all rows.

    Unbounded intervals for the mean have infinite ends here instead of being None.

    Raises:
        ValueError: the statistic is unknown.
    """
    methods = {"mean": _mean_intervals, "median": _median_intervals, "iqm": _iqm_intervals}
    if statistic not in methods:
        raise ValueError(f"unknown statistic {statistic!r}; choose from {', '.join(methods)}")
    significance_level(level)
    _check_bounds(bounds)
    values = np.sort(as_samples(x), axis=1)
    result = methods[statistic](values, level, rng) if values.shape[1] > 1 else None
    if result is None or bounds is None or statistic == "median":  # whose ends are runs
        return result
    bounds = min(bounds[0], values.min()), max(bounds[1], values.max())  # up to rounding
    result = _widen_at_bounds(result, values, bounds, 0.25 if statistic == "iqm" else 0.0, rng)
    return replace(result, low=result.low.clip(*bounds), high=result.high.clip(*bounds))


def _check_bounds(bounds: Bounds | None) -> None:
    if bounds and not -np.inf < bounds[0] <= bounds[1] < np.inf:
        raise ValueError(f"bounds must be two finite numbers in order, not {bounds}")


def _widen_at_bounds(
    result: Intervals, values: Sample, bounds: Bounds, trim: float, rng: np.random.Generator
) -> Intervals:
    """Widen the intervals of samples that sit on a bound."""
    bottom, top = shares_at_bounds(values, bounds)
    rows = np.maximum(bottom, top) >= CENSORED_SHARE
    if not rows.any():
        return result
    one_sided = np.maximum(bottom, top)[rows] == 1
    ends = _distribution_free_ends(values[rows], bounds, trim, result.level, one_sided, rng)
    lowest, highest = np.full(len(rows), np.inf), np.full(len(rows), -np.inf)
    lowest[rows], highest[rows] = ends
    low = np.where(top >= CENSORED_SHARE, np.minimum(result.low, lowest), result.low)
    high = np.where(bottom >= CENSORED_SHARE, np.maximum(result.high, highest), result.high)
    return replace(result, low=low, high=high)


def shares_at_bounds(values: Sample, bounds: Bounds) -> tuple[Sample, Sample]:
    """Return the shares (m,) of the runs at the lower and at the upper bound, up to rounding."""
    slack = 1e-9 * (bounds[1] - bounds[0])
    return (values <= bounds[0] + slack).mean(axis=1), (values >= bounds[1] - slack).mean(axis=1)


def _distribution_free_ends(
    values: Sample,
    bounds: Bounds,
    trim: float,
    level: float,
    one_sided: NDArray[np.bool_],
    rng: np.random.Generator,
) -> tuple[Sample, Sample]:
    """Return ends, shape (m,), that hold for the trimmed mean of any population with the bounds.

    As Learned-Miller & Thomas 2019 do for the mean (after Anderson 1969; see also Phan et al.
    2021): the k-th smallest value is the quantile at an unknown share, which is distributed as
    the k-th smallest of n uniform numbers U. So the quantile function is at least the bound below
    U(1) and x(k) between U(k) and U(k + 1). `low` is the α/2 quantile of the trimmed means of
    such functions over 999 draws of U, and `high` mirrors it. Where all runs are at the same bound
    (`one_sided`), the interval reaches it and cannot miss there, so that the other end may take α.
    """
    m, n = values.shape
    drawn = np.sort(rng.random((BOOTSTRAPS, n)), axis=1)
    shares = np.pad(drawn, ((0, 0), (1, 1)), constant_values=(0, 1)).clip(trim, 1 - trim)
    weights = np.diff(shares, axis=1).T / (1 - 2 * trim)
    edges = [np.full((m, 1), bound) for bound in bounds]
    lowest = np.hstack([edges[0], values]) @ weights
    # Of 1 − U, so that a mirrored sample has the mirrored interval.
    highest = np.hstack([values, edges[1]]) @ weights[::-1]
    low, high = _central_range(lowest, level)[0], _central_range(highest, level)[1]
    low[one_sided] = _central_range(lowest[one_sided], 2 * level - 1)[0]
    high[one_sided] = _central_range(highest[one_sided], 2 * level - 1)[1]
    return low, high


def _mean_intervals(values: Sample, level: float, rng: np.random.Generator) -> Intervals | None:
    n = values.shape[1]
    if n < MIN_RUNS_FOR_MEAN:
        return None
    shifted = values - values[:, :1]  # exactly 0 if all runs are equal
    error = shifted.std(axis=1, ddof=1) / sqrt(n)
    means = values[:, 0] + shifted.mean(axis=1)
    low, high = _t_intervals(means, error, n - 1, level)
    t = _studentized_means(shifted - shifted.mean(axis=1, keepdims=True), rng)
    t_low, t_high = _central_range(t, level)
    low, high = np.minimum(low, means - t_high * error), np.maximum(high, means - t_low * error)
    return Intervals(low, high, level, "Student's t and bootstrap-t")


def _studentized_means(centered: Sample, rng: np.random.Generator) -> Sample:
    """Return t of the mean of each resample, shape (m, 999); infinite without variance."""
    n = centered.shape[1]
    weights = _resampling_weights(n, 0, rng).T
    means, squares = centered @ weights, centered**2 @ weights
    variances = squares - means**2
    variances[variances < 1e-12 * squares] = 0  # rounding residue
    with np.errstate(divide="ignore", invalid="ignore"):
        t = sqrt(n - 1) * means / np.sqrt(variances)
    return np.asarray(np.where(np.isnan(t), 0, t))


def _median_intervals(values: Sample, level: float, _rng: np.random.Generator) -> Intervals:
    n = values.shape[1]
    # P(B < k) for k = 1, 2, …: the probability that fewer than k of n values are below the median.
    below = np.cumsum([comb(n, j) for j in range(n // 2)]) / 2**n
    k = max(1, int((1 - 2 * below >= level - 1e-12).sum()))
    coverage = float(1 - 2 * below[k - 1])
    return Intervals(values[:, k - 1], values[:, n - k], coverage, "order statistics")


def _iqm_intervals(values: Sample, level: float, rng: np.random.Generator) -> Intervals | None:
    n = values.shape[1]
    if n < 3:
        return None
    error = (1 + 1 / n) * values.std(axis=1, ddof=1) / sqrt(n)
    low, high = _t_intervals(iqms(values), error, n - 1, level)
    boot_low, boot_high = _central_range(values @ _resampling_weights(n, n // 4, rng).T, level)
    method = "widened t and bootstrap"
    return Intervals(np.minimum(low, boot_low), np.maximum(high, boot_high), level, method)


def _resampling_weights(n: int, cut: int, rng: np.random.Generator) -> Sample:
    """Return weights (999, n) with which sums over n sorted values are resampled trimmed means."""
    trimmed = np.sort(rng.integers(0, n, size=(BOOTSTRAPS, n)), axis=1)[:, cut : n - cut]
    cells = trimmed + n * np.arange(BOOTSTRAPS)[:, None]
    counts = np.bincount(cells.ravel(), minlength=BOOTSTRAPS * n)
    return np.asarray(counts.reshape(BOOTSTRAPS, n) / trimmed.shape[1])


def _central_range(values: Sample, level: float) -> tuple[Sample, Sample]:
    """Return the ends, shape (m,), of the central `level` of the 999 values in each row."""
    k = max(1, int((1 - level) / 2 * (BOOTSTRAPS + 1) + 1e-9))
    ordered = np.partition(values, [k - 1, BOOTSTRAPS - k], axis=1)
    return ordered[:, k - 1], ordered[:, BOOTSTRAPS - k]


def difference_intervals(
    a: ArrayLike,
    b: ArrayLike,
    *,
    paired: bool,
    level: float = 0.95,
    bounds: Bounds | None = None,
    rng: np.random.Generator,
) -> Intervals | None:
    """Return intervals for iqm(A) − iqm(B) from each row of `a`, shape (m, n), and `b`, (m, k).

    The intervals of the two IQMs are combined, which allows for populations of different shapes
    (MOVER: Zou & Donner 2008). The lower end is √(down² + up²) below the difference, where `down`
    is the margin of A below its IQM and `up` that of B above; the upper end mirrors it. Pairs add
    the term −2 r · down · up (Zou 2007), which widens the interval for negatively correlated pairs
    and narrows it for positively correlated ones; r is limited by `trusted_correlations`. Pairs
    that it shows to be nearly equal but for a difference have the interval of `_pair_intervals`.
    Where the values have `bounds`, the difference is limited to their range.

    Returns:
        None if `a` or `b` has fewer than three runs per row.

    Raises:
        ValueError: `a` and `b` have different numbers of rows, or are paired and differ in shape.
    """
    _check_bounds(bounds)
    a, b = as_samples(a), as_samples(b)
    seed = int(rng.integers(2**32))  # shared, so that swapping a and b changes only the sign
    first, second = (
        _uncut_intervals(x, level, bounds, np.random.default_rng(seed)) for x in (a, b)
    )
    if first is None or second is None:
        return None
    iqm_a, iqm_b = iqms(a), iqms(b)
    r = trusted_correlations(row_correlations(a, b), a.shape[1]) if paired else np.zeros(len(a))
    if bounds:  # runs at a bound hide how the others correlate, too
        hidden = np.maximum.reduce([*shares_at_bounds(a, bounds), *shares_at_bounds(b, bounds)])
        r = np.where(hidden >= CENSORED_SHARE, np.minimum(r, 0), r)
    below = _combine_margins(iqm_a - first.low, second.high - iqm_b, r)
    above = _combine_margins(first.high - iqm_a, iqm_b - second.low, r)
    low, high = iqm_a - iqm_b - below, iqm_a - iqm_b + above
    together = r > MAX_MARGIN_CORRELATION
    if together.any():
        pairs = _pair_intervals(a[together], b[together], level, np.random.default_rng(seed))
        low[together], high[together] = pairs
    if bounds:
        widest = max(np.ptp(bounds), np.ptp(np.concatenate([a.ravel(), b.ravel()])))
        low, high = low.clip(-widest, widest), high.clip(-widest, widest)
    return Intervals(low, high, level, "combined intervals")


def _uncut_intervals(
    x: Sample, level: float, bounds: Bounds | None, rng: np.random.Generator
) -> Intervals | None:
    """Return intervals of IQMs that may exceed the bounds.

    Margins that are cut off there would be too small for a root of a sum of squares.
    """
    values = np.sort(x, axis=1)
    result = _iqm_intervals(values, level, rng)
    return _widen_at_bounds(result, values, bounds, 0.25, rng) if result and bounds else result


def _pair_intervals(
    a: Sample, b: Sample, level: float, rng: np.random.Generator
) -> tuple[Sample, Sample]:
    """Return ends, shape (m,), from the differences within pairs, in the manner of the IQM's.

    It is the union of iqm(a) − iqm(b) ± (1 + 1/n) · t(n − 1) · s / √n, with s of the differences,
    and the percentile bootstrap of pairs.
    """
    n = a.shape[1]
    error = (1 + 1 / n) * (a - b).std(axis=1, ddof=1) / sqrt(n)
    low, high = _t_intervals(iqms(a) - iqms(b), error, n - 1, level)
    drawn = rng.integers(0, n, size=(BOOTSTRAPS, n))
    resampled = [iqms(x[drawn]) - iqms(y[drawn]) for x, y in zip(a, b, strict=True)]
    boot_low, boot_high = _central_range(np.array(resampled), level)
    return np.minimum(low, boot_low), np.maximum(high, boot_high)


def _combine_margins(one: Sample, other: Sample, r: Sample) -> Sample:
    squared = one**2 + other**2 - 2 * r * one * other
    return np.asarray(np.sqrt(np.maximum(squared, 0)))


def row_correlations(a: Sample, b: Sample) -> Sample:
    """Compute Pearson's r, shape (m,), of the rows of `a` and `b`; 0 for rows without variance."""
    a, b = (x - x.mean(axis=1, keepdims=True) for x in (a, b))
    scale = np.sqrt((a**2).sum(axis=1) * (b**2).sum(axis=1))
    return np.asarray(np.divide((a * b).sum(axis=1), scale, out=np.zeros(len(a)), where=scale > 0))


def trusted_correlations(correlations: Sample, n: int) -> Sample:
    """Limit positive correlations, shape (m,), of n pairs to what n pairs can show.

    The limit is the lower end of Fisher's (1921) one-sided 95% interval,
    tanh(artanh r − 1.645/√(n − 3)), clipped to [0, 0.7]: the errors of correlated values need not
    be correlated, and above 0.7 the coverage in docs/calibration.md falls short. Where the lower
    end itself is above 0.9, as if the same seeds fail under both arms, r is trusted as it is.
    """
    if n <= 3:
        return np.minimum(correlations, 0)
    r = correlations.clip(0, 1 - 1e-9)
    limit = np.tanh(np.arctanh(r) - 1.645 / sqrt(n - 3))
    limit = np.where(limit > SHOWN_TOGETHER, r, limit.clip(0, MAX_MARGIN_CORRELATION))
    return np.where(correlations < 0, correlations, limit)


def _t_intervals(centers: Sample, errors: Sample, df: float, level: float) -> tuple[Sample, Sample]:
    from scipy.special import stdtrit  # scipy.stats takes much longer to import

    widths = float(stdtrit(df, (1 + level) / 2)) * errors
    return centers - widths, centers + widths
