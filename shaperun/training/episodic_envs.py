"""The environments of a run that learns from whole episodes; several of them may begin alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from shaperun.envs.base import Array
from shaperun.envs.episodes import EpisodeBuilder
from shaperun.rewards.kernel import RewardError
from shaperun.study.models import RunConfig
from shaperun.training.envs import TrainingEnvs, training_seeds
from shaperun.training.episode_recorder import EpisodeRecorder, Row
from shaperun.training.vector_env import ReplayMismatchError, SequentialVectorEnv

Act = Callable[[npt.NDArray[Any], list[int]], npt.NDArray[Any]]
"""Observations (N, …), and whose of them are meant -> actions (N, …)."""


class EpisodicEnvs(TrainingEnvs):
    """N copies, each of which plays one episode at a time; who is done waits for the others.

    How the episodes of an update begin depends on the run and on how many steps it has taken, and
    on nothing else: there is no generator to be kept.

    Args:
        config: the run.
        seeds: of the copies; the first one tells all initial states.
        emit: is given a row for every episode that ends.
    """

    def __init__(self, config: RunConfig, seeds: list[int], emit: Callable[[Row], None]) -> None:
        super().__init__(config, seeds, emit)
        self._group_size = config.training.episodes_per_start
        self._copy = 0

        def of_a_copy(row: Row) -> None:
            emit({**row, "copy": self._copy})

        # Episodes are recorded one after another, as if one copy had played them all.
        environment = config.environment.describe()
        self.recorder = EpisodeRecorder(environment, self.kernel, 1, of_a_copy)
        self._began = 0  # steps of the run when its latest episodes began

    def play_episodes(self, act: Act, max_steps: int) -> list[Array] | None:
        """Play an episode of every copy, to its end; shape and record them.

        Args:
            act: the policy; what it does for copies that are done does not matter.
            most: environment steps that are left.

        Returns:
            the shaped rewards of each episode. None if they take more steps than are left: then
            nothing of them is recorded.

        Raises:
            RewardError: a term or the reward is not finite; the message says where. All that came
                before it is recorded.
        """
        self._began = self.recorder.timesteps
        episodes = self._begin()
        obs, playing, taken = self._obs.copy(), list(range(self.num_envs)), 0
        while playing:
            taken += len(playing)
            if taken > max_steps:
                return None
            actions = act(obs.copy(), playing)
            each = actions.tolist() if actions.ndim == 1 else actions.copy()
            playing = [copy for copy in playing if not episodes[copy].step(each[copy])]
            for copy in playing:
                obs[copy] = episodes[copy].states[-1]
        return [self._shaped(episode) for episode in episodes]

    def get_state(self) -> dict[str, Any]:
        """What is needed to go on between two updates."""
        return {
            "copies": [],  # no episode is under way
            "began": self._began,
            "obs": self._obs,
            "steps": self._clock.steps,
            "recorder": self.recorder.get_state(),
        }

    def set_state(self, memory: dict[str, Any]) -> None:
        """Go on from there.

        Raises:
            ReplayMismatchError: the latest episodes begin in other states than they did.
        """
        self._began, self._clock.steps = memory["began"], memory["steps"]
        self.recorder.set_state(memory["recorder"])
        self._begin()
        if not np.array_equal(self._obs, memory["obs"]):
            raise ReplayMismatchError("an episode begins in another state than it did")

    def _begin(self) -> list[EpisodeBuilder]:
        assert isinstance(self._copies, SequentialVectorEnv)  # noqa: S101 (no study has another backend here)
        stream = np.random.SeedSequence([self._reset_with[0], self._began])
        seeds = training_seeds(stream, self.num_envs // self._group_size)
        episodes = [
            EpisodeBuilder.begin(env, copy, seeds[copy // self._group_size])
            for copy, env in enumerate(self._copies.envs)
        ]
        self._obs = np.stack([episode.states[0] for episode in episodes])
        return episodes

    def _shaped(self, episode: EpisodeBuilder) -> Array:
        transition = episode.transitions()
        try:
            rewards = self.kernel(transition, self._clock.shares(len(transition), 1))
        except RewardError as error:
            raise self.recorder.locate(error, 0, error.row or 0) from None
        self._clock.steps += len(transition)
        self._copy = episode.number
        self.recorder.record(transition, rewards)
        return rewards.shaped
