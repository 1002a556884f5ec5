"""Coverage of intervals, and false positives of tests, by simulation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Literal

import numpy as np

from benchmarks.calibration.populations import Pair, Population, Seeds
from shaperun.stats import intervals, permutation
from shaperun.stats.intervals import Intervals

Method = Callable[[np.ndarray, np.random.Generator], Intervals | None]
DifferenceMethod = Callable[[np.ndarray, np.ndarray, np.random.Generator], Intervals | None]
Coverage = tuple[float, float] | None
"""Share of samples whose interval covers the truth, and the nominal level."""
Pairing = Literal["independent", "opposed", "together"]

BLOCK = 500  # samples that share their resamples; the results average over many blocks
PAIRED_RESAMPLES = 999  # fewer than in `compare`, where they are drawn, and as valid


def measure_coverage(
    population: Population, n: int, statistic: str, method: Method, draws: int
) -> Coverage:
    """Return the coverage of an interval for one population."""
    rng = np.random.default_rng(n)
    blocks = (method(population.draw(rng, shape), rng) for shape in _shapes(draws, n))
    return _share(blocks, population.truth[statistic])


def measure_difference_coverage(
    pair: Pair,
    n: int,
    statistic: str,
    method: DifferenceMethod,
    draws: int,
    *,
    pairing: Pairing = "independent",
) -> Coverage:
    """Return the coverage of an interval for the difference of two populations."""
    rng = np.random.default_rng(n)
    draw = {
        "independent": pair.draw,
        "opposed": pair.draw_opposed,
        "together": pair.draw_together,
    }[pairing]
    blocks = (method(*draw(rng, shape), rng) for shape in _shapes(draws, n))
    return _share(blocks, pair.truth[statistic])


def _share(blocks: Iterable[Intervals | None], truth: float) -> Coverage:
    claimed = [block for block in blocks if block is not None]
    if not claimed:
        return None
    hits = np.concatenate([(block.low <= truth) & (truth <= block.high) for block in claimed])
    return float(hits.mean()), claimed[0].level


def measure_false_positives(population: Population, n: int, *, paired: bool, draws: int) -> float:
    """Return the share of comparisons of a population with itself that are significant at 5%."""
    rng = np.random.default_rng(n)
    resamples = PAIRED_RESAMPLES if paired else permutation.RESAMPLES
    p_values = [
        permutation.p_values(
            population.draw(rng, shape),
            population.draw(rng, shape),
            paired=paired,
            rng=rng,
            resamples=resamples,
        )
        for shape in _shapes(draws, n)
    ]
    return float((np.concatenate(p_values) <= 0.05).mean())


def measure_verdicts(
    seeds: Seeds, n: int, difference: float, *, paired: bool, arms: int, draws: int
) -> float:
    """Return the share of comparisons with a winner, at the first step of Holm's correction."""
    rng = np.random.default_rng(n)
    winners = []
    for shape in _shapes(draws, n):
        a, b = seeds.draw(rng, shape, difference)
        p = permutation.p_values(a, b, paired=paired, rng=rng, resamples=PAIRED_RESAMPLES)
        ends = intervals.difference_intervals(a, b, paired=paired, rng=rng)
        assert ends  # noqa: S101 (for the type checker: n is at least 3)
        winners.append((p <= 0.05 / arms) & ((ends.low > 0) | (ends.high < 0)))
    return float(np.concatenate(winners).mean())


def _shapes(draws: int, n: int) -> Iterator[tuple[int, int]]:
    for begin in range(0, draws, BLOCK):
        yield min(BLOCK, draws - begin), n
