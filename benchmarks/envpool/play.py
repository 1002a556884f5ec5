"""Episodes of a hand-written policy, played by the same code in both backends."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from shaperun.envs.base import Controller, Environment, Transition
from shaperun.envs.layout import flatten_rows
from shaperun.training.envpool_vector_env import EnvPoolVectorEnv
from shaperun.training.vector_env import Array, SequentialVectorEnv, Step

VectorEnv = SequentialVectorEnv | EnvPoolVectorEnv


@dataclass(frozen=True)
class Episodes:
    """Arrays (n,) of n episodes, and their last observations (n, observation size)."""

    returns: npt.NDArray[np.float64]
    lengths: npt.NDArray[np.int64]
    outcomes: npt.NDArray[np.str_]
    last_obs: npt.NDArray[Any]

    def __len__(self) -> int:
        return len(self.returns)


def play(
    envs: VectorEnv,
    environment: Environment,
    controller: Controller,
    seeds: Sequence[int],
    per_copy: int,
) -> Episodes:
    """Play the first `per_copy` episodes of every copy, one copy per seed.

    A fixed number per copy, since short episodes would be overrepresented among the first of all.
    """
    obs = envs.reset(seeds)
    policies = [controller.make() for _ in seeds]
    left = np.full(len(seeds), per_copy)
    returns, lengths = np.zeros(len(seeds)), np.zeros(len(seeds), np.int64)
    episodes: list[tuple[float, int, str, Array]] = []
    while left.any():
        # Copies that have finished are stepped too: EnvPool steps all or none.
        chosen = [policy(row) for policy, row in zip(policies, obs, strict=True)]
        actions = np.array(chosen, envs.action_space.dtype)
        step = envs.step(actions)
        returns += step.env_reward
        lengths += 1
        for copy, outcome, last_obs in _iter_ended(environment, obs, actions, step):
            if left[copy]:
                episodes.append((returns[copy], lengths[copy], outcome, last_obs))
                left[copy] -= 1
            returns[copy], lengths[copy] = 0.0, 0
            policies[copy] = controller.make()
        obs = step.obs
    return Episodes(*map(np.array, zip(*episodes, strict=True)))


def _iter_ended(
    environment: Environment, obs: Array, actions: Array, step: Step
) -> Iterator[tuple[int, str, Array]]:
    """Yield index, outcome and last observation of the copies whose episodes end with a step."""
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
        info=None if step.infos is None else np.array(step.infos, dtype=object),
    )
    ended = np.flatnonzero(transition.ended)
    for copy, outcome in zip(ended, environment.outcome(transition.take(ended)), strict=True):
        yield int(copy), str(outcome), step.last_obs[copy]
