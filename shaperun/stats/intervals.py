"""Arrays of independent results -> estimates, intervals and tests.

Every sample is a one-dimensional array, shape (n,), of finite numbers, one number an independent
run; many samples of one size are the rows of an array of shape (m, n). One that is not raises
ValueError, and so does a `level` outside (0, 1). docs/calibration.md shows what was measured.
"""

from dataclasses import dataclass
from functools import cache
from itertools import combinations
from math import ceil, comb, nan, sqrt

import numpy as np
from numpy.typing import ArrayLike, NDArray

Sample = NDArray[np.float64]

EXACT = 20_000  # up to so many arrangements are enumerated
RESAMPLES = 9_999  # so many are drawn where there are more
BOOTSTRAPS = 999
KNOWS_THE_MEAN = 20  # runs from which on an interval for the mean holds its level
MOST_SEEDS = 100  # a side; nobody trains more to settle a comparison
POWER = 0.8
EFFICIENCY = 0.84  # of the IQM: var(mean) / var(IQM) in a normal population
TIE_BREAK = 1e-3


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


@dataclass(frozen=True)
class Comparison:
    """A sample `a` against a baseline `b`.

    Attributes:
        difference: iqm(a) − iqm(b).
        low: lower end of the interval for the difference; NaN, like `high`, for fewer than three
            runs on either side.
        high: upper end.
        level: confidence of the interval.
        p_value: two-sided p of the permutation test.
        improvement: P(A > B) + ½ P(A = B), over all pairs (paired: over the given ones).
        verdict: "better", "worse", "no difference shown" or "underpowered".
        seeds_needed: runs a side that would probably settle it; None unless underpowered.
    """

    difference: float
    low: float
    high: float
    level: float
    p_value: float
    improvement: float
    verdict: str
    seeds_needed: int | None


def iqm(x: ArrayLike) -> float:
    """Interquartile mean: the mean without the lowest and the highest quarter.

    As in Agarwal et al. 2021 (rliable), this is `scipy.stats.trim_mean(x, 0.25)`: int(n / 4)
    values go at each end. So for n < 4 it is the plain mean, and for n = 4 to 7 the mean without
    the smallest and the largest value.

    Raises:
        ValueError: the sample is empty.
    """
    values = _sample(x)
    if not len(values):
        raise ValueError("an empty sample has no interquartile mean")
    return float(_iqms(values[None])[0])


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
    found = intervals(_sample(x)[None], statistic=statistic, level=level, rng=rng)
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
    _alpha(level)
    values = np.sort(_samples(x), axis=1)
    return methods[statistic](values, level, rng) if values.shape[1] > 1 else None


def _mean_intervals(values: Sample, level: float, rng: np.random.Generator) -> Intervals | None:
    n = values.shape[1]
    if n < KNOWS_THE_MEAN:
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
    low, high = _t_intervals(_iqms(values), error, n - 1, level)
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
    together narrower, by no more correlation than so few pairs show (`_trusted`).

    Returns:
        None for fewer than three runs on either side.
    """
    a, b = _samples(a), _samples(b)
    seed = int(rng.integers(2**32))  # one for both, so that swapping them changes the sign only
    first, second = (
        intervals(x, statistic="iqm", level=level, rng=np.random.default_rng(seed)) for x in (a, b)
    )
    if first is None or second is None:
        return None
    of_a, of_b = _iqms(a), _iqms(b)
    together = _trusted(_correlations(a, b), a.shape[1]) if paired else np.zeros(len(a))
    below = _combined(of_a - first.low, second.high - of_b, together)
    above = _combined(first.high - of_a, of_b - second.low, together)
    return Intervals(of_a - of_b - below, of_a - of_b + above, level, "combined intervals")


def _combined(one: Sample, other: Sample, correlations: Sample) -> Sample:
    squared = one**2 + other**2 - 2 * correlations * one * other
    return np.asarray(np.sqrt(np.maximum(squared, 0)))


def _correlations(a: Sample, b: Sample) -> Sample:
    """Pearson's r of every row of `a` with that of `b`; 0 where one of them has no spread."""
    a, b = (x - x.mean(axis=1, keepdims=True) for x in (a, b))
    scale = np.sqrt((a**2).sum(axis=1) * (b**2).sum(axis=1))
    return np.asarray(np.divide((a * b).sum(axis=1), scale, out=np.zeros(len(a)), where=scale > 0))


