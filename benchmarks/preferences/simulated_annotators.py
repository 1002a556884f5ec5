"""Annotators that know what they prefer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from shaperun.preferences.answers import EpisodeSummary

FUEL = {"main_engine": 0.30, "side_engine": 0.03}  # what LunarLander charges for its engines

Value = Callable[[EpisodeSummary, dict[str, float]], float]
"""Function from an episode and its discounted sums by term to its value."""


@dataclass(frozen=True)
class Annotator:
    """An annotator that prefers the higher value, with mistakes."""

    name: str
    value: Value
    error_rate: float = 0.0  # share of the preferences that are reversed

    def answer(self, left: float, right: float, rng: np.random.Generator) -> str:
        """Return the better of two values, "left" or "right", or "equal"."""
        if left == right:
            return "equal"
        wrong = rng.random() < self.error_rate
        return "left" if (left > right) != wrong else "right"


def env_return(episode: EpisodeSummary, _: dict[str, float]) -> float:
    """Return the environment return."""
    return episode.env_return


def fuel_saved(_: EpisodeSummary, sums: dict[str, float]) -> float:
    """Return minus the cost of the fuel."""
    return sum(cost * sums[term] for term, cost in FUEL.items())


ANNOTATORS = (
    Annotator("by environment return", env_return),
    Annotator("the same, wrong 20% of the time", env_return, error_rate=0.2),
    Annotator("by fuel alone", fuel_saved),
)
