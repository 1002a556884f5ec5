"""Vector environment for learners from whole episodes, which may share initial states."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from shaperun.envs.base import Array
from shaperun.envs.episodes import EpisodeBuilder, ObservationError, check_observations
from shaperun.rewards.kernel import RewardError
from shaperun.study.models import RunConfig
from shaperun.training.envs import TrainingEnvs, training_seeds
from shaperun.training.episode_recorder import EpisodeRecorder, Row
from shaperun.training.vector_env import ReplayMismatchError, SequentialVectorEnv

EpisodicAct = Callable[[npt.NDArray[Any], list[int]], npt.NDArray[Any]]
"""Observations (N, …), and the indices of those that count -> actions (N, …)."""


class EpisodicEnvs(TrainingEnvs):
    """N copies that play one episode each; finished ones wait for the others.

    Initial states depend only on the first seed and on the steps that the run has taken, so that
    no generator is stored.
    """

    def __init__(self, config: RunConfig, seeds: list[int], emit: Callable[[Row], None]) -> None:
        super().__init__(config, seeds, emit)
        self._group_size = config.training.episodes_per_start
        self._copy = 0

        def emit_for_copy(row: Row) -> None:
            emit({**row, "copy": self._copy})

        # Episodes are recorded one after the other, as if a single copy had played them all.
        environment = config.environment.describe()
        self.recorder = EpisodeRecorder(environment, self.kernel, 1, emit_for_copy)
        self._episodes_start = 0  # timesteps of the run when the latest episodes began

    def play_episodes(self, act: EpisodicAct, max_steps: int) -> list[Array] | None:
        """Play one episode per copy to its end; shape and record them.

        Returns:
            The shaped rewards of each episode; None if they take more than `max_steps`, and then
            nothing is recorded.

        Raises:
            RewardError: a term or the reward is not finite; the message says where. All episodes
                before it are recorded.
        """
        self._episodes_start = self.recorder.timesteps
        episodes = self._begin_episodes()
        obs, playing, steps = self._obs.copy(), list(range(self.num_envs)), 0
        while playing:
            steps += len(playing)
            if steps > max_steps:
                return None
            self._check_playing(obs, episodes)
            actions = act(obs.copy(), playing)
            each = actions.tolist() if actions.ndim == 1 else actions.copy()
            playing = [copy for copy in playing if not episodes[copy].step(each[copy])]
            for copy in playing:
                obs[copy] = episodes[copy].obs
        return [self._shape_episode(episode) for episode in episodes]

    def get_state(self) -> dict[str, Any]:
        """Return the state between two updates."""
        return {
            "copies": [],  # all episodes have ended
            "began": self._episodes_start,
            "obs": self._obs,
            **self._clock.get_state(),
            "recorder": self.recorder.get_state(),
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Resume from a state.

        Raises:
            ReplayMismatchError: the latest episodes would begin in other states.
        """
        self._episodes_start = state["began"]
        self._clock.set_state(state)
        self.recorder.set_state(state["recorder"])
        self._begin_episodes()
        if not np.array_equal(self._obs, state["obs"]):
            raise ReplayMismatchError("a replayed episode begins in another state")

    def _begin_episodes(self) -> list[EpisodeBuilder]:
        assert isinstance(self._vector_env, SequentialVectorEnv)  # noqa: S101 (studies allow no other)
        stream = np.random.SeedSequence([self._env_seeds[0], self._episodes_start])
        seeds = training_seeds(stream, self.num_envs // self._group_size)
        episodes = [
            EpisodeBuilder.begin(env, copy, seeds[copy // self._group_size])
            for copy, env in enumerate(self._vector_env.envs)
        ]
        self._obs = np.stack([episode.obs for episode in episodes])
        return episodes

    def _check_playing(self, obs: npt.NDArray[Any], episodes: list[EpisodeBuilder]) -> None:
        """Raise ObservationError if an observation (N, …) is not finite."""
        try:
            check_observations(obs, self._environment.id)
        except ObservationError as error:
            first = int(self.recorder.get_state()["episodes"][0])
            raise error.at(first + error.row, len(episodes[error.row].actions)) from None

    def _shape_episode(self, episode: EpisodeBuilder) -> Array:
        transition = episode.transitions()
        try:
            rewards = self.kernel(transition, self._clock.shares(len(transition), 1))
        except RewardError as error:
            raise self.recorder.locate(error, 0, error.row or 0) from error.__cause__
        self._clock.steps += len(transition)
        self._copy = episode.index
        self.recorder.record(transition, rewards)
        return rewards.shaped
