"""Populations of runs: distributions with known medians, IQMs and means.

Many samples are drawn at once, one per row: shape (m, n).
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
SIZE = 2_000_000  # of a finite population; the error of its IQM is below 0.001 sd

Shape = tuple[int, int]
Draw = Callable[[np.random.Generator, Shape], np.ndarray]
Samples = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Population:
    """A distribution of the returns of runs."""

    name: str
    draw: Draw
    bounds: tuple[float, float] | None = None

    @cached_property
    def values(self) -> np.ndarray:
        """Sorted values of a large sample that represents the population."""
        return np.sort(self.draw(np.random.default_rng(0), (1, SIZE))[0])

    @cached_property
    def truth(self) -> dict[str, float]:
        """The statistics of the population."""
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

    def draw(self, rng: np.random.Generator, shape: Shape) -> Samples:
        """Draw independent samples."""
        return self.a.draw(rng, shape), self.b.draw(rng, shape)

    def draw_opposed(self, rng: np.random.Generator, shape: Shape) -> Samples:
        """Draw pairs with the most negative correlation: the best of A with the worst of B.

        This is the hardest case for intervals that rely on the correlation of pairs, or on none.
        """
        index = rng.integers(0, SIZE, size=shape)
        return self.a.values[index], self.b.values[SIZE - 1 - index]

    def draw_together(self, rng: np.random.Generator, shape: Shape) -> Samples:
        """Draw pairs with the most positive correlation: the best of A with the best of B."""
        index = rng.integers(0, SIZE, size=shape)
        return self.a.values[index], self.b.values[index]


def _normal(mean: float, deviation: float) -> Draw:
    return lambda rng, shape: rng.normal(mean, deviation, shape)


def _two_peaks(share: float, low: float, deviation: float) -> Draw:
    """Return a mixture: this share of the runs learns, the others do not."""
    return lambda rng, shape: np.where(
        rng.random(shape) < share, rng.normal(240, 20, shape), rng.normal(low, deviation, shape)
    )


def _measured(study: str, *arms: str) -> Draw:
    """Return the final returns of real runs, drawn with replacement."""
    with RETURNS.open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["study"] == study]
    values = np.array([float(row["return"]) for row in rows if not arms or row["arm"] in arms])
    return lambda rng, shape: rng.choice(values, shape)


def _at_bound(share: float, bound: float, others: Draw) -> Draw:
    """Return a mixture: this share of the runs is at the bound."""
    return lambda rng, shape: np.where(rng.random(shape) < share, bound, others(rng, shape))


def _percent(low: int, high: int) -> Draw:
    """Return shares of 100 episodes, uniform from low to high percent."""
    return lambda rng, shape: rng.integers(low, high + 1, shape) / 100


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

# Few runs cannot represent two outcomes with nothing in between, or five values that repeat.
HARD = [
    HALF_FAILING,
    Population("two sharp peaks (80% and 20%)", _two_peaks(0.8, -100, 5)),
    Population("two sharp peaks (70% and 30%)", _two_peaks(0.7, -100, 5)),
    Population("two sharp peaks (50% and 50%)", _two_peaks(0.5, -100, 5)),
    REAL_WORST,
]

# Metrics with bounds, at which many runs sit: success rates, and lengths or returns at the limit.
BOUNDED = [
    *(
        Population(f"{share:.0%} at 1, {name}", _at_bound(share, 1.0, others), (0.0, 1.0))
        for share in (0.9, 0.7, 0.5)
        for name, others in (
            ("the others 0", _percent(0, 0)),
            ("the others 0 to 1", _percent(0, 100)),
            ("the others 0.9 to 1", _percent(90, 100)),
        )
    ),
    Population("70% at 0, the others 1", _at_bound(0.7, 0.0, _percent(100, 100)), (0.0, 1.0)),
    Population("70% at 0, the others 0 to 1", _at_bound(0.7, 0.0, _percent(0, 100)), (0.0, 1.0)),
    Population(
        "40% at 0, 40% at 1, the others between",
        lambda rng, shape: rng.choice([0, 0, 0, 0, 0.3, 0.6, 1, 1, 1, 1], shape),
        (0.0, 1.0),
    ),
    Population(
        "length or return: 70% at 500, the others 20 to 499",
        _at_bound(0.7, 500.0, lambda rng, shape: rng.uniform(20, 499, shape)),
        (1.0, 500.0),
    ),
    Population(
        "return at most 0: 50% at 0, the others skewed",
        _at_bound(0.5, 0.0, lambda rng, shape: -rng.exponential(100, shape).clip(0, 2000)),
        (-3000.0, 0.0),
    ),
]

BOUNDED_PAIRS = [
    Pair(BOUNDED[3], BOUNDED[0]),
    Pair(BOUNDED[3], BOUNDED[9]),
    Pair(BOUNDED[4], BOUNDED[4]),
    Pair(BOUNDED[7], BOUNDED[11]),
]


@dataclass(frozen=True)
class Seeds:
    """Arms whose runs with the same seed go alike: normal with a correlation, or failing together.

    A run that fails does so under both arms, with this share; it ends 20 standard deviations lower
    and does not profit from the difference between the arms.
    """

    correlation: float
    failing: float

    def draw(self, rng: np.random.Generator, shape: Shape, difference: float) -> Samples:
        """Draw both arms, with a difference in standard deviations of a run that does not fail."""
        first, other = rng.normal(size=(2, *shape))
        second = self.correlation * first + np.sqrt(1 - self.correlation**2) * other
        failed = rng.random(shape) < self.failing
        return np.where(failed, first - 20, first + difference), np.where(
            failed, second - 20, second
        )


SEEDS = [Seeds(correlation, failing) for failing in (0.0, 0.2) for correlation in (0.0, 0.5, 0.9)]
