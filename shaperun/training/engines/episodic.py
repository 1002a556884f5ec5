"""One run that learns from whole episodes, without a critic: plays a batch, learns, plays on.

A policy does not change while it plays, so what it is at a certain step is evaluated when its batch
is over. An episode that would take more steps than a run has is not played to its end; the run has
then learned all that it can.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from shaperun.training import sb3_model
from shaperun.training.algorithms.episode_batch import Batch
from shaperun.training.algorithms.grpo import Grpo
from shaperun.training.algorithms.reinforce import Reinforce
from shaperun.training.checkpoint import Memory
from shaperun.training.episodic_envs import EpisodicEnvs
from shaperun.training.normalization import scaled_as_now, scaled_observations
from shaperun.training.run import Trainee, diverged, one_after_another
from shaperun.training.stacked.actor import draw_noise
from shaperun.training.stacked.policy import StackedPolicy

_DRAWN = 64  # steps whose noise is drawn at once


class Learner(Protocol):
    """Improves the policy of a model by whole episodes."""

    def update(self, batch: Batch) -> dict[str, float]:
        """Learn from a batch; what it reports, by stable-baselines3's names."""
        ...

    def memory(self) -> Memory:
        """What it needs to go on beside the policy."""
        ...

    def restore(self, memory: Memory) -> None:
        """Go on from there."""
        ...


LEARNERS: dict[str, type[Reinforce] | type[Grpo]] = {"REINFORCE": Reinforce, "GRPO": Grpo}


def train(trainees: Sequence[Trainee], until: int | None) -> dict[int, Exception]:
    """Train runs one after the other.

    Args:
        trainees: the runs; those that come to their end are written.
        until: stop at the first update after so many steps, and keep the run there.

    Returns:
        what became of those that failed, by their place.
    """
    return one_after_another(trainees, lambda trainee: EpisodicRun(trainee).learn(until))


