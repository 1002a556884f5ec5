"""Arrays of independent results -> estimates, intervals and tests.

Every sample is a one-dimensional array, shape (n,), of finite numbers, one number an independent
run. A sample that is not raises ValueError, and so does a `level` outside (0, 1).
"""

from dataclasses import dataclass
from itertools import combinations, product
from math import comb, nan, sqrt

import numpy as np
from numpy.typing import ArrayLike, NDArray

Sample = NDArray[np.float64]

EXACT = 20_000  # up to so many arrangements are enumerated
RESAMPLES = 9_999  # so many are drawn where there are more
BOOTSTRAPS = 999


@dataclass(frozen=True)
class Interval:
    """A confidence interval for one statistic of a sample."""

    low: float
    high: float
    level: float
    method: str


@dataclass(frozen=True)
class Comparison:
    """A sample `a` against a baseline `b`.

    Attributes:
        difference: mean(a) − mean(b).
        low: lower end of the interval for the difference; NaN, like `high`, for a single run.
        high: upper end.
        level: confidence of the interval: the one asked for, or the highest there is with so few
            runs.
        p_value: two-sided p of the permutation test.
        improvement: P(A > B) + ½ P(A = B), over all pairs (paired: over the given ones).
        verdict: "better", "worse", "no difference shown" or "underpowered".
        seeds_needed: runs a side with which the test could reach 1 − level; None unless
            underpowered.
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
    values = np.sort(_sample(x))
    if not len(values):
        raise ValueError("an empty sample has no interquartile mean")
    cut = len(values) // 4
    return float(values[cut : len(values) - cut].mean())


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
      different populations; the factor is what docs/calibration.md shows to be enough.
    - `mean`: Student's t (1908), x̄ ± t(n − 1) · s / √n. Exact for normal populations only. Where
      a few runs fail outright it is too narrow (77-90% for a nominal 95% with 5 to 20 runs), and
      where all runs agree it has no width at all.

    Returns:
        None where there is no interval worth its level: n < 2, and n < 3 for `iqm`.

    Raises:
        ValueError: another statistic.
    """
    methods = {"mean": _mean_interval, "median": _median_interval, "iqm": _iqm_interval}
    if statistic not in methods:
        known = ", ".join(methods)
        raise ValueError(f"there is no interval for {statistic!r}, only for {known}")
    _alpha(level)
    values = np.sort(_sample(x))
    return methods[statistic](values, level, rng) if len(values) > 1 else None


def _mean_interval(values: Sample, level: float, _rng: np.random.Generator) -> Interval:
    n = len(values)
    error = float(values.std(ddof=1)) / sqrt(n)
    low, high = _t_interval(float(values.mean()), error, n - 1, level)
    return Interval(low, high, level, "Student's t")


