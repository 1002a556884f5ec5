"""Every training episode as a row of a table: what its steps add up to, and whether they do."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from shaperun.envs.base import Environment, Transition
from shaperun.rewards.kernel import RewardError, RewardKernel, Rewards, check_identity

Row = dict[str, object]


def episode_columns(kernel: RewardKernel) -> list[str]:
    """The columns of a recorded training episode: undiscounted sums, terms by their raw values.

    `timesteps` counts the environment steps of the whole run up to the episode's end. Where the
    reward has a schedule, `schedule` is its mean factor over the episode.
    """
    rewards = ["return", "shaping", "shaped_return"]
    sums = [f"sum_{term}" for term in kernel.names]
    schedule = ["schedule"] if kernel.scheduled else []
    return ["timesteps", "copy", "length", "outcome", *rewards, *schedule, *sums]


class EpisodeRecorder:
    """Adds up the steps of N copies of an environment, and emits a row when an episode ends."""

    def __init__(
        self,
        environment: Environment,
        kernel: RewardKernel,
        copies: int,
        emit: Callable[[Row], None],
    ) -> None:
        self.timesteps = 0
        self.recent_returns: deque[float] = deque(maxlen=100)
        self.lengths = np.zeros(copies, dtype=int)  # of the episodes under way
        self._episodes = np.zeros_like(self.lengths)  # that ended before them
        self._environment, self._kernel, self._emit = environment, kernel, emit
        # Per copy: the raw terms, then environment reward, shaping, shaped reward and schedule.
        self._sums = np.zeros((copies, len(kernel.names) + 4))
        self._all_steps, self._all_episodes = np.zeros((2, len(kernel.names) + 4))

    def record(self, transition: Transition, rewards: Rewards) -> None:
        """Take in some steps of every copy: T · N transitions, one step after the other."""
        parts = np.empty((len(transition), self._sums.shape[1]))
        parts[:, :-4] = rewards.raw
        parts[:, -4], parts[:, -3] = rewards.env_reward, rewards.shaping
        parts[:, -2], parts[:, -1] = rewards.shaped, rewards.schedule
        self._all_steps += parts.sum(axis=0)
        steps = parts.reshape(-1, *self._sums.shape)
        ended = transition.ended.reshape(len(steps), -1)
        begin = 0
        for last in np.flatnonzero(ended.any(axis=1)).tolist():
            self._add(steps[begin : last + 1])
            begin = last + 1
            copies = np.flatnonzero(ended[last])
            self._end(copies, transition.take(last * len(self.lengths) + copies))
        self._add(steps[begin:])

    def locate(self, error: RewardError, copy: int, step: int = 0) -> RewardError:
        """An error in the next step of a copy, or some later, with the place where that is."""
        return error.at(int(self._episodes[copy]), int(self.lengths[copy]) + step)

    def get_state(self) -> dict[str, Any]:
        """The sums so far."""
        return {
            "timesteps": self.timesteps,
            "recent_returns": list(self.recent_returns),
            "lengths": self.lengths.copy(),
            "episodes": self._episodes.copy(),
            "sums": self._sums.copy(),
            "all_steps": self._all_steps.copy(),
            "all_episodes": self._all_episodes.copy(),
        }

    def set_state(self, memory: dict[str, Any]) -> None:
        """Go on from there."""
        self.timesteps = memory["timesteps"]
        self.recent_returns.extend(memory["recent_returns"])
        self.lengths, self._episodes = memory["lengths"], memory["episodes"]
        self._sums = memory["sums"]
        self._all_steps, self._all_episodes = memory["all_steps"], memory["all_episodes"]

    def check(self) -> None:
        """The recorded episodes and those under way must add up to all the steps there were.

        Raises:
            ArithmeticError: they do not.
        """
        check_identity("sum of all steps", self._all_steps, self._all_episodes + self._sums.sum(0))

    def _add(self, steps: npt.NDArray[np.float64]) -> None:
        """Add steps (T, N, parts) in which no episode ends but in the last."""
        self._sums += steps.sum(axis=0)
        self.lengths += len(steps)
        self.timesteps += len(steps) * len(self.lengths)

    def _end(self, copies: npt.NDArray[np.intp], ends: Transition) -> None:
        sums = self._sums[copies]
        raw, (env_return, shaping, shaped, schedule) = sums[:, :-4], sums[:, -4:].T
        # What changes within an episode does not follow from the sums alone.
        if not (self._kernel.mode == "potential" or self._kernel.scheduled):
            check_identity("shaping of an episode", shaping, raw @ self._kernel.weights)
        if not (self._kernel.mode == "replace" and self._kernel.scheduled):
            check_identity("shaped return", shaped, self._kernel.shaped(env_return, shaping))
        outcomes = self._environment.outcome(ends)
        for row, copy in enumerate(copies):
            self._emit(
                {
                    "timesteps": self.timesteps,
                    "copy": int(copy),
                    "length": int(self.lengths[copy]),
                    "outcome": str(outcomes[row]),
                    "return": float(env_return[row]),
                    "shaping": float(shaping[row]),
                    "shaped_return": float(shaped[row]),
                    **(
                        {"schedule": float(schedule[row] / self.lengths[copy])}
                        if self._kernel.scheduled
                        else {}
                    ),
                    **{
                        f"sum_{name}": float(value)
                        for name, value in zip(self._kernel.names, raw[row], strict=True)
                    },
                }
            )
            self.recent_returns.append(float(env_return[row]))
        self._all_episodes += sums.sum(axis=0)
        self._sums[copies] = 0.0
        self.lengths[copies] = 0
        self._episodes[copies] += 1
