"""Samples of independent runs and their interquartile mean."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Sample = NDArray[np.float64]


def iqm(x: ArrayLike) -> float:
    """Compute the interquartile mean of `x`, shape (n,): the mean of its middle half.

    As in Agarwal et al. 2021 (rliable), this is `scipy.stats.trim_mean(x, 0.25)`, which drops
    int(n / 4) values at each end. For n < 4 it is the plain mean, and for n = 4 to 7 the mean
    without the smallest and the largest value.

    Raises:
        ValueError: the sample is empty, not one-dimensional or not finite.
    """
    values = as_sample(x)
    if not len(values):
        raise ValueError("the interquartile mean of an empty sample is undefined")
    return float(iqms(values[None])[0])


def rounding_error(values: Sample) -> Sample:
    """Return the rounding error of sums over the last axis of `values`, shape (..., n) to (...,).

    It is 1e-14 · Σ|x|; sums that are closer than this are ties.
    """
    return np.asarray(1e-14 * np.abs(values).sum(axis=-1))


def iqms(values: Sample) -> Sample:
    """Compute the interquartile mean of each row of `values`, shape (m, n) to (m,)."""
    n = values.shape[1]
    return np.asarray(np.sort(values, axis=1)[:, n // 4 : n - n // 4].mean(axis=1))


def as_sample(x: ArrayLike, dimensions: int = 1) -> Sample:
    """Return `x` as a float64 array of the given number of dimensions.

    Raises:
        ValueError: another number of dimensions, or a value that is not finite.
    """
    values = np.asarray(x, dtype=np.float64)
    if values.ndim != dimensions:
        raise ValueError(f"expected an array with {dimensions} dimensions, not {values.ndim}")
    if not np.isfinite(values).all():
        raise ValueError("a sample must contain only finite numbers")
    return values


def as_samples(x: ArrayLike) -> Sample:
    """Return `x`, one sample per row, as float64, shape (m, n); raises as `as_sample`."""
    return as_sample(x, dimensions=2)


def significance_level(level: float) -> float:
    """Return α = 1 − level.

    Raises:
        ValueError: `level` is not in (0, 1).
    """
    if not 0 < level < 1:
        raise ValueError(f"level must be between 0 and 1, not {level}")
    return round(1 - level, 12)  # 1 − 0.9 is slightly below 0.1, the smallest p of 3 vs 3
