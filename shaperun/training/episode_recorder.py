"""Record every training episode as a row of sums, and check that they add up."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from shaperun.envs.base import Environment, Transition
from shaperun.envs.episodes import ObservationError
from shaperun.envs.memory import EpisodeMemory
from shaperun.rewards.kernel import RewardError, RewardKernel, Rewards, check_sums

_Located = TypeVar("_Located", RewardError, ObservationError)

Row = dict[str, object]


def episode_columns(kernel: RewardKernel) -> list[str]:
    """Return the columns of a recorded training episode: undiscounted sums, terms unweighted.

    `timesteps` counts the environment steps of the run up to the end of the episode. With a
    schedule, `schedule` is its mean factor over the episode.
    """
    rewards = ["return", "shaping", "shaped_return"]
    sums = [f"sum_{term}" for term in kernel.names]
    schedule = ["schedule"] if kernel.scheduled else []
    return ["timesteps", "copy", "length", "outcome", *rewards, *schedule, *sums]


class EpisodeRecorder:
    """Sums over the steps of N environments; emits a row when an episode ends."""

    def __init__(
        self,
        environment: Environment,
        kernel: RewardKernel,
        copies: int,
        emit: Callable[[Row], None],
    ) -> None:
        self.timesteps = 0
        self.recent_returns: deque[float] = deque(maxlen=100)
        self.lengths = np.zeros(copies, dtype=int)  # of the current episodes
        self._episodes = np.zeros_like(self.lengths)  # finished
        self._environment, self._kernel, self._emit = environment, kernel, emit
        # Per copy: the raw terms, then environment reward, shaping, shaped reward and schedule.
        self._sums = np.zeros((copies, len(kernel.names) + 4))
        self._memory = EpisodeMemory(copies)  # of outcomes
        self._all_steps, self._all_episodes = np.zeros((2, len(kernel.names) + 4))

    def record(self, transition: Transition, rewards: Rewards) -> None:
        """Record T steps of all environments: T · N transitions, in order of time."""
        parts = np.empty((len(transition), self._sums.shape[1]))
        parts[:, :-4] = rewards.raw
        parts[:, -4], parts[:, -3] = rewards.env_reward, rewards.shaping
        parts[:, -2], parts[:, -1] = rewards.shaped, rewards.schedule
        self._all_steps += parts.sum(axis=0)
        steps = parts.reshape(-1, *self._sums.shape)
        ended = transition.ended.reshape(len(steps), -1)
        recall = self._memory.recall(transition.ended)
        outcomes = self._environment.name_outcomes(transition, recall).tolist()
        self._memory.commit(recall)
        start = 0
        for last in np.flatnonzero(ended.any(axis=1)).tolist():
            self._add_steps(steps[start : last + 1])
            start = last + 1
            copies = np.flatnonzero(ended[last])
            self._end_episodes(copies, outcomes[: len(copies)])
            del outcomes[: len(copies)]
        self._add_steps(steps[start:])

    def locate(self, error: _Located, copy: int, step: int = 0) -> _Located:
        """Return an error with its episode and step: `step` steps after the next one of a copy."""
        return error.at(int(self._episodes[copy]), int(self.lengths[copy]) + step)

    def get_state(self) -> dict[str, Any]:
        """Return the sums so far."""
        return {
            "timesteps": self.timesteps,
            "recent_returns": list(self.recent_returns),
            "lengths": self.lengths.copy(),
            "episodes": self._episodes.copy(),
            "sums": self._sums.copy(),
            "all_steps": self._all_steps.copy(),
            "all_episodes": self._all_episodes.copy(),
            **({"memory": self._memory.get_state()} if self._remembers else {}),
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Resume from a state."""
        self.timesteps = state["timesteps"]
        self.recent_returns.extend(state["recent_returns"])
        self.lengths, self._episodes = state["lengths"], state["episodes"]
        self._sums = state["sums"]
        self._all_steps, self._all_episodes = state["all_steps"], state["all_episodes"]
        if self._remembers:
            self._memory.set_state(state["memory"])

    @property
    def _remembers(self) -> bool:
        # Checkpoints of other runs stay as they were.
        return self._environment.remembering_outcome is not None

    def check(self) -> None:
        """Check that recorded and current episodes add up to all steps.

        Raises:
            ArithmeticError: they do not.
        """
        check_sums("sum of all steps", self._all_steps, self._all_episodes + self._sums.sum(0))

    def _add_steps(self, steps: npt.NDArray[np.float64]) -> None:
        """Add steps (T, N, parts); episodes end in the last one only."""
        self._sums += steps.sum(axis=0)
        self.lengths += len(steps)
        self.timesteps += len(steps) * len(self.lengths)

    def _end_episodes(self, copies: npt.NDArray[np.intp], outcomes: Sequence[str]) -> None:
        """Check and emit the episodes of these copies."""
        sums = self._sums[copies]
        raw, (env_return, shaping, shaped, schedule) = sums[:, :-4], sums[:, -4:].T
        # Parts that depend on more than the sums of an episode cannot be checked here.
        if not (self._kernel.mode == "potential" or self._kernel.scheduled):
            check_sums("shaping of an episode", shaping, raw @ self._kernel.weights)
        if not (self._kernel.mode == "replace" and self._kernel.scheduled):
            check_sums("shaped return", shaped, self._kernel.shaped_reward(env_return, shaping))
        mean_schedules = (schedule / self.lengths[copies]).tolist()
        for row, copy in enumerate(copies):
            self._emit(
                {
                    "timesteps": self.timesteps,
                    "copy": int(copy),
                    "length": int(self.lengths[copy]),
                    "outcome": outcomes[row],
                    "return": float(env_return[row]),
                    "shaping": float(shaping[row]),
                    "shaped_return": float(shaped[row]),
                    **({"schedule": mean_schedules[row]} if self._kernel.scheduled else {}),
                    **{
                        f"sum_{name}": value
                        for name, value in zip(self._kernel.names, raw[row].tolist(), strict=True)
                    },
                }
            )
            self.recent_returns.append(float(env_return[row]))
        self._all_episodes += sums.sum(axis=0)
        self._sums[copies] = 0.0
        self.lengths[copies] = 0
        self._episodes[copies] += 1
