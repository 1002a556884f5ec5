"""Samples of independent runs, and their interquartile mean."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Sample = NDArray[np.float64]


def iqm(x: ArrayLike) -> float:
    """Interquartile mean: the mean without the lowest and the highest quarter.

    As in Agarwal et al. 2021 (rliable), this is `scipy.stats.trim_mean(x, 0.25)`: int(n / 4)
    values go at each end. So for n < 4 it is the plain mean, and for n = 4 to 7 the mean without
    the smallest and the largest value.

    Raises:
        ValueError: the sample is empty.
    """
    values = as_sample(x)
    if not len(values):
        raise ValueError("an empty sample has no interquartile mean")
    return float(iqms(values[None])[0])


def rounding_error(values: Sample) -> Sample:
    """What rounding can do to a sum, shape (...,) of values (..., n); closer sums are ties."""
    return np.asarray(1e-14 * np.abs(values).sum(axis=-1))


def iqms(values: Sample) -> Sample:
    n = values.shape[1]
    return np.asarray(np.sort(values, axis=1)[:, n // 4 : n - n // 4].mean(axis=1))


def as_sample(x: ArrayLike) -> Sample:
    return _finite(x, 1)


def as_samples(x: ArrayLike) -> Sample:
    return _finite(x, 2)


def _finite(x: ArrayLike, dimensions: int) -> Sample:
    values = np.asarray(x, dtype=np.float64)
    if values.ndim != dimensions:
        raise ValueError(f"{dimensions} dimensions are needed, not {values.ndim}")
    if not np.isfinite(values).all():
        raise ValueError("a sample holds finite numbers only")
    return values


def significance_level(level: float) -> float:
    if not 0 < level < 1:
        raise ValueError(f"a level lies between 0 and 1, unlike {level}")
    return round(1 - level, 12)  # 1 − 0.9 is a little less than 0.1, the smallest p of 3 against 3
