"""Populations of runs to draw from: their shapes, and their true medians, IQMs and means.

All draw samples of one size at once: shape (m, n), a row a sample.
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from shaperun.stats.sample import iqm

RETURNS = Path(__file__).parent / "returns.csv"
MANY = 2_000_000  # draws that stand for a population; the error of its IQM is below 0.001 sd


Draw = Callable[[np.random.Generator, tuple[int, int]], np.ndarray]


@dataclass(frozen=True)
class Population:
    """Something that runs are drawn from."""

    name: str
    draw: Draw

    @cached_property
    def values(self) -> np.ndarray:
        """The population itself, as nearly as draws can stand for it, in order."""
        return np.sort(self.draw(np.random.default_rng(0), (1, MANY))[0])

    @cached_property
    def truth(self) -> dict[str, float]:
        """The statistics of the population itself."""
        return {
            "mean": float(self.values.mean()),
            "median": float(np.median(self.values)),
            "iqm": iqm(self.values),
        }


@dataclass(frozen=True)
class Pair:
    """Two populations to compare."""

    a: Population
    b: Population

    @cached_property
    def truth(self) -> dict[str, float]:
        """The true differences."""
        return {name: self.a.truth[name] - self.b.truth[name] for name in self.a.truth}

    def draw(
        self, rng: np.random.Generator, shape: tuple[int, int]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Samples that know nothing of each other."""
        return self.a.draw(rng, shape), self.b.draw(rng, shape)

    def draw_opposed(
        self, rng: np.random.Generator, shape: tuple[int, int]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Pairs that go against each other as far as they can: the best of A with the worst of B.

        For an interval that relies on the correlation of pairs, or its absence, the hardest case.
        """
        place = rng.integers(0, MANY, size=shape)
        return self.a.values[place], self.b.values[MANY - 1 - place]

    def draw_together(
        self, rng: np.random.Generator, shape: tuple[int, int]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Pairs that go together as far as they can: the best of A with the best of B."""
        place = rng.integers(0, MANY, size=shape)
        return self.a.values[place], self.b.values[place]


def _normal(mean: float, deviation: float) -> Draw:
    return lambda rng, shape: rng.normal(mean, deviation, shape)


def _two_peaks(share: float, low: float, deviation: float) -> Draw:
    """That share of the runs learns, the others do not."""
    return lambda rng, shape: np.where(
        rng.random(shape) < share, rng.normal(240, 20, shape), rng.normal(low, deviation, shape)
    )


def _measured(study: str, *arms: str) -> Draw:
    """Final returns of real runs, drawn with replacement."""
    with RETURNS.open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["study"] == study]
    values = np.array([float(row["return"]) for row in rows if not arms or row["arm"] in arms])
    return lambda rng, shape: rng.choice(values, shape)


NORMAL = Population("normal", _normal(240, 20))
SKEWED = Population("skewed (exponential)", lambda rng, shape: 20 * rng.exponential(size=shape))
MIRRORED = Population("skewed the other way", lambda rng, shape: -20 * rng.exponential(size=shape))
TWO_PEAKED = Population("two-peaked (80% and 20%)", _two_peaks(0.8, 100, 80))
HALF_FAILING = Population("two-peaked (50% and 50%)", _two_peaks(0.5, 100, 80))
HEAVY_TAILED = Population(
    "heavy-tailed (t, 3 df)", lambda rng, shape: 240 + 20 * rng.standard_t(3, size=shape)
)
REAL_LONG = Population(
    "real, 1M steps", _measured("lunar-lander", "default", "potential", "gentle")
)
REAL_WORST = Population("real, 1M steps, `article`", _measured("lunar-lander", "article"))
REAL_SHORT = Population("real, 200k steps", _measured("sweep-distance-legs"))

POPULATIONS = [NORMAL, SKEWED, TWO_PEAKED, HEAVY_TAILED, REAL_LONG, REAL_SHORT]

PAIRS = [
    *(Pair(population, population) for population in POPULATIONS),
    Pair(NORMAL, TWO_PEAKED),
    Pair(SKEWED, NORMAL),
    Pair(SKEWED, MIRRORED),
    Pair(HEAVY_TAILED, TWO_PEAKED),
    Pair(HALF_FAILING, NORMAL),
    Pair(HALF_FAILING, TWO_PEAKED),
    Pair(REAL_LONG, REAL_WORST),
    Pair(REAL_LONG, TWO_PEAKED),
    Pair(REAL_LONG, REAL_SHORT),
]

# What few runs cannot tell: two outcomes with nothing between them, and five values that repeat.
HARD = [
    HALF_FAILING,
    Population("two sharp peaks (80% and 20%)", _two_peaks(0.8, -100, 5)),
    Population("two sharp peaks (70% and 30%)", _two_peaks(0.7, -100, 5)),
    Population("two sharp peaks (50% and 50%)", _two_peaks(0.5, -100, 5)),
    REAL_WORST,
]