def _trusted(correlations: Sample, n: int) -> Sample:
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


def compare(
    a: ArrayLike,
    b: ArrayLike,
    *,
    paired: bool,
    level: float = 0.95,
    rng: np.random.Generator,
) -> Comparison | None:
    """Compare `a`, shape (n,), with the baseline `b`, shape (m,); paired needs n = m.

    The test is that of `p_values`, the interval that of `differences`. "better" and "worse" need
    both: p at most 1 − level, and an interval without 0. The test alone asks whether the arms are
    one population, and may answer no where only their spreads differ. Where there is no winner,
    the verdict is "underpowered" if `seeds_needed` knows a number of seeds, else "no difference
    shown".

    Returns:
        None when `a` or `b` is empty.

    Raises:
        ValueError: paired samples of different lengths.
    """
    alpha = _alpha(level)
    a, b = _sample(a), _sample(b)
    if paired and len(a) != len(b):
        raise ValueError(f"paired samples have one length, not {len(a)} and {len(b)}")
    if not len(a) or not len(b):
        return None
    found = differences(a[None], b[None], paired=paired, level=level, rng=rng)
    low, high = (float(found.low[0]), float(found.high[0])) if found else (nan, nan)
    p = float(p_values(a[None], b[None], paired=paired, rng=rng)[0])
    winner = _winner(p <= alpha, low, high)
    needed = None if winner else seeds_needed(a, b, paired=paired, alpha=alpha)
    signs = np.sign(a - b) if paired else np.sign(a[:, None] - b[None, :])
    return Comparison(
        difference=iqm(a) - iqm(b),
        low=low,
        high=high,
        level=level,
        p_value=p,
        improvement=float(0.5 + 0.5 * signs.mean()),
        verdict=winner or ("underpowered" if needed else "no difference shown"),
        seeds_needed=needed,
    )


def _winner(significant: bool, low: float, high: float) -> str | None:
    if significant and low > 0:
        return "better"
    if significant and high < 0:
        return "worse"
    return None


def seeds_needed(a: ArrayLike, b: ArrayLike, *, paired: bool, alpha: float) -> int | None:
    """Runs a side with which `compare` would find so large a difference in about 80% of cases.

    (z(1 − α/2) + z(0.8))² · (s_a² + s_b²) / (0.84 d²) + z(1 − α/2)² / 2, with d = iqm(a) − iqm(b):
    the normal approximation with the small-sample term of Guenther 1981 for one mean, as either
    arm's interval has its own n − 1 degrees of freedom; 0.84 is the efficiency of the IQM. Paired
    samples have less of their covariance, as far as `differences` trusts it. It is at least the
    number that the test needs for any outcome to reach `alpha`, and more than there are.

    Returns:
        None where there is no difference, or one so small that it takes more than 100 runs a side;
        but what the test needs at least, where there are fewer runs than that.
    """
    from scipy.special import ndtri

    a, b = _sample(a), _sample(b)
    n, fewest = min(len(a), len(b)), fewest_runs(alpha, paired)
    if n < 2:
        return fewest
    difference = abs(iqm(a) - iqm(b))
    if difference <= _slack(np.concatenate([a, b])):
        return None
    spread_a, spread_b = float(a.std(ddof=1)), float(b.std(ddof=1))
    r = float(_trusted(_correlations(a[None], b[None]), n)[0]) if paired else 0.0
    variance = max(0.0, spread_a**2 + spread_b**2 - 2 * r * spread_a * spread_b)
    z = float(ndtri(1 - alpha / 2))
    effect = sqrt(EFFICIENCY / variance) * difference if variance else np.inf
    needed = ((z + float(ndtri(POWER))) / effect) ** 2 + z**2 / 2
    number = max(ceil(min(needed, MOST_SEEDS + 1)), fewest, n + 1)
    if number <= MOST_SEEDS:
        return number
    return fewest if _smallest_p(len(a), len(b), paired) > alpha else None