def _median_interval(values: Sample, level: float, _rng: np.random.Generator) -> Interval:
    n = len(values)
    # P(B < k) for k = 1, 2, …: how often fewer than k of n values lie below the median.
    below = np.cumsum([comb(n, j) for j in range(n // 2)]) / 2**n
    k = max(1, int((1 - 2 * below >= level - 1e-12).sum()))
    return Interval(
        float(values[k - 1]), float(values[n - k]), float(1 - 2 * below[k - 1]), "order statistics"
    )


def _iqm_interval(values: Sample, level: float, rng: np.random.Generator) -> Interval | None:
    n = len(values)
    if n < 3:
        return None
    error = (1 + 1 / n) * float(values.std(ddof=1)) / sqrt(n)
    low, high = _t_interval(iqm(values), error, n - 1, level)
    cut = n // 4
    drawn = np.sort(rng.choice(values, size=(BOOTSTRAPS, n)), axis=1)
    tails = [(1 - level) / 2, (1 + level) / 2]
    least, most = np.quantile(drawn[:, cut : n - cut].mean(axis=1), tails)
    method = "widened t and bootstrap"
    return Interval(min(low, float(least)), max(high, float(most)), level, method)


def compare(
    a: ArrayLike,
    b: ArrayLike,
    *,
    paired: bool,
    level: float = 0.95,
    rng: np.random.Generator,
) -> Comparison | None:
    """Compare `a`, shape (n,), with the baseline `b`, shape (m,); paired needs n = m.

    The test permutes the difference of means, so it assumes no distribution, and is exact at any n
    and with ties. Unpaired it asks whether all n + m runs could come from one population; paired,
    whether each difference could as well have had the other sign. Two-sided p is twice the smaller
    tail, so that "better" and "worse" are each wrong at most half as often as the test is. More
    than 20,000 arrangements are sampled with `rng`; p is then at least 2/10,000 and still valid
    (Phipson & Smyth 2010, "Permutation p-values should never be zero").

    The interval holds every shift δ for which the same test does not reject "a − δ and b come from
    one population" (Hodges & Lehmann 1963; Hartigan 1969 for the paired case). So test and interval
    agree, and it covers exactly at any n where the arms differ by a shift; docs/calibration.md.
    "underpowered" says that no data from so many runs could have reached 1 − level, or that there
    is one run only.

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
    difference = float(a.mean() - b.mean())
    p = _sign_flip_p(a, b, rng) if paired else _permutation_p(a, b, rng)
    low, high, held = _shift_interval(_shifts(a, b, paired, rng), alpha)
    if min(len(a), len(b)) < 2:
        low = high = nan
    signs = np.sign(a - b) if paired else np.sign(a[:, None] - b[None, :])
    weak = min(len(a), len(b)) < 2 or _smallest_p(len(a), len(b), paired) > alpha
    return Comparison(
        difference=difference,
        low=low,
        high=high,
        level=held,
        p_value=p,
        improvement=float(0.5 + 0.5 * signs.mean()),
        verdict="underpowered" if weak else _verdict(p <= alpha, low, high),
        seeds_needed=fewest_runs(alpha, paired) if weak else None,
    )


def _verdict(significant: bool, low: float, high: float) -> str:
    if significant and low > 0:
        return "better"
    if significant and high < 0:
        return "worse"
    return "no difference shown"


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


def _sample(x: ArrayLike) -> Sample:
    values = np.asarray(x, dtype=np.float64)
    if values.ndim != 1:
        raise ValueError(f"a sample has one dimension, not {values.ndim}")
    if not np.isfinite(values).all():
        raise ValueError("a sample holds finite numbers only")
    return values


def _alpha(level: float) -> float:
    if not 0 < level < 1:
        raise ValueError(f"a level lies between 0 and 1, unlike {level}")
    return round(1 - level, 12)  # 1 − 0.9 is a little less than 0.1, the smallest p of 3 against 3


def _t_interval(center: float, error: float, df: float, level: float) -> tuple[float, float]:
    """Center ± t · standard error; NaN where the error is."""
    from scipy.special import stdtrit  # scipy.stats takes much longer to import

    width = float(stdtrit(df, (1 + level) / 2)) * error
    return center - width, center + width


def _shifts(a: Sample, b: Sample, paired: bool, rng: np.random.Generator) -> Sample:
    """For every rearrangement but the one at hand: the shift of `a` from which on it is as extreme.

    Around a shift δ the observed difference is D − δ, and a rearrangement's is D′ − c δ with c < 1,
    so it reaches the observed one from δ = (D − D′) / (1 − c) on.
    """
    if paired:
        flipped = _subsets(len(a), rng)
        return np.asarray(flipped @ (a - b) / flipped.sum(axis=1))
    n, m = len(a), len(b)
    chosen = _splits(n, m, rng)
    pooled = np.concatenate([a, b])
    rearranged = chosen @ pooled / n - ~chosen @ pooled / m
    stay = chosen[:, :n].sum(axis=1)
    moved = 1 - (stay / n - (n - stay) / m)
    return np.asarray((a.mean() - b.mean() - rearranged) / moved)


def _subsets(n: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Which differences change their sign, in every way but none (2ⁿ − 1, n), or in many."""
    if 2**n <= EXACT:
        return np.array(list(product((False, True), repeat=n)))[1:]
    drawn = rng.random((RESAMPLES, n)) < 0.5
    return drawn[drawn.any(axis=1)]


def _splits(n: int, m: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Which n of n + m values make the first side, in every way but the one at hand, or in many."""
    at_hand = np.arange(n + m) < n
    if comb(n + m, n) <= EXACT:
        places = np.array(list(combinations(range(n + m), n)))
        splits = np.zeros((len(places), n + m), dtype=bool)
        np.put_along_axis(splits, places, values=True, axis=1)
    else:
        splits = rng.permuted(np.tile(at_hand, (RESAMPLES, 1)), axis=1)
    others: NDArray[np.bool_] = splits[(splits != at_hand).any(axis=1)]
    return others


def _shift_interval(shifts: Sample, alpha: float) -> tuple[float, float, float]:
    """The k-th smallest and the k-th largest shift, and the level that they hold."""
    ordered, arrangements = np.sort(shifts), len(shifts) + 1
    k = int(np.floor(alpha * arrangements / 2 + 1e-9))
    held = 1 - alpha if k else max(0.0, 1 - 2 / arrangements)
    k = min(max(k, 1), len(ordered))
    return float(ordered[k - 1]), float(ordered[-k]), held


def _permutation_p(a: Sample, b: Sample, rng: np.random.Generator) -> float:
    """Two-sided p of mean(a) − mean(b) over the ways to split the pooled values.

    Around the pooled mean the difference of means is a multiple of one side's sum. The smaller
    side's is used and the values are sorted, so that swapping a and b changes nothing.
    """
    small, large = (a, b) if len(a) <= len(b) else (b, a)
    pooled = np.sort(np.concatenate([small, large]))
    center = pooled.mean()
    observed = float((small - center).sum())
    if len(small) == len(large):
        observed = abs(observed)
    values, n = pooled - center, len(small)
    exact = comb(len(values), n) <= EXACT
    if exact:
        sums = values[list(combinations(range(len(values)), n))].sum(axis=1)
    else:
        rows = np.tile(values, (RESAMPLES, 1))
        sums = rng.permuted(rows, axis=1)[:, :n].sum(axis=1)
    return _two_sided(sums, observed, _slack(pooled), exact)


def _sign_flip_p(a: Sample, b: Sample, rng: np.random.Generator) -> float:
    """Two-sided p of the mean of a − b over all choices of signs."""
    n, differences = len(a), a - b
    exact = 2**n <= EXACT
    signs = np.array(list(product((1, -1), repeat=n))) if exact else _draw_signs(n, rng)
    sums = signs @ np.sort(np.abs(differences))
    return _two_sided(sums, abs(float(differences.sum())), _slack(np.concatenate([a, b])), exact)


def _draw_signs(n: int, rng: np.random.Generator) -> NDArray[np.int64]:
    return rng.integers(0, 2, size=(RESAMPLES, n)) * 2 - 1


def _slack(values: Sample) -> float:
    """What rounding can do to a sum; sums closer than this are ties."""
    return 1e-14 * float(np.abs(values).sum())


def _two_sided(sums: Sample, observed: float, slack: float, exact: bool) -> float:
    """Twice the smaller tail; where sums were drawn, the observed one counts among them."""
    above = int((sums >= observed - slack).sum())
    below = int((sums <= observed + slack).sum())
    extra = 0 if exact else 1
    return min(1.0, 2 * (min(above, below) + extra) / (len(sums) + extra))


def _smallest_p(n: int, m: int, paired: bool) -> float:
    """The p of the most extreme arrangement of n against m."""
    return min(1.0, 2 / (2**n if paired else comb(n + m, n)))


def fewest_runs(alpha: float, paired: bool) -> int:
    """How many runs a side the permutation test needs before any outcome can reach alpha."""
    n = 2
    while _smallest_p(n, n, paired) > alpha:
        n += 1
    return n
