"""The whole check of a study: every arm's reward applied to behaviors, and the findings."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

import shaperun.check.rules  # noqa: F401 (registers its rules)
from shaperun.check.behaviors import Behavior, record_behaviors
from shaperun.check.distances import Distances, reward_distances
from shaperun.check.ranking import BehaviorReturn, behavior_returns
from shaperun.check.rule import (
    ARM_RULES,
    STUDY_RULES,
    ArmContext,
    Finding,
    StudyContext,
    apply_rules,
)
from shaperun.check.study_rules import default_difference
from shaperun.common.errors import UserError
from shaperun.rewards.config import RewardConfig
from shaperun.rewards.kernel import RewardError, RewardKernel
from shaperun.study.models import Study


@dataclass(frozen=True)
class Invariance:
    """The error of the invariance theorem over the episodes of all behaviors.

    `deviation` is the largest |G_shaped − G + Φ(s₀)|, with the tail −γᴺ Φ(s_N) in G_shaped where an
    episode goes on for the learner, and `tolerance` the rounding error of sums of that size.
    """

    episodes: int
    deviation: float
    tolerance: float

    @property
    def holds(self) -> bool:
        """True if the deviation is within rounding error."""
        return self.deviation <= self.tolerance


@dataclass(frozen=True)
class Check:
    """A study's behaviors, their returns under every arm, and the findings.

    `evaluated` are the same behaviors in the environment of the evaluation; `difference` is the
    smallest difference in environment return that matters; None if unknown.
    """

    study: Study
    behaviors: list[Behavior]
    evaluated: list[Behavior]
    kernels: dict[str, RewardKernel]
    returns: dict[str, list[BehaviorReturn]]
    findings: list[Finding]
    difference: float | None

    @cached_property
    def distances(self) -> Distances:
        """The distances between the rewards, computed on first use."""
        shaped = {
            arm: np.concatenate([result.rewards.shaped for result in returns])
            for arm, returns in self.returns.items()
        }
        environment, gamma = self.study.environment.describe(), self.study.training.gamma
        return reward_distances(environment, self.kernels, self.behaviors, shaped, gamma)

    @cached_property
    def invariance(self) -> dict[str, Invariance]:
        """The test of the invariance theorem for every arm with a potential."""
        return {
            arm: _verify_invariance(kernel, self.returns[arm])
            for arm, kernel in self.kernels.items()
            if kernel.mode == "potential"
        }

    def evaluated_returns(self, arm: str) -> list[BehaviorReturn]:
        """Return the behaviors' returns under an arm's reward, in the evaluation's environment."""
        if self.evaluated is self.behaviors:
            return self.returns[arm]
        kernel = self.kernels[arm]
        return behavior_returns(kernel, self.evaluated, kernel.gamma)

    def select_arms(self, max_arms: int) -> list[str]:
        """Return at most `max_arms` arms in their order, those with an inverted ranking first."""
        inverted = {f.arm for f in self.findings if f.rule == "inverted-ranking"}
        selected = sorted(self.returns, key=lambda arm: arm not in inverted)[:max_arms]
        return [arm for arm in self.returns if arm in selected]

    def document(self) -> dict[str, Any]:
        """Return the JSON document that `check --json` prints."""
        return {
            "study": self.study.study,
            "errors": [],
            "warnings": [vars(finding) for finding in self.findings],
            "rankings": {arm: _rank(returns) for arm, returns in self.returns.items()},
            "distances": {
                "rewards": self.distances.names,
                "pearson": _nan_to_none(self.distances.pearson),
                "epic": _nan_to_none(self.distances.epic),
            },
            "invariance": {arm: vars(result) for arm, result in self.invariance.items()},
        }


def check_study(
    study: Study,
    arms: Mapping[str, RewardConfig],
    *,
    difference: float | None = None,
    spread: float | None = None,
) -> Check:
    """Record the environment's behaviors once, and apply every arm's reward to them.

    They are played with the options of training, which is what rewards are paid for, and for the
    study's power also with those of the evaluation, if it has any.

    The arms are the study's, or those of its sweep. `difference` is the smallest difference in
    environment return that matters, by default a tenth of the range of the behaviors' returns, if
    the environment has controllers; `spread` is the standard deviation between finished runs of an
    arm, if known.

    Raises:
        UserError: the environment cannot be played, or a reward is not finite.
    """
    behaviors = record_behaviors(study.environment)
    evaluated = behaviors
    if study.evaluation.options:
        evaluated = record_behaviors(study.evaluated_environment)
    environment = study.environment.describe()
    kernels, returns, findings = {}, {}, []
    for arm, config in arms.items():
        reward, training = study.resolve_reward(config), study.training_of(config)
        kernel = kernels[arm] = training.kernel(environment, reward)
        try:
            results = behavior_returns(kernel, behaviors, training.gamma)
        except RewardError as error:
            raise UserError(f"invalid reward for arm {arm}: {error}") from error
        context = ArmContext(study, environment, arm, reward, training, kernel, results)
        findings += apply_rules(ARM_RULES, context)
        # Only the findings need single terms; those of many arms would fill the memory.
        returns[arm] = [result.without_terms() for result in results]
    if difference is None and environment.controllers:
        difference = default_difference(evaluated)
    context_of_study = StudyContext(study, behaviors, evaluated, difference, spread)
    findings += apply_rules(STUDY_RULES, context_of_study)
    return Check(study, behaviors, evaluated, kernels, returns, findings, difference)


def _verify_invariance(kernel: RewardKernel, returns: Sequence[BehaviorReturn]) -> Invariance:
    """Measure how far discounted shaped less environment returns are from −Φ(s₀)."""
    deviations, sizes = [0.0], [1.0]
    for result in returns:
        behavior, gamma = result.behavior, result.gamma
        transition = behavior.transition
        first = kernel.factor(0.0) * kernel.potential(transition.obs[behavior.starts])
        env_return = behavior.sum_per_episode(transition.env_reward, gamma)
        deviations.append(float(np.abs(result.discounted - env_return + first).max()))
        sizes.append(float(behavior.sum_per_episode(np.abs(result.rewards.shaped), gamma).max()))
        sizes.append(float(np.abs(result.tails).max() + np.abs(first).max()))
    steps = max(len(r.behavior.transition) for r in returns)
    episodes = sum(len(r.behavior.episodes) for r in returns)
    return Invariance(episodes, max(deviations), max(sizes) * steps * float(np.finfo(float).eps))


def _rank(returns: Sequence[BehaviorReturn]) -> list[dict[str, Any]]:
    """Return one arm's behaviors as JSON, the best paid first."""
    return [
        {
            "controller": result.behavior.name,
            "shaped_return": result.shaped_return,
            "discounted_return": result.discounted_return,
            "environment_return": result.environment_return,
            "length": result.behavior.length,
            "outcome": result.behavior.outcome,
            **({"metrics": dict(result.behavior.metrics)} if result.behavior.metrics else {}),
        }
        for result in sorted(returns, key=lambda result: -result.discounted_return)
    ]


def _nan_to_none(matrix: np.ndarray) -> list[list[float | None]]:
    return [[None if math.isnan(x) else float(x) for x in row] for row in matrix]
