"""What learners without a critic learn from: the whole episodes of one update, and their returns.

E is the number of episodes, T the steps of the longest, S the steps of all of them together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class EpisodeBatch:
    """E episodes; those that begin in the same state stand together, group by group.

    Attributes:
        obs: as the policy saw them, one episode after the other (S, …).
        actions: as it drew them (S, …).
        rewards: (E, T), 0 after the end of an episode.
        lengths: (E,).
    """

    obs: Tensor
    actions: Tensor
    rewards: Array
    lengths: npt.NDArray[np.intp]

    @classmethod
    def from_episodes(
        cls,
        obs: npt.NDArray[Any],
        actions: npt.NDArray[Any],
        rewards: list[Array],
    ) -> EpisodeBatch:
        """A batch of what was seen and done at the same time.

        Args:
            obs: (T, E, …); what stands after the end of an episode does not matter.
            actions: (T, E, …), likewise.
            rewards: of each episode.
        """
        lengths = np.array([len(episode) for episode in rewards])
        padded = np.zeros((len(rewards), len(obs)))
        for row, episode in zip(padded, rewards, strict=True):
            row[: len(episode)] = episode
        steps = _steps(lengths, len(obs))
        return cls(
            torch.from_numpy(obs.swapaxes(0, 1)[steps]),
            torch.from_numpy(actions.swapaxes(0, 1)[steps]),
            padded,
            lengths,
        )

    def returns_to_go(self, gamma: float) -> Array:
        """Σ γ^(k − t) r_k over the steps k from t on (E, T), 0 after the end of an episode.

        Where a time limit ends an episode the sum ends with it: nobody here could say what would
        have followed.
        """
        returns, to_go = np.empty_like(self.rewards), np.zeros(len(self.rewards))
        for step in reversed(range(self.rewards.shape[1])):
            to_go = self.rewards[:, step] + gamma * to_go
            returns[:, step] = to_go
        return returns

    def gather_steps(self, values: Array) -> Tensor:
        """Values (E, T) at the steps that there were (S,), in the order of `obs`."""
        return torch.from_numpy(values[_steps(self.lengths, values.shape[1])]).float()


def _steps(lengths: npt.NDArray[np.intp], longest: int) -> npt.NDArray[np.bool_]:
    """Where there are steps (E, T)."""
    return np.arange(longest) < lengths[:, None]
