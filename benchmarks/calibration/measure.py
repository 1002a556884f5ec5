"""Counting: how often an interval covers what is true, and how often a test speaks up wrongly."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal

import numpy as np

from benchmarks.calibration.populations import Pair, Population
from shaperun.stats import intervals, permutation

Find = Callable[[np.ndarray, np.random.Generator], "intervals.Intervals | None"]
FindDifference = Callable[
    [np.ndarray, np.ndarray, np.random.Generator], "intervals.Intervals | None"
]
Found = tuple[float, float] | None
Pairs = Literal["strangers", "opposed", "together"]
"""The share of samples whose interval covers the truth, and the level that was promised."""

BLOCK = 500  # samples that share one drawing of resamples; results average over many drawings
FEW = 999  # rearrangements of pairs where they are drawn: fewer than in `compare`, and as valid


def coverage(population: Population, n: int, statistic: str, find: Find, draws: int) -> Found:
    """Of an interval for one population."""
    rng = np.random.default_rng(n)
    found = [find(population.draw(rng, shape), rng) for shape in _blocks(draws, n)]
    return _share(found, population.truth[statistic])


def coverage_of_difference(
    pair: Pair,
    n: int,
    statistic: str,
    find: FindDifference,
    draws: int,
    *,
    pairs: Pairs = "strangers",
) -> Found:
    """Of an interval for the difference of two."""
    rng = np.random.default_rng(n)
    draw = {
        "strangers": pair.draw,
        "opposed": pair.draw_opposed,
        "together": pair.draw_together,
    }[pairs]
    found = [find(*draw(rng, shape), rng) for shape in _blocks(draws, n)]
    return _share(found, pair.truth[statistic])


def _share(blocks: list[intervals.Intervals | None], truth: float) -> Found:
    found = [block for block in blocks if block is not None]
    if not found:
        return None
    hits = np.concatenate([(block.low <= truth) & (truth <= block.high) for block in found])
    return float(hits.mean()), found[0].level


def false_positives(population: Population, n: int, *, paired: bool, draws: int) -> float:
    """The share of comparisons of a population with itself in which the test speaks up at 5%."""
    rng = np.random.default_rng(n)
    resamples = FEW if paired else permutation.RESAMPLES
    found = [
        permutation.p_values(
            population.draw(rng, shape),
            population.draw(rng, shape),
            paired=paired,
            rng=rng,
            resamples=resamples,
        )
        for shape in _blocks(draws, n)
    ]
    return float((np.concatenate(found) <= 0.05).mean())


def _blocks(draws: int, n: int) -> Iterator[tuple[int, int]]:
    for begin in range(0, draws, BLOCK):
        yield min(BLOCK, draws - begin), n
