"""The returns of behaviors under a reward, and the rankings that contradict the environment's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from shaperun.check.behaviors import Behavior
from shaperun.common.text import humanize
from shaperun.envs.base import Array
from shaperun.rewards.kernel import RewardError, RewardKernel, Rewards

# A difference counts above this many standard errors and this share of the range of all returns.
STANDARD_ERRORS, MIN_SHARE = 3.0, 0.05


@dataclass(frozen=True)
class BehaviorReturn:
    """The rewards (N,) of one behavior's transitions under one arm, and their sums per episode.

    `gamma` is the learner's discount factor. `tails` (episodes,) are the discounted potentials that
    the learner still has to pay back after truncated episodes, as they go on for it; else 0.
    """

    behavior: Behavior
    rewards: Rewards
    gamma: float
    tails: Array

    @property
    def name(self) -> str:
        """The behavior's name in words."""
        return humanize(self.behavior.name)

    @cached_property
    def shaped(self) -> Array:
        """The undiscounted shaped return of each episode."""
        return self.behavior.sum_per_episode(self.rewards.shaped)

    @cached_property
    def discounted(self) -> Array:
        """The discounted shaped return of each episode, which the learner maximizes."""
        return self.behavior.sum_per_episode(self.rewards.shaped, self.gamma) - self.tails

    def without_terms(self) -> BehaviorReturn:
        """Return a copy without the raw values of the terms, which take most of the memory."""
        return replace(self, rewards=replace(self.rewards, raw=self.rewards.raw[:0].copy()))

    @property
    def environment(self) -> Array:
        """The undiscounted environment return of each episode."""
        return self.behavior.returns

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


def behavior_returns(
    kernel: RewardKernel, behaviors: Sequence[Behavior], gamma: float, progress: float = 0.0
) -> list[BehaviorReturn]:
    """Apply a reward, as after a share of training, to every behavior.

    Raises:
        RewardError: the reward is not finite; the message names the behavior and the step.
    """
    return [
        BehaviorReturn(
            b, _compute_rewards(kernel, b, progress), gamma, _potential_tails(kernel, b, progress)
        )
        for b in behaviors
    ]


def _potential_tails(kernel: RewardKernel, behavior: Behavior, progress: float) -> Array:
    """Return γᴺ Φ(s_N) of each episode (episodes,) that goes on for the learner, else 0."""
    ends = behavior.transition.take(behavior.ends)
    if kernel.mode != "potential":
        return np.zeros(len(ends))
    steps = behavior.ages[behavior.ends] + 1.0
    tails = kernel.gamma**steps * kernel.factor(progress) * kernel.potential(ends.next_obs)
    return np.where(kernel.is_final(ends), 0.0, tails)


def _compute_rewards(kernel: RewardKernel, behavior: Behavior, progress: float) -> Rewards:
    try:
        return kernel(behavior.transition, (progress, progress))
    except RewardError as error:
        if error.row is None:
            raise
        episode = int(np.searchsorted(behavior.starts, error.row, side="right")) - 1
        located = error.at(episode, int(behavior.ages[error.row]))
        raise RewardError(f"{located} of the behavior {behavior.name}") from error


def most_rewarded(returns: Sequence[BehaviorReturn]) -> BehaviorReturn:
    """Return the behavior with the highest mean discounted shaped return."""
    return max(returns, key=lambda result: result.discounted_return)


def best_by_environment(returns: Sequence[BehaviorReturn]) -> BehaviorReturn:
    """Return the behavior with the highest mean environment return."""
    return max(returns, key=lambda result: result.environment_return)


def inversions(returns: Sequence[BehaviorReturn]) -> list[BehaviorReturn]:
    """Return the behaviors that the reward ranks wrongly above the environment's best one.

    Their environment return is clearly lower, and their discounted shaped return clearly higher;
    the best paid comes first.
    """
    top = best_by_environment(returns)
    environment, discounted = ([r.environment for r in returns], [r.discounted for r in returns])
    inverted = [
        result
        for result in returns
        if _clearly_above(environment, top.environment, result.environment)
        and _clearly_above(discounted, result.discounted, top.discounted)
    ]
    return sorted(inverted, key=lambda result: -result.discounted_return)


def _clearly_above(returns: Sequence[Array], more: Array, less: Array) -> bool:
    """Return whether `more` exceeds `less` on their common starts by more than noise."""
    common = min(len(more), len(less))
    differences = more[:common] - less[:common]
    error = differences.std(ddof=1) / np.sqrt(common) if common > 1 else 0.0
    means = [values.mean() for values in returns]
    return bool(
        differences.mean() > max(STANDARD_ERRORS * error, MIN_SHARE * (max(means) - min(means)))
    )