class EpisodicRun:
    """A run, and how far it is."""

    def __init__(self, trainee: Trainee) -> None:
        assert isinstance(trainee.copies, EpisodicEnvs)  # noqa: S101 (as `trainee.begin` makes them)
        self._trainee, self._envs = trainee, trainee.copies
        model: Any = trainee.model
        self._model = model
        self._policy = StackedPolicy([self._model.policy])
        self._generator = torch.Generator().manual_seed(trainee.policy_seed)
        shuffle = self._shuffle = np.random.RandomState(trainee.batch_seed)
        training = trainee.config.training
        make = LEARNERS[training.algorithm]
        self._learner: Learner = make(self._model, training.hyperparameters, shuffle)
        self._report: dict[str, float] = {}
        # Every update begins with new episodes: nothing is in between.
        obs, envs = self._model.observation_space, self._envs.num_envs
        self._model._last_obs = np.zeros((envs, *obs.shape), obs.dtype)
        self._model._last_episode_starts = np.ones(envs, bool)
        if trainee.kept:
            self._restore(trainee.kept["learner"])

    @property
    def timesteps(self) -> int:
        """Environment steps that the run has learned from."""
        return self._envs.recorder.timesteps

    def learn(self, until: int | None) -> bool:
        """Train to the end, or until so many steps are taken; whether it came to its end.

        Raises:
            FloatingPointError: the training diverged.
        """
        total = self._trainee.total_timesteps
        self._evaluate_between(0, 1)  # the untrained policy is the first point of every curve
        while self._going_on(until):
            began = self.timesteps
            batch = self._play(total - began)
            if batch is None:
                self._evaluate_between(began, total)
                self._end()
                return True
            self._evaluate_between(began, self.timesteps)
            self._update(batch)
            self._trainee.on_its_way = True
        return False

    def _going_on(self, until: int | None) -> bool:
        """Record the update before, and keep the run if it is time; whether to go on."""
        recording, timesteps = self._trainee.recording, self.timesteps
        enough = until is not None and timesteps >= until
        recording.updated(timesteps, self._report)
        if enough or (timesteps > 0 and recording.keep_is_due()):
            recording.keep(timesteps, self._memory())
        if enough:
            recording.progress(timesteps, "")
        return not enough

    def _play(self, most: int) -> Batch | None:
        """An episode of every copy; None if they take more steps than these."""
        self._policy.load(0, self._model.policy.state_dict())
        actor, envs, recording = self._policy.actor(), self._trainee.envs, self._trainee.recording
        seen: list[npt.NDArray[Any]] = []
        acted: list[npt.NDArray[Any]] = []
        noise, taken = np.empty(0), self.timesteps

        def act(obs: npt.NDArray[Any], playing: list[int]) -> npt.NDArray[Any]:
            nonlocal noise, taken
            scaled_observations(envs, obs[playing])
            if len(acted) % _DRAWN == 0:
                noise = self._noise()
            seen.append(scaled_as_now(envs, obs))
            acted.append(actor.actions(actor.features(seen[-1][None]), noise[len(acted) % _DRAWN]))
            taken += len(playing)
            recording.stepped(taken)
            return np.asarray(actor.to_environment(acted[-1])[0])

        rewards = self._envs.play(act, most)
        if rewards is None:
            return None
        space = self._model.action_space.shape
        actions = np.stack(acted)[:, 0]
        return Batch.of(np.stack(seen), actions.reshape(*actions.shape[:2], *space), rewards)

    def _update(self, batch: Batch) -> None:
        model, total = self._model, self._trainee.total_timesteps
        model.num_timesteps = self.timesteps
        # As stable-baselines3 has it: what remained when the episodes began.
        model._current_progress_remaining = 1.0 - (self.timesteps - batch.lengths.sum()) / total
        learning_rate = model.lr_schedule(model._current_progress_remaining)
        for group in model.policy.optimizer.param_groups:
            group["lr"] = learning_rate
        self._report = self._learner.update(batch) | {"train/learning_rate": learning_rate}
        model._n_updates += 1
        log_std = getattr(model.policy, "log_std", None)
        if log_std is not None:
            self._report["train/std"] = float(log_std.exp().mean())
        if not all(bool(torch.isfinite(p).all()) for p in model.policy.parameters()):
            raise diverged(self.timesteps)

    def _evaluate_between(self, first: int, end: int) -> None:
        """Evaluate the policy for all points that are due from one step on, up to another."""
        trainee, rows = self._trainee, None
        every = trainee.config.evaluation.every or 1
        for timesteps in range(-(-first // every) * every, end, every):
            if trainee.recording.evaluation_is_due(timesteps):
                rows = rows or self._evaluated(timesteps, final=False)
                trainee.recording.evaluated(timesteps, rows)

    def _end(self) -> None:
        """Evaluate for the last time: it is the policy that all its steps have come to."""
        trainee = self._trainee
        trainee.recording.updated(self.timesteps, self._report, last=True)
        rows = self._evaluated(trainee.total_timesteps, final=True)
        trainee.recording.evaluated(trainee.total_timesteps, rows)

    def _evaluated(self, timesteps: int, *, final: bool) -> list[dict[str, object]]:
        trainee = self._trainee
        trainee.recording.progress(self.timesteps, "evaluating")
        act = sb3_model.stacked_actor(self._model, trainee.scaling)
        share = min(1.0, timesteps / trainee.total_timesteps)
        return trainee.evaluation(act, trainee.episodes(final=final), share)

    def _noise(self) -> npt.NDArray[Any]:
        """What the actions of some steps are made of (steps, 1, N, K)."""
        space, rows = self._model.action_space, self._policy.rows
        shape = (_DRAWN, 1, self._envs.num_envs, self._policy.outputs)
        return draw_noise(space, rows.dtype, shape, self._generator)

    def _memory(self) -> Memory:
        return sb3_model.memory(self._model) | {
            "torch": self._generator.get_state().numpy(),
            "numpy": self._shuffle.get_state(legacy=False),
            "own": self._learner.memory(),
        }

    def _restore(self, kept: Memory) -> None:
        self._generator.set_state(torch.from_numpy(kept["torch"].copy()))
        self._shuffle.set_state(kept["numpy"])
        self._learner.restore(kept["own"])
