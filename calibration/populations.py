"""Populations of runs to draw from: their shapes, and their true medians, IQMs and means."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from shaperun import stats

RETURNS = Path(__file__).parent / "returns.csv"
MANY = 2_000_000  # draws that stand for a population; the error of its IQM is below 0.001 sd


@dataclass(frozen=True)
class Population:
    """Something that runs are drawn from."""

    name: str
    draw: Callable[[np.random.Generator, int], np.ndarray]

    @cached_property
    def truth(self) -> dict[str, float]:
        """The statistics of the population itself."""
        values = self.draw(np.random.default_rng(0), MANY)
        return {
            "mean": float(values.mean()),
            "median": float(np.median(values)),
            "iqm": stats.iqm(values),
        }


def _two_peaked(rng: np.random.Generator, n: int) -> np.ndarray:
    """Most runs learn, some do not."""
    return np.where(rng.random(n) < 0.8, rng.normal(240, 20, n), rng.normal(100, 80, n))


def _measured(study: str, *arms: str) -> Callable[[np.random.Generator, int], np.ndarray]:
    """Final returns of real runs, drawn with replacement."""
    with RETURNS.open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["study"] == study]
    values = np.array([float(row["return"]) for row in rows if not arms or row["arm"] in arms])
    return lambda rng, n: rng.choice(values, n)


POPULATIONS = [
    Population("normal", lambda rng, n: rng.normal(size=n)),
    Population("skewed (exponential)", lambda rng, n: rng.exponential(size=n)),
    Population("two-peaked (80% and 20%)", _two_peaked),
    Population("heavy-tailed (t, 3 df)", lambda rng, n: rng.standard_t(3, size=n)),
    Population("real, 1M steps", _measured("lunar-lander", "default", "potential", "gentle")),
    Population("real, 200k steps", _measured("sweep-distance-legs")),
]
