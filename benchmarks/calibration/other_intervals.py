"""Intervals in common use, next to those of shaperun, for many samples at once.

Samples are rows, shape (m, n); all intervals have a nominal level of 95%.
"""

from __future__ import annotations

from itertools import combinations
from math import comb, sqrt

import numpy as np
import scipy.stats

from shaperun.stats.intervals import Intervals
from shaperun.stats.permutation import MAX_ENUMERATED

RESAMPLES = 999


def student_t(x: np.ndarray, _rng: np.random.Generator) -> Intervals:
    """Return Student's t interval of the mean (Student 1908)."""
    n = x.shape[1]
    width = scipy.stats.t.ppf(0.975, n - 1) * x.std(axis=1, ddof=1) / sqrt(n)
    return Intervals(x.mean(axis=1) - width, x.mean(axis=1) + width, 0.95, "Student's t")


def bootstrap_mean(x: np.ndarray, rng: np.random.Generator) -> Intervals:
    """Return the percentile bootstrap of the mean, the interval of most papers."""
    return _percentiles(_resample(x, 0, rng))


def bootstrap_iqm(x: np.ndarray, rng: np.random.Generator) -> Intervals:
    """Return the percentile bootstrap of the IQM, rliable's interval for one task."""
    return _percentiles(_resample(x, x.shape[1] // 4, rng))


def bootstrap_difference(a: np.ndarray, b: np.ndarray, rng: np.random.Generator) -> Intervals:
    """Return the percentile bootstrap of the difference of IQMs."""
    iqms_a, iqms_b = (_resample(x, x.shape[1] // 4, rng) for x in (a, b))
    return _percentiles(iqms_a - iqms_b)


def welch_t(a: np.ndarray, b: np.ndarray, _rng: np.random.Generator) -> Intervals:
    """Return Welch's t interval of the difference of means (Welch 1947)."""
    interval = scipy.stats.ttest_ind(a, b, axis=1, equal_var=False).confidence_interval(0.95)
    return Intervals(interval.low, interval.high, 0.95, "Welch's t")


def shifts_not_rejected(a: np.ndarray, b: np.ndarray, rng: np.random.Generator) -> Intervals:
    """Return the shifts that a permutation test of means does not reject (Hodges & Lehmann 1963).

    Exact where the populations differ by a shift. For a shift δ the observed difference is
    D − δ, and a rearrangement's is D′ − c δ with c < 1, so it reaches the observed one from
    δ = (D − D′) / (1 − c) on.
    """
    n = a.shape[1]
    first = np.arange(2 * n) < n
    splits = _splits(n, rng)
    splits = splits[(splits != first).any(axis=1)]
    unmoved = splits[:, :n].sum(axis=1)
    pooled = np.hstack([a, b])
    observed = pooled @ (first / n - ~first / n)
    shifts = (observed[:, None] - pooled @ (splits / n - ~splits / n).T) / (2 - 2 * unmoved / n)
    k = max(1, int(0.025 * (len(splits) + 1) + 1e-9))
    ordered = np.sort(shifts, axis=1)
    return Intervals(ordered[:, k - 1], ordered[:, -k], 0.95, "shifts")


def _splits(n: int, rng: np.random.Generator) -> np.ndarray:
    """Return masks (s, 2 n) of n of 2 n values: all of them, or `RESAMPLES` random ones."""
    if comb(2 * n, n) > MAX_ENUMERATED:
        return rng.permuted(np.tile(np.arange(2 * n) < n, (RESAMPLES, 1)), axis=1)
    indices = np.array(list(combinations(range(2 * n), n)))
    return np.asarray((indices[:, :, None] == np.arange(2 * n)).any(axis=1))


def _resample(x: np.ndarray, cut: int, rng: np.random.Generator) -> np.ndarray:
    """Return trimmed means of resamples (m, 999); all rows share the drawn ranks."""
    n = x.shape[1]
    ranks = np.sort(rng.integers(0, n, size=(RESAMPLES, n)), axis=1)[:, cut : n - cut]
    return np.asarray(np.sort(x, axis=1) @ (ranks[:, :, None] == np.arange(n)).mean(axis=1).T)


def _percentiles(values: np.ndarray) -> Intervals:
    low, high = np.quantile(values, [0.025, 0.975], axis=1)
    return Intervals(low, high, 0.95, "percentile bootstrap")