def holm(p_values: ArrayLike) -> Sample:
    """Adjusted p-values, shape (k,), in the order given; they control the family-wise error.

    Holm 1979, "A simple sequentially rejective multiple test procedure"; needs no independence.

    Raises:
        ValueError: a p-value outside [0, 1].
    """
    p = _sample(p_values)
    if ((p < 0) | (p > 1)).any():
        raise ValueError("a p-value lies between 0 and 1")
    order = np.argsort(p)
    adjusted = np.empty_like(p)
    adjusted[order] = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)).clip(max=1)
    return adjusted


def p_values(
    a: ArrayLike,
    b: ArrayLike,
    *,
    paired: bool,
    rng: np.random.Generator,
    resamples: int = RESAMPLES,
) -> Sample:
    """Permutation tests of every row of `a`, shape (m, n), against that of `b`, shape (m, k).

    They assume no distribution, and are exact at any n and with ties. Unpaired they ask whether all
    n + k runs could come from one population; paired, whether the runs of each pair could as well
    have been the other way round. The statistic is iqm(a) − iqm(b); because trimming makes ties of
    many arrangements, so that 4 against 4 could not reach 5%, a thousandth of the difference of
    means is added. Two-sided p is twice the smaller tail, so that "better" and "worse" are each
    wrong at most half as often as the test is. Of more than 20,000 arrangements `resamples` are
    drawn from `rng`; p is then never below 2 / (resamples + 1), and still valid (Phipson & Smyth
    2010, "Permutation p-values should never be zero").

    Returns:
        The p-values, shape (m,).
    """
    a, b = _samples(a), _samples(b)
    if paired:
        return np.array([_swap_p(x, y, rng, resamples) for x, y in zip(a, b, strict=True)])
    return _split_p(a, b, rng, resamples)


def _split_p(a: Sample, b: Sample, rng: np.random.Generator, resamples: int) -> Sample:
    """Over the ways to split the pooled values.

    The smaller side is split off, and the values are sorted, so that swapping a and b changes
    nothing; and of sorted values the statistic is a weighted sum, with the same weights for all m.
    """
    small, large = (a, b) if a.shape[1] <= b.shape[1] else (b, a)
    pooled = np.sort(np.hstack([a, b]), axis=1)
    observed = _statistics(small) - _statistics(large)
    if small.shape == large.shape:
        observed = np.abs(observed)
    splits, exact = _splits(small.shape[1], large.shape[1], rng, resamples)
    weights = _weights(splits) - _weights(~splits)
    found = (pooled - pooled.mean(axis=1, keepdims=True)) @ weights.T
    return _two_sided(found, observed, _slack(pooled), exact)


def _splits(
    n: int, m: int, rng: np.random.Generator, resamples: int
) -> tuple[NDArray[np.bool_], bool]:
    """Which n of n + m values make the first side: in every way, or in many; and whether in all."""
    if comb(n + m, n) > EXACT:
        rows = np.tile(np.arange(n + m) < n, (resamples, 1))
        return rng.permuted(rows, axis=1), False
    places = np.array(list(combinations(range(n + m), n)))
    splits = np.zeros((len(places), n + m), dtype=bool)
    np.put_along_axis(splits, places, values=True, axis=1)
    return splits, True


def _weights(members: NDArray[np.bool_]) -> Sample:
    """Weights (s, n) that make of n sorted values the statistic of the members, equally many a row.

    What `_statistics` is of the members themselves.
    """
    size = int(members[0].sum())
    cut, rank = size // 4, members.cumsum(axis=1)
    kept = members & (rank > cut) & (rank <= size - cut)
    return np.asarray(kept / (size - 2 * cut) + TIE_BREAK * members / size)


