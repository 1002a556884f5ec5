"""Batches of whole episodes and their returns, for learners without a critic.

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
    """E episodes; episodes that begin in the same state are adjacent.

    Attributes:
        obs: the policy's inputs (S, …), episode by episode.
        actions: the policy's outputs (S, …), before clipping.
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
        """Make a batch of episodes that were played at the same time.

        Observations and actions, (T, E, …), are ignored after the end of an episode.
        """
        lengths = np.array([len(episode) for episode in rewards])
        padded = np.zeros((len(rewards), len(obs)))
        for row, episode in zip(padded, rewards, strict=True):
            row[: len(episode)] = episode
        steps = _step_mask(lengths, len(obs))
        return cls(
            torch.from_numpy(obs.swapaxes(0, 1)[steps]),
            torch.from_numpy(actions.swapaxes(0, 1)[steps]),
            padded,
            lengths,
        )

    def returns_to_go(self, gamma: float) -> Array:
        """Return Σ γ^(k − t) r_k over the steps k ≥ t (E, T), 0 after the end of an episode.

        The sum ends with the episode even at a time limit: without a critic, the rest is unknown.
        """
        returns, to_go = np.empty_like(self.rewards), np.zeros(len(self.rewards))
        for step in reversed(range(self.rewards.shape[1])):
            to_go = self.rewards[:, step] + gamma * to_go
            returns[:, step] = to_go
        return returns

    def gather_steps(self, values: Array) -> Tensor:
        """Return values (E, T) at the steps that were taken (S,), in the order of `obs`."""
        return torch.from_numpy(values[_step_mask(self.lengths, values.shape[1])]).float()


def _step_mask(lengths: npt.NDArray[np.intp], longest: int) -> npt.NDArray[np.bool_]:
    """Return the mask of steps that were taken (E, T)."""
    return np.arange(longest) < lengths[:, None]
