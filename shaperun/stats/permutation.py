"""Exact permutation tests, and Holm's correction."""

from __future__ import annotations

from functools import cache
from itertools import combinations
from math import comb

import numpy as np
from numpy.typing import ArrayLike, NDArray

from shaperun.stats.sample import Sample, as_sample, as_samples, iqms, rounding_error

MAX_ENUMERATED = 20_000  # up to so many arrangements are enumerated

RESAMPLES = 9_999  # so many are drawn where there are more

TIE_BREAK = 1e-3


def holm(p_values: ArrayLike) -> Sample:
    """Adjusted p-values, shape (k,), in the order given; they control the family-wise error.

    Holm 1979, "A simple sequentially rejective multiple test procedure"; needs no independence.

    Raises:
        ValueError: a p-value outside [0, 1].
    """
    p = as_sample(p_values)
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
    a, b = as_samples(a), as_samples(b)
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
    return _two_sided(found, observed, rounding_error(pooled), exact)


def _splits(
    n: int, m: int, rng: np.random.Generator, resamples: int
) -> tuple[NDArray[np.bool_], bool]:
    """Which n of n + m values make the first side: in every way, or in many; and whether in all."""
    if comb(n + m, n) > MAX_ENUMERATED:
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
    return np.asarray(iqms(values) + TIE_BREAK * values.mean(axis=1))


def _swap_p(a: Sample, b: Sample, rng: np.random.Generator, resamples: int) -> float:
    """Over the ways to swap a and b within pairs, both of shape (n,)."""
    n = len(a)
    observed = _statistics(a[None]) - _statistics(b[None])
    if observed[0] < 0:  # so that swapping a and b changes nothing
        a, b, observed = b, a, -observed
    exact = 2**n <= MAX_ENUMERATED
    # Of two ways that mirror each other one is enough: here those that leave the last pair alone.
    ways = np.arange(2 ** (n - 1))[:, None] >> np.arange(n) & 1 if exact else None
    seed = int(rng.integers(2**32))
    swap = _coin_flips(resamples, n, seed) if ways is None else ways.astype(bool)
    found = _statistics(np.where(swap, b, a)) - _statistics(np.where(swap, a, b))
    if exact:
        found = np.concatenate([found, -found])
    slack = rounding_error(np.concatenate([a, b])[None])
    return float(_two_sided(found[None], observed, slack, exact)[0])


@cache
def _coin_flips(throws: int, n: int, seed: int) -> NDArray[np.bool_]:
    """Kept, because a study asks for the same ones again for every arm and metric."""
    return np.random.default_rng(seed).random((throws, n)) < 0.5


def _two_sided(found: Sample, observed: Sample, slack: Sample, exact: bool) -> Sample:
    """Twice the smaller tail; where arrangements were drawn, the observed one counts among them."""
    above = (found >= (observed - slack)[:, None]).sum(axis=1)
    below = (found <= (observed + slack)[:, None]).sum(axis=1)
    extra = 0 if exact else 1
    p = 2 * (np.minimum(above, below) + extra) / (found.shape[1] + extra)
    return np.asarray(np.minimum(1, p))


def smallest_p(n: int, m: int, paired: bool) -> float:
    """The p of the most extreme arrangement of n against m."""
    return min(1.0, 2 / (2**n if paired else comb(n + m, n)))


def min_runs(alpha: float, paired: bool) -> int:
    """How many runs a side the permutation test needs before any outcome can reach alpha."""
    n = 2
    while smallest_p(n, n, paired) > alpha:
        n += 1
    return n