def _statistics(values: Sample) -> Sample:
    return np.asarray(_iqms(values) + TIE_BREAK * values.mean(axis=1))


def _swap_p(a: Sample, b: Sample, rng: np.random.Generator, resamples: int) -> float:
    """Over the ways to swap a and b within pairs, both of shape (n,)."""
    n = len(a)
    observed = _statistics(a[None]) - _statistics(b[None])
    if observed[0] < 0:  # so that swapping a and b changes nothing
        a, b, observed = b, a, -observed
    exact = 2**n <= EXACT
    # Of two ways that mirror each other one is enough: here those that leave the last pair alone.
    ways = np.arange(2 ** (n - 1))[:, None] >> np.arange(n) & 1 if exact else None
    seed = int(rng.integers(2**32))
    swap = _coins(resamples, n, seed) if ways is None else ways.astype(bool)
    found = _statistics(np.where(swap, b, a)) - _statistics(np.where(swap, a, b))
    if exact:
        found = np.concatenate([found, -found])
    slack = _slack(np.concatenate([a, b])[None])
    return float(_two_sided(found[None], observed, slack, exact)[0])


@cache
def _coins(throws: int, n: int, seed: int) -> NDArray[np.bool_]:
    """Kept, because a study asks for the same ones again for every arm and metric."""
    return np.random.default_rng(seed).random((throws, n)) < 0.5


def _slack(values: Sample) -> Sample:
    """What rounding can do to a sum, shape (...,) of values (..., n); closer sums are ties."""
    return np.asarray(1e-14 * np.abs(values).sum(axis=-1))


def _two_sided(found: Sample, observed: Sample, slack: Sample, exact: bool) -> Sample:
    """Twice the smaller tail; where arrangements were drawn, the observed one counts among them."""
    above = (found >= (observed - slack)[:, None]).sum(axis=1)
    below = (found <= (observed + slack)[:, None]).sum(axis=1)
    extra = 0 if exact else 1
    p = 2 * (np.minimum(above, below) + extra) / (found.shape[1] + extra)
    return np.asarray(np.minimum(1, p))


def _iqms(values: Sample) -> Sample:
    n = values.shape[1]
    return np.asarray(np.sort(values, axis=1)[:, n // 4 : n - n // 4].mean(axis=1))


def _sample(x: ArrayLike) -> Sample:
    return _finite(x, 1)


def _samples(x: ArrayLike) -> Sample:
    return _finite(x, 2)


def _finite(x: ArrayLike, dimensions: int) -> Sample:
    values = np.asarray(x, dtype=np.float64)
    if values.ndim != dimensions:
        raise ValueError(f"{dimensions} dimensions are needed, not {values.ndim}")
    if not np.isfinite(values).all():
        raise ValueError("a sample holds finite numbers only")
    return values


def _alpha(level: float) -> float:
    if not 0 < level < 1:
        raise ValueError(f"a level lies between 0 and 1, unlike {level}")
    return round(1 - level, 12)  # 1 − 0.9 is a little less than 0.1, the smallest p of 3 against 3


def _t_intervals(centres: Sample, errors: Sample, df: float, level: float) -> tuple[Sample, Sample]:
    from scipy.special import stdtrit  # scipy.stats takes much longer to import

    widths = float(stdtrit(df, (1 + level) / 2)) * errors
    return centres - widths, centres + widths


def _smallest_p(n: int, m: int, paired: bool) -> float:
    """The p of the most extreme arrangement of n against m."""
    return min(1.0, 2 / (2**n if paired else comb(n + m, n)))


def fewest_runs(alpha: float, paired: bool) -> int:
    """How many runs a side the permutation test needs before any outcome can reach alpha."""
    n = 2
    while _smallest_p(n, n, paired) > alpha:
        n += 1
    return n
