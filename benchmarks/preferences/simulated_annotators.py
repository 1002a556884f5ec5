"""Who answers: each knows what it is after, and says which of two episodes has more of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from shaperun.preferences.answers import EpisodeSummary

FUEL = {"main_engine": 0.30, "side_engine": 0.03}  # what LunarLander charges for its engines

Value = Callable[[EpisodeSummary, dict[str, float]], float]
"""How good an episode is, given its discounted sums by term."""


@dataclass(frozen=True)
class Annotator:
    """Answers by a value, and sometimes the other way round."""

    name: str
    value: Value
    wrong: float = 0.0  # share of the answers that prefer one

    def answer(self, left: float, right: float, luck: np.random.Generator) -> str:
        """Which of two values is better; equal ones are called equal."""
        if left == right:
            return "equal"
        better = left > right
        if luck.random() < self.wrong:
            better = not better
        return "left" if better else "right"


def env_return(episode: EpisodeSummary, sums: dict[str, float]) -> float:
    """What the environment paid."""
    del sums
    return episode.env_return


def fuel_saved(episode: EpisodeSummary, sums: dict[str, float]) -> float:
    """How little fuel was used; nothing else matters."""
    del episode
    return sum(cost * sums[term] for term, cost in FUEL.items())


ANNOTATORS = (
    Annotator("by environment return", env_return),
    Annotator("the same, wrong 20% of the time", env_return, wrong=0.2),
    Annotator("by fuel alone", fuel_saved),
)
