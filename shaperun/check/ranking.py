"""What a reward pays each behaviour, and where it prefers what the environment ranks low."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from shaperun.check.behaviours import Behaviour
from shaperun.common.text import humanize
from shaperun.envs.base import Array
from shaperun.rewards.kernel import RewardError, RewardKernel, Rewards

# A difference counts if it is this many standard errors, and this part of the whole spread.
STANDARD_ERRORS, MIN_SHARE = 3.0, 0.05


@dataclass(frozen=True)
class BehaviourReturn:
    """What an arm's reward pays for a behaviour, step by step and by the episode.

    `rewards` are of the transitions (N,); `gamma` is the learner's discount factor.
    """

    behaviour: Behaviour
    rewards: Rewards
    gamma: float

    @cached_property
    def shaped(self) -> Array:
        """The shaped return of each episode, undiscounted."""
        return self.behaviour.per_episode(self.rewards.shaped)

    @cached_property
    def discounted(self) -> Array:
        """The shaped return of each episode as the learner sees it from the start: discounted."""
        return self.behaviour.per_episode(self.rewards.shaped, self.gamma)

    def without_terms(self) -> BehaviourReturn:
        """The same without the raw values of the terms, which are most of its size."""
        return replace(self, rewards=replace(self.rewards, raw=self.rewards.raw[:0].copy()))

    @property
    def environment(self) -> Array:
        """The environment return of each episode, undiscounted."""
        return self.behaviour.returns

    @property
    def shaped_return(self) -> float:
        """The mean shaped return."""
        return float(self.shaped.mean())

    @property
    def discounted_return(self) -> float:
        """The mean discounted shaped return."""
        return float(self.discounted.mean())

    @property
    def environment_return(self) -> float:
        """The mean environment return."""
        return float(self.environment.mean())


def behaviour_returns(
    kernel: RewardKernel, behaviours: Sequence[Behaviour], gamma: float
) -> list[BehaviourReturn]:
    """What a reward pays for every behaviour, at the start of training.

    Raises:
        RewardError: the reward is not finite; the message names the behaviour and the step.
    """
    return [BehaviourReturn(b, _rewards(kernel, b), gamma) for b in behaviours]


def _rewards(kernel: RewardKernel, behaviour: Behaviour) -> Rewards:
    try:
        return kernel(behaviour.transition)
    except RewardError as error:
        if error.row is None:
            raise
        episode = int(np.searchsorted(behaviour.starts, error.row, side="right")) - 1
        where = error.at(episode, int(behaviour.ages[error.row]))
        raise RewardError(f"{where} when it tries to {humanize(behaviour.name)}") from None


def most_rewarded(paid: Sequence[BehaviourReturn]) -> BehaviourReturn:
    """What the learner would choose among the behaviours: most discounted shaped return."""
    return max(paid, key=lambda payment: payment.discounted_return)


def best_by_environment(paid: Sequence[BehaviourReturn]) -> BehaviourReturn:
    """What the environment ranks highest."""
    return max(paid, key=lambda payment: payment.environment_return)


def inversions(paid: Sequence[BehaviourReturn]) -> list[BehaviourReturn]:
    """The behaviours that the reward prefers although the environment ranks them clearly lower.

    They are paid clearly more than the one that the environment ranks highest; the best paid first.
    """
    top = best_by_environment(paid)
    found = [
        payment
        for payment in paid
        if _clearly_more([p.environment for p in paid], top.environment, payment.environment)
        and _clearly_more([p.discounted for p in paid], payment.discounted, top.discounted)
    ]
    return sorted(found, key=lambda payment: -payment.discounted_return)


def _clearly_more(everybody: Sequence[Array], more: Array, less: Array) -> bool:
    """Whether one behaviour's returns are clearly above another's, on the same starts."""
    common = min(len(more), len(less))
    differences = more[:common] - less[:common]
    error = differences.std(ddof=1) / np.sqrt(common) if common > 1 else 0.0
    means = [returns.mean() for returns in everybody]
    return bool(
        differences.mean() > max(STANDARD_ERRORS * error, MIN_SHARE * (max(means) - min(means)))
    )
