"""The interface of a `check` rule: a function of an arm or a study that yields findings."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from shaperun.check.behaviors import Behavior
from shaperun.check.ranking import BehaviorReturn
from shaperun.envs.base import Array, Environment, Term
from shaperun.rewards.config import RewardConfig
from shaperun.rewards.kernel import RewardKernel
from shaperun.study.models import Study
from shaperun.study.training import TrainingConfig


@dataclass(frozen=True)
class Finding:
    """A sentence of one rule; `arm` is None where it is about the whole study."""

    rule: str
    arm: str | None
    message: str


@dataclass(frozen=True)
class ArmContext:
    """One arm and the returns of the behaviors under its reward."""

    study: Study
    environment: Environment
    name: str
    config: RewardConfig
    training: TrainingConfig
    kernel: RewardKernel
    returns: Sequence[BehaviorReturn]

    def non_final_rewards(self, *returns: BehaviorReturn) -> Array:
        """Return the shaped rewards (N,) of all steps of these behaviors but the last ones."""
        return np.concatenate([r.rewards.shaped[~r.behavior.transition.ended] for r in returns])

    @property
    def weighted_terms(self) -> list[tuple[int, Term, float]]:
        """Index, term and scaled weight of every term with a weight other than 0."""
        pairs = enumerate(zip(self.kernel.terms, self.kernel.weights, strict=True))
        return [(index, term, float(weight)) for index, (term, weight) in pairs if weight]

    @property
    def drops_env_reward(self) -> bool:
        """True if the learner never sees the environment's reward, also not as a schedule ends."""
        return not self.kernel.uses_env_reward and self.kernel.factor(1.0) == 1.0


@dataclass(frozen=True)
class StudyContext:
    """The study as an experiment."""

    study: Study
    behaviors: Sequence[Behavior]
    evaluated: Sequence[Behavior]
    """The same behaviors in the environment of the evaluation."""
    difference: float | None
    """The smallest difference in environment return that matters; None if unknown."""
    spread: float | None
    """The standard deviation between finished runs of an arm; None without such runs."""


Rule = Callable[[Any], Iterator[str]]

ARM_RULES: dict[str, Rule] = {}
STUDY_RULES: dict[str, Rule] = {}


def _registry(rules: dict[str, Rule]) -> Callable[[Rule], Rule]:
    def register(function: Rule) -> Rule:
        rules[function.__name__.replace("_", "-")] = function
        return function

    return register


about_arm, about_study = _registry(ARM_RULES), _registry(STUDY_RULES)


def apply_rules(rules: dict[str, Rule], context: ArmContext | StudyContext) -> list[Finding]:
    """Return the findings of all rules, in their order."""
    arm = context.name if isinstance(context, ArmContext) else None
    return [
        Finding(name, arm, message) for name, rule in rules.items() for message in rule(context)
    ]
