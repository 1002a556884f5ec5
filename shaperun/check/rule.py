"""What a rule of `check` is: a function over an arm or a study that yields findings."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from shaperun.check.behaviours import Behaviour
from shaperun.check.ranking import BehaviourReturn
from shaperun.envs.base import Array, Environment, Term
from shaperun.rewards.config import RewardConfig
from shaperun.rewards.kernel import RewardKernel
from shaperun.study.models import Study
from shaperun.study.training import TrainingConfig


@dataclass(frozen=True)
class Finding:
    """What a rule has to say; `arm` is None where it is about the whole study."""

    rule: str
    arm: str | None
    message: str


@dataclass(frozen=True)
class ArmContext:
    """One arm and what its reward pays the behaviours."""

    study: Study
    environment: Environment
    arm: str
    config: RewardConfig
    training: TrainingConfig
    kernel: RewardKernel
    paid: Sequence[BehaviourReturn]

    def inside(self, *paid: BehaviourReturn) -> Array:
        """The shaped rewards (N,) of these behaviours' steps that end no episode."""
        return np.concatenate([p.rewards.shaped[~p.behaviour.transition.ended] for p in paid])

    @property
    def weighted(self) -> list[tuple[int, Term, float]]:
        """Place, term and scaled weight of the terms that count."""
        both = zip(self.kernel.terms, self.kernel.weights, strict=True)
        return [(place, term, float(w)) for place, (term, w) in enumerate(both) if w]

    @property
    def replaces(self) -> bool:
        """Whether the learner sees nothing of the environment's own reward."""
        return not self.kernel.pays_own_reward


@dataclass(frozen=True)
class StudyContext:
    """The study as an experiment: how many runs, what spread, which difference matters."""

    study: Study
    behaviours: Sequence[Behaviour]
    difference: float
    """The smallest difference in environment return that the user cares about."""
    spread: float | None
    """The standard deviation between finished runs of an arm, where there are any."""


Rule = Callable[[Any], Iterator[str]]

ARM_RULES: dict[str, Rule] = {}

STUDY_RULES: dict[str, Rule] = {}


def _registering_in(rules: dict[str, Rule]) -> Callable[[Rule], Rule]:
    def register(function: Rule) -> Rule:
        rules[function.__name__.replace("_", "-")] = function
        return function

    return register


about_arm, about_study = _registering_in(ARM_RULES), _registering_in(STUDY_RULES)
