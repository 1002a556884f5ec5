"""Runs of PPO trained together, in one process and one stack of networks.

All their actions come from one batched pass, one stacked update trains all their networks. Still
a run is the same to the byte whoever is beside it: environments, generators, losses, gradient norm
and optimiser steps are its own, and nothing rounds by what stands beside it (`stacked_policy`). One
that diverges, or fails in its environment, is left out from then on; zeros take its place.

R is the number of runs, E the copies of the environment of each, T the steps of a rollout.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from shaperun.training import sb3_model
from shaperun.training.algorithms.ppo import Rollout, StackedPPO, advantages_and_returns
from shaperun.training.checkpoint import Memory
from shaperun.training.evaluation import WIDTH
from shaperun.training.normalization import scaled_as_now, scaled_observations, scaled_rewards
from shaperun.training.run import Trainee, diverged
from shaperun.training.stacked.actor import draw_noise, features_of

Array = npt.NDArray[Any]


def train(trainees: Sequence[Trainee], until: int | None) -> dict[int, Exception]:
    """Train runs that are alike in all but rewards and seeds, and equally far.

    Args:
        trainees: the runs; those that come to their end are written.
        until: stop at the first rollout that begins after so many steps, and keep the runs there.

    Returns:
        what became of those that failed, by their place.
    """
    cohort = Cohort(trainees)
    cohort.evaluate_if_due()
    while cohort.going_on and cohort.timesteps < cohort.total_timesteps:
        if cohort.begin_rollout(until):
            return cohort.failures
        cohort.update(cohort.collect_rollout())
    cohort.end()
    return cohort.failures


def _give_back_memory() -> None:
    """Return what is free of the heap to the system, where the C library can (glibc).

    A physics world is one large block, made anew for every episode. Small things settle in the
    place of an old one, and the heap of many runs would grow by gigabytes, most of it unused.
    """
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim:
            trim(0)


class Cohort:
    """R runs, and how far they are.

    Attributes:
        timesteps: environment steps that each run has taken.
        failures: why a run is left out, by its place.
    """

    def __init__(self, trainees: Sequence[Trainee]) -> None:
        self._trainees = trainees
        self.failures: dict[int, Exception] = {}
        self._model: Any = trainees[0].model  # its hyperparameters are everybody's
        self.total_timesteps = trainees[0].total_timesteps
        self.timesteps: int = self._model.num_timesteps
        self._generators = [torch.Generator().manual_seed(t.policy_seed) for t in trainees]
        self._shuffles = [np.random.RandomState(t.batch_seed) for t in trainees]
        models: list[Any] = [trainee.model for trainee in trainees]
        device = trainees[0].config.training.device
        self._learners = StackedPPO(models, self._shuffles, device)
        self._policy = self._learners.policy
        self._reports: list[dict[str, float]] = [{} for _ in trainees]
        space: Any = self._model.observation_space
        shape: tuple[int, ...] = (len(trainees), self._model.n_envs, *space.shape)
        self._obs: Array = np.zeros(shape, space.dtype)  # the last ones (R, E, …)
        self._starts = np.ones(shape[:2], np.float32)  # whether an episode begins with them
        for run in range(len(trainees)):
            with self._of(run):
                self._obs[run] = self._first_obs(run)

    @property
    def going_on(self) -> list[int]:
        """The places of the runs that have not failed."""
        return [run for run in range(len(self._trainees)) if run not in self.failures]

    def evaluate_if_due(self) -> None:
        """Evaluate the policies where it is time."""
        runs = self.going_on
        due = [
            run for run in runs if self._trainees[run].recording.evaluation_is_due(self.timesteps)
        ]
        if due:
            self._evaluate(due, final=False)

    def begin_rollout(self, until: int | None) -> bool:
        """Record the update before, and keep the runs if it is time; whether they are to stop."""
        enough = until is not None and self.timesteps >= until
        due = [self._trainees[run].recording.keep_is_due() for run in self.going_on]
        keeps = enough or (self.timesteps > 0 and any(due))
        for run in self.going_on:
            with self._of(run) as trainee:
                trainee.recording.updated(self.timesteps, self._reports[run])
                if keeps:
                    trainee.recording.keep(self.timesteps, self._memory(run))
                if enough:
                    trainee.recording.progress(self.timesteps, "")
        if keeps:
            _give_back_memory()
        return enough

    def collect_rollout(self) -> Rollout:
        """Act for T steps in all environments, and reckon what every action was worth."""
        noise, actor = self._noise(), self._policy.actor()
        seen, acted, starts, beyond = [], [], [self._starts], []
        for step in range(self._model.n_steps):
            seen.append(actor.features(self._obs))
            acted.append(actor.actions(seen[-1], noise[step]))
            beyond.append(self._step(actor.to_environment(acted[-1])))
            starts.append(self._starts)
            self.evaluate_if_due()
        features, actions = self._tensor(np.stack(seen)), self._tensor(np.stack(acted))
        values, log_probs = self._policy.evaluate_actions(features, actions)
        episode_starts = np.stack(starts)
        advantages, returns = advantages_and_returns(
            self._rewards(episode_starts[1:] > 0) + np.stack(beyond),
            values.cpu().numpy(),
            episode_starts,
            self._values_of(self._obs),
            gamma=self._model.gamma,
            gae_lambda=self._model.gae_lambda,
        )
        scalars = (values, log_probs, self._tensor(advantages), self._tensor(returns))
        return Rollout(features, actions, *scalars)

    def update(self, rollout: Rollout) -> None:
        """Learn from a rollout."""
        progress_remaining = 1.0 - self.timesteps / self.total_timesteps
        self._reports = self._learners.update(rollout, progress_remaining)
        for run in self.going_on:
            if self._learners.diverged[run]:
                self._leave_out(run, diverged(self.timesteps))
            else:
                self._trainees[run].on_its_way = True

    def end(self) -> None:
        """Evaluate for the last time, and write the policies."""
        for run in self.going_on:
            with self._of(run) as trainee:
                trainee.recording.updated(self.timesteps, self._reports[run], last=True)
        self._evaluate(self.going_on, final=True)
        for run in self.going_on:
            with self._of(run) as trainee:
                self._hand_back(run)
                trainee.finish()

    def _step(self, actions: Array) -> Array:
        """Step all environments; what is to be expected beyond each step (R, E).

        That is γ · V(last observation) where a time limit ended an episode, and 0 elsewhere.
        """
        self.timesteps += self._model.n_envs
        # New arrays: the old ones are part of the rollout.
        obs, last_obs = np.zeros((2, *self._obs.shape), self._obs.dtype)
        starts, cut = np.zeros((2, *self._starts.shape), np.float32)
        for run in self.going_on:
            with self._of(run) as trainee:
                trainee.copies.act(actions[run])
        for run in self.going_on:
            with self._of(run) as trainee:
                step = trainee.copies.observe()
                obs[run] = scaled_observations(trainee.envs, step.obs)
                starts[run] = step.terminated | step.truncated
                if step.last_obs is not None:
                    cut[run] = step.truncated & ~step.terminated
                    last_obs[run] = scaled_as_now(trainee.envs, step.last_obs)
                trainee.recording.stepped(self.timesteps)
        self._obs, self._starts = obs, starts
        if not cut.any():
            return np.asarray(cut)
        return np.asarray(np.float32(self._model.gamma) * self._values_of(last_obs) * cut)

    def _rewards(self, ended: Array) -> Array:
        """What the learners are paid for a rollout (T, R, E), given where episodes ended in it."""
        rewards = np.zeros(ended.shape, np.float32)
        for run in self.going_on:
            with self._of(run) as trainee:
                shaped = trainee.copies.shaped().astype(np.float32)
                rewards[:, run] = scaled_rewards(trainee.envs, shaped, ended[:, run])
        return rewards

    def _evaluate(self, runs: Sequence[int], *, final: bool) -> None:
        """Play the held-out episodes with the policies of some runs at once."""
        share = min(1.0, self.timesteps / self.total_timesteps)
        obs = np.zeros((len(self._trainees), WIDTH, *self._obs.shape[2:]), self._obs.dtype)
        playing = {}
        for run in runs:
            with self._of(run) as trainee:
                trainee.recording.progress(self.timesteps, "evaluating")
                playing[run] = trainee.evaluation.play(trainee.episodes(final=final), share)
        scalings = {run: self._trainees[run].scaling for run in playing}
        actor, actions = self._policy.actor(), cast(Any, [None] * len(obs))
        while playing:
            for run in list(playing):
                with self._of(run) as trainee:
                    try:
                        shown, scaling = playing[run].send(actions[run]), scalings[run]
                        obs[run] = scaling(shown) if scaling else shown
                    except StopIteration as end:
                        del playing[run]
                        trainee.recording.evaluated(self.timesteps, end.value)
                if run in self.failures:
                    playing.pop(run, None)
            if playing:
                actions = actor.act(obs)

    def _first_obs(self, run: int) -> Array:
        """Where a run begins, or goes on with its generators as they were."""
        trainee: Any = self._trainees[run]
        if not trainee.kept:
            return np.asarray(trainee.envs.reset())
        kept = trainee.kept["learner"]
        self._generators[run].set_state(torch.from_numpy(kept["torch"].copy()))
        self._shuffles[run].set_state(kept["numpy"])
        self._starts[run] = trainee.model._last_episode_starts
        return np.asarray(trainee.model._last_obs)

    def _values_of(self, obs: Array) -> Array:
        """What the critics expect (R, E) after observations (R, E, …)."""
        features = self._tensor(features_of(obs, self._model.observation_space))
        return self._policy.values(features).cpu().numpy()

    def _tensor(self, array: Array) -> Tensor:
        """An array where the learners are, in their precision."""
        return torch.from_numpy(array).to(self._policy.rows)

    def _noise(self) -> Array:
        """What the actions of a rollout are made of (T, R, E, K), each run's from its generator."""
        space, dtype = self._model.action_space, self._policy.rows.dtype
        shape = (self._model.n_steps, self._model.n_envs, self._policy.outputs)
        return np.stack([draw_noise(space, dtype, shape, gen) for gen in self._generators], 1)

    def _memory(self, run: int) -> Memory:
        """What a run's learner goes on from, in the form of the engine for one."""
        self._hand_back(run)
        return sb3_model.memory(self._trainees[run].model) | {
            "torch": self._generators[run].get_state().numpy(),
            "numpy": self._shuffles[run].get_state(legacy=False),
        }

    def _hand_back(self, run: int) -> None:
        """Put a run's learner where it is now."""
        model: Any = self._trainees[run].model
        self._learners.hand_back(run, model)
        model.num_timesteps = self.timesteps
        model._current_progress_remaining = 1.0 - self.timesteps / self.total_timesteps
        model._last_obs = self._obs[run].copy()
        model._last_episode_starts = self._starts[run].astype(bool)

    @contextmanager
    def _of(self, run: int) -> Iterator[Trainee]:
        """What is done for one run; what goes wrong there is its own matter."""
        trainee = self._trainees[run]
        try:
            with trainee.speaking():
                yield trainee
        except Exception as error:
            self._leave_out(run, error)

    def _leave_out(self, run: int, error: Exception) -> None:
        self.failures[run] = self._trainees[run].cause(error)
        self._learners.leave_out(run)
        self._obs[run], self._starts[run] = 0, 1
