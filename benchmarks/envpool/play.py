"""Episodes of a hand-written policy, played the same way in whoever's environments they are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from shaperun.envs.base import Controller, Environment, Transition, flatten_rows
from shaperun.training.vector_env import Array, Step


class Steppable(Protocol):
    """What `Copies` and `EnvPoolVectorEnv` have in common, as far as it takes to play."""

    action_space: Any

    def reset(self, seeds: Sequence[int]) -> Array:
        """Start every copy from its seed; first observations (N, …)."""

    def step(self, actions: Array) -> Step:
        """Step every copy; one that is done restarts in the same step."""


@dataclass(frozen=True)
class Episodes:
    """How n episodes went: arrays (n,), and their last observations (n, observation size)."""

    returns: npt.NDArray[np.float64]
    lengths: npt.NDArray[np.int64]
    outcomes: npt.NDArray[np.str_]
    last_obs: npt.NDArray[Any]

    def __len__(self) -> int:
        return len(self.returns)


def play(
    copies: Steppable,
    environment: Environment,
    controller: Controller,
    seeds: Sequence[int],
    each: int,
) -> Episodes:
    """The first `each` episodes of every copy, one copy a seed.

    So many of every copy, and not the first so many of all: quick ones would be too many of those.
    """
    obs = copies.reset(seeds)
    policies = [controller.make() for _ in seeds]
    left = np.full(len(seeds), each)
    returns, lengths = np.zeros(len(seeds)), np.zeros(len(seeds), np.int64)
    found: list[tuple[float, int, str, Array]] = []
    while left.any():
        # Copies that have had theirs are stepped with the others: a pool knows no other way.
        chosen = [policy(seen) for policy, seen in zip(policies, obs, strict=True)]
        actions = np.array(chosen, copies.action_space.dtype)
        step = copies.step(actions)
        returns += step.env_reward
        lengths += 1
        for copy, outcome, last_obs in _ended(environment, obs, actions, step):
            if left[copy]:
                found.append((returns[copy], lengths[copy], outcome, last_obs))
                left[copy] -= 1
            returns[copy], lengths[copy] = 0.0, 0
            policies[copy] = controller.make()
        obs = step.obs
    return Episodes(*map(np.array, zip(*found, strict=True)))


def _ended(
    environment: Environment, obs: Array, actions: Array, step: Step
) -> Iterator[tuple[int, str, Array]]:
    """The copies whose episodes end with a step: which, how, and their last observations."""
    if step.last_obs is None:
        return
    transition = Transition(
        obs=flatten_rows(obs),
        action=actions,
        next_obs=flatten_rows(step.last_obs),
        env_reward=step.env_reward,
        terminated=step.terminated,
        truncated=step.truncated,
        last_action=actions,  # no outcome depends on it
    )
    ended = np.flatnonzero(transition.ended)
    for copy, outcome in zip(ended, environment.outcome(transition.take(ended)), strict=True):
        yield int(copy), str(outcome), step.last_obs[copy]
