"""Comparisons of samples with the same random numbers."""

import numpy as np

from shaperun.stats.comparison import Comparison, compare


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def compare_samples(
    a: object, b: object, *, paired: bool = False, level: float = 0.95
) -> Comparison:
    result = compare(a, b, paired=paired, level=level, rng=rng())  # type: ignore[arg-type]
    assert result is not None
    return result
