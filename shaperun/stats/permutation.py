"""Exact permutation tests and Holm's correction."""

from __future__ import annotations

from functools import cache
from itertools import combinations
from math import comb

import numpy as np
from numpy.typing import ArrayLike, NDArray

from shaperun.stats.sample import Sample, as_sample, as_samples, iqms, rounding_error

MAX_ENUMERATED = 50_000  # arrangements; if there are more, RESAMPLES of them are drawn
RESAMPLES = 9_999
SPARE_PAIRS = 3  # beyond those that the paired test needs
TIE_BREAK = 1e-3  # weight of the difference of means in the statistic


def holm(p_values: ArrayLike) -> Sample:
    """Return adjusted p-values, shape (k,), in the given order, to control the family-wise error.

    Holm 1979, "A simple sequentially rejective multiple test procedure"; the tests need not be
    independent.

    Raises:
        ValueError: a p-value is outside [0, 1].
    """
    p = as_sample(p_values)
    if ((p < 0) | (p > 1)).any():
        raise ValueError("p-values must be between 0 and 1")
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
    """Test each row of `a`, shape (m, n), against that of `b`, shape (m, k), by permutation.

    The test assumes no distribution and is exact at any n and with ties. The null hypothesis is
    that all n + k runs come from one population; for paired samples, that the runs of each pair are
    exchangeable. The statistic is iqm(a) − iqm(b) plus a thousandth of the difference of means:
    trimming ties many arrangements, and without this 4 against 4 could not reach 5%. The two-sided
    p is twice the smaller tail, so "better" and "worse" are each wrong at most half as often as the
    test is. If there are more than 50,000 arrangements, `resamples` of them are drawn from `rng`;
    p is then at least 2 / (resamples + 1), and still valid (Phipson & Smyth 2010, "Permutation
    p-values should never be zero").

    Returns:
        The p-values, shape (m,).

    Raises:
        ValueError: `a` or `b` is not two-dimensional or not finite, or paired samples have
            different shapes.
    """
    a, b = as_samples(a), as_samples(b)
    if paired:
        return np.array([_paired_p(x, y, rng, resamples) for x, y in zip(a, b, strict=True)])
    return _unpaired_p(a, b, rng, resamples)


def _unpaired_p(a: Sample, b: Sample, rng: np.random.Generator, resamples: int) -> Sample:
    """Return p over splits of the pooled values.

    The smaller sample is split off and the values are sorted, so swapping a and b changes nothing.
    For sorted values the statistic is a weighted sum, with the same weights for all m rows.
    """
    small, large = (a, b) if a.shape[1] <= b.shape[1] else (b, a)
    pooled = np.sort(np.hstack([a, b]), axis=1)
    observed = _statistics(small) - _statistics(large)
    if small.shape == large.shape:
        observed = np.abs(observed)
    splits, exact = _make_splits(small.shape[1], large.shape[1], rng, resamples)
    weights = _weights(splits) - _weights(~splits)
    statistics = (pooled - pooled.mean(axis=1, keepdims=True)) @ weights.T
    return _two_sided_p(statistics, observed, rounding_error(pooled), exact)


def _make_splits(
    n: int, m: int, rng: np.random.Generator, resamples: int
) -> tuple[NDArray[np.bool_], bool]:
    """Return masks (s, n + m) of the n members of the first side, and whether they are all."""
    if comb(n + m, n) > MAX_ENUMERATED:
        rows = np.tile(np.arange(n + m) < n, (resamples, 1))
        return rng.permuted(rows, axis=1), False
    return _all_splits(n, m), True


@cache
def _all_splits(n: int, m: int) -> NDArray[np.bool_]:
    indices = np.array(list(combinations(range(n + m), n)))
    splits = np.zeros((len(indices), n + m), dtype=bool)
    np.put_along_axis(splits, indices, values=True, axis=1)
    return splits


def _weights(members: NDArray[np.bool_]) -> Sample:
    """Return weights (s, n) with which a sum over n sorted values is `_statistics` of the members.

    All rows have equally many members.
    """
    size = int(members[0].sum())
    cut, rank = size // 4, members.cumsum(axis=1)
    inner = members & (rank > cut) & (rank <= size - cut)
    return np.asarray(inner / (size - 2 * cut) + TIE_BREAK * members / size)


def _statistics(values: Sample) -> Sample:
    return np.asarray(iqms(values) + TIE_BREAK * values.mean(axis=1))


def _paired_p(a: Sample, b: Sample, rng: np.random.Generator, resamples: int) -> float:
    """Return p over swaps of a and b, both of shape (n,), within pairs."""
    n = len(a)
    observed = _statistics(a[None]) - _statistics(b[None])
    if observed[0] < 0:  # so that swapping a and b changes nothing
        a, b, observed = b, a, -observed
    exact = 2**n <= MAX_ENUMERATED
    # Swaps come in mirrored pairs, so those that leave the last pair alone are enough.
    swaps = np.arange(2 ** (n - 1))[:, None] >> np.arange(n) & 1 if exact else None
    seed = int(rng.integers(2**32))
    swap = _flip_coins(resamples, n, seed) if swaps is None else swaps.astype(bool)
    statistics = _statistics(np.where(swap, b, a)) - _statistics(np.where(swap, a, b))
    if exact:
        statistics = np.concatenate([statistics, -statistics])
    slack = rounding_error(np.concatenate([a, b])[None])
    return float(_two_sided_p(statistics[None], observed, slack, exact)[0])


@cache
def _flip_coins(resamples: int, n: int, seed: int) -> NDArray[np.bool_]:
    """Draw coin flips, cached: a study needs the same ones for every arm and metric."""
    return np.random.default_rng(seed).random((resamples, n)) < 0.5


def _two_sided_p(statistics: Sample, observed: Sample, slack: Sample, exact: bool) -> Sample:
    """Return twice the smaller tail; drawn arrangements (s) are joined by the observed one."""
    above = (statistics >= (observed - slack)[:, None]).sum(axis=1)
    below = (statistics <= (observed + slack)[:, None]).sum(axis=1)
    extra = 0 if exact else 1
    p = 2 * (np.minimum(above, below) + extra) / (statistics.shape[1] + extra)
    return np.asarray(np.minimum(1, p))


def smallest_p(n: int, m: int, paired: bool) -> float:
    """Return the p of the most extreme arrangement of n against m runs (paired: n = m)."""
    return min(1.0, 2 / (2**n if paired else comb(n + m, n)))


def min_pairs(alpha: float) -> int:
    """Return the pairs from which on arms are compared by the paired test at level `alpha`.

    It is three more than the test needs to reach the level at all. With fewer, one or two pairs in
    the other order leave nothing to show, and the unpaired test, which reaches the level with
    fewer runs, has more power (docs/calibration.md).
    """
    return min_runs(alpha, paired=True) + SPARE_PAIRS


def min_runs(alpha: float, paired: bool) -> int:
    """Return the runs per sample from which on the permutation test can reach p ≤ alpha."""
    n = 2
    while smallest_p(n, n, paired) > alpha:
        n += 1
    return n
