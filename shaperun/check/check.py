"""What a study's rewards pay for, found out in seconds and without training."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from shaperun.check.behaviours import Behaviour, record_behaviours
from shaperun.check.distances import Distances, distances
from shaperun.check.ranking import BehaviourReturn, behaviour_returns
from shaperun.check.rule import ArmContext, Finding, StudyContext
from shaperun.check.rules import arm_findings, default_difference, study_findings
from shaperun.common.errors import UserError
from shaperun.rewards.config import RewardConfig
from shaperun.rewards.kernel import RewardError, RewardKernel
from shaperun.study.models import Study


@dataclass(frozen=True)
class Invariance:
    """How exactly a potential left the discounted returns as they were."""

    episodes: int
    deviation: float
    """The largest |G_shaped − G − (γᴺ Φ(s_N) where truncated − Φ(s₀))| over the episodes."""
    tolerance: float
    """What the rounding of sums of that size explains."""

    @property
    def holds(self) -> bool:
        """Whether the deviation is rounding and nothing else."""
        return self.deviation <= self.tolerance


@dataclass(frozen=True)
class Check:
    """A study's behaviours, what every arm pays them, and what was found."""

    study: Study
    behaviours: list[Behaviour]
    kernels: dict[str, RewardKernel]
    paid: dict[str, list[BehaviourReturn]]
    findings: list[Finding]

    @cached_property
    def distances(self) -> Distances:
        """How far apart the rewards are; worked out when asked for, which training never does."""
        shaped = {arm: [p.rewards.shaped for p in paid] for arm, paid in self.paid.items()}
        return distances(
            self.study.environment.describe(),
            self.kernels,
            self.behaviours,
            {arm: np.concatenate(steps) for arm, steps in shaped.items()},
            self.study.training.gamma,
        )

    @cached_property
    def invariance(self) -> dict[str, Invariance]:
        """The proof for every arm with a potential."""
        return {
            arm: _invariance(kernel, self.paid[arm])
            for arm, kernel in self.kernels.items()
            if kernel.mode == "potential"
        }

    def shown(self, most: int) -> list[str]:
        """The arms to show where there is no room for all: inverted ones, then in their order."""
        inverted = {f.arm for f in self.findings if f.rule == "inverted-ranking"}
        first = sorted(self.paid, key=lambda arm: arm not in inverted)[:most]
        return [arm for arm in self.paid if arm in first]

    def document(self) -> dict[str, Any]:
        """As `check --json` prints it."""
        return {
            "study": self.study.study,
            "errors": [],
            "warnings": [vars(finding) for finding in self.findings],
            "rankings": {arm: _ranking(paid) for arm, paid in self.paid.items()},
            "distances": {
                "rewards": self.distances.names,
                "pearson": _plain(self.distances.pearson),
                "epic": _plain(self.distances.epic),
            },
            "invariance": {arm: vars(proof) for arm, proof in self.invariance.items()},
        }


def check_study(
    study: Study,
    arms: Mapping[str, RewardConfig],
    *,
    difference: float | None = None,
    spread: float | None = None,
) -> Check:
    """Record the environment's behaviours once, and apply every arm's reward to them.

    Args:
        study: the study.
        arms: its arms, or those of its sweep.
        difference: the smallest difference in environment return that matters; a tenth of what
            lies between the best and the worst behaviour if None.
        spread: the standard deviation between finished runs of an arm, if there are any.

    Raises:
        UserError: the environment cannot be played, or a reward is not finite.
    """
    behaviours = record_behaviours(study.environment)
    environment = study.environment.describe()
    difference = difference or default_difference(behaviours)
    kernels, paid, findings = {}, {}, []
    for arm, config in arms.items():
        reward, training = study.resolved(config), study.training_of(config)
        kernels[arm] = RewardKernel(environment, reward, training.gamma)
        try:
            paid[arm] = behaviour_returns(kernels[arm], behaviours, training.gamma)
        except RewardError as error:
            raise UserError(f"the reward of the arm {arm} will not do: {error}") from None
        case = ArmContext(study, environment, arm, reward, training, kernels[arm], paid[arm])
        findings += arm_findings(case)
        # The terms one by one were for the findings; those of many arms would fill the memory.
        paid[arm] = [payment.without_terms() for payment in paid[arm]]
    findings += study_findings(StudyContext(study, behaviours, difference, spread))
    return Check(study, behaviours, kernels, paid, findings)


def _invariance(kernel: RewardKernel, paid: Sequence[BehaviourReturn]) -> Invariance:
    """Discounted shaped minus discounted environment return must be γᴺ Φ(s_N) − Φ(s₀)."""
    deviations, sizes = [0.0], [1.0]
    for payment in paid:
        behaviour, gamma = payment.behaviour, payment.gamma
        transition = behaviour.transition
        ends = np.append(behaviour.starts[1:], len(transition)) - 1
        factor = kernel.factor(0.0)
        first = factor * kernel.potential(transition.obs[behaviour.starts])
        last = factor * kernel.potential(transition.next_obs[ends])
        kept = np.where(transition.terminated[ends], 0.0, gamma ** (behaviour.ages[ends] + 1.0))
        difference = behaviour.per_episode(payment.rewards.shaped, gamma) - behaviour.per_episode(
            transition.env_reward, gamma
        )
        deviations.append(float(np.abs(difference - (kept * last - first)).max()))
        sizes.append(float(behaviour.per_episode(np.abs(payment.rewards.shaped), gamma).max()))
        sizes.append(float(np.abs(last).max() + np.abs(first).max()))
    steps = max(len(p.behaviour.transition) for p in paid)
    episodes = sum(len(p.behaviour.episodes) for p in paid)
    return Invariance(episodes, max(deviations), max(sizes) * steps * float(np.finfo(float).eps))


def _ranking(paid: Sequence[BehaviourReturn]) -> list[dict[str, Any]]:
    """The behaviours of one arm, the best paid first."""
    ordered = sorted(paid, key=lambda payment: -payment.discounted_return)
    return [
        {
            "controller": payment.behaviour.name,
            "shaped_return": payment.shaped_return,
            "discounted_return": payment.discounted_return,
            "environment_return": payment.environment_return,
            "length": payment.behaviour.length,
            "outcome": payment.behaviour.outcome,
        }
        for payment in ordered
    ]


def _plain(matrix: np.ndarray) -> list[list[float | None]]:
    return [[None if math.isnan(x) else float(x) for x in row] for row in matrix]
