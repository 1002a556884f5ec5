"""Train runs of PPO together, in one process and one stack of networks.

One batched pass computes the actions of all runs, and one stacked update trains all networks. A run
still gives the same bytes whichever runs it is trained with: environments, generators, losses,
gradient norms and optimizer steps are separate, and rounding does not depend on the other runs
(`stacked.policy`). A run that diverges, or fails in its environment, is dropped; zeros take its
place.

R is the number of runs, E the number of environments per run, T the number of steps per rollout.
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
from shaperun.training.checkpoint import StateDict
from shaperun.training.evaluation import EVAL_BATCH_SIZE
from shaperun.training.normalization import (
    normalize_frozen,
    normalize_observations,
    normalize_rewards,
)
from shaperun.training.run import TrainingRun, divergence_error
from shaperun.training.stacked.actor import draw_noise, extract_features

Array = npt.NDArray[Any]


def train(runs: Sequence[TrainingRun]) -> dict[int, Exception]:
    """Train runs that differ only in rewards and seeds; return exceptions by index."""
    cohort = Cohort(runs)
    cohort.evaluate_if_due()
    while cohort.active_runs and cohort.timesteps < cohort.total_timesteps:
        if cohort.begin_rollout():
            return cohort.failures
        cohort.update(cohort.collect_rollout())
    cohort.finish()
    return cohort.failures


def _trim_memory() -> None:
    """Return free heap memory to the system, if the C library can (glibc).

    Every episode allocates a physics world, a large block whose place small objects fill later:
    without trimming, the heap of many runs grows by gigabytes.
    """
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim:
            trim(0)


class Cohort:
    """R runs that are trained together; `failures` has the exception of each dropped run."""

    def __init__(self, runs: Sequence[TrainingRun]) -> None:
        self._runs = runs
        self.failures: dict[int, Exception] = {}
        self._model: Any = runs[0].model  # all have the same hyperparameters
        self.total_timesteps = runs[0].total_timesteps
        self.timesteps: int = self._model.num_timesteps
        self._generators = [torch.Generator().manual_seed(run.policy_seed) for run in runs]
        self._shuffles = [np.random.RandomState(run.batch_seed) for run in runs]
        models: list[Any] = [run.model for run in runs]
        device = runs[0].config.training.device
        self._learners = StackedPPO(models, self._shuffles, device)
        self._policy = self._learners.policy
        self._reports: list[dict[str, float]] = [{} for _ in runs]
        space: Any = self._model.observation_space
        shape: tuple[int, ...] = (len(runs), self._model.n_envs, *space.shape)
        self._obs: Array = np.zeros(shape, space.dtype)  # the latest (R, E, …)
        self._starts = np.ones(shape[:2], np.float32)  # whether an episode begins with them
        for index in range(len(runs)):
            with self._isolated(index) as run:
                self._obs[index] = self._first_obs(index, run)

    @property
    def active_runs(self) -> list[int]:
        """Indices of the runs that have not failed."""
        return [index for index in range(len(self._runs)) if index not in self.failures]

    def evaluate_if_due(self) -> None:
        """Evaluate the policies that are due for an evaluation."""
        active = self.active_runs
        due = [i for i in active if self._runs[i].recorder.evaluation_due(self.timesteps)]
        if due:
            self._evaluate(due, final=False)

    def begin_rollout(self) -> bool:
        """Record the update before it, save checkpoints if due; return whether to pause here."""
        pauses = self._runs[0].options.pauses_at(self.timesteps)
        due = [self._runs[index].recorder.checkpoint_due() for index in self.active_runs]
        saves = pauses or (self.timesteps > 0 and any(due))
        for index in self.active_runs:
            with self._isolated(index) as run:
                run.recorder.on_update(self.timesteps, self._reports[index])
                if saves:
                    run.recorder.save_checkpoint(self.timesteps, self._get_state(index))
                if pauses:
                    run.recorder.report_progress(self.timesteps, "")
        if saves:
            _trim_memory()
        return pauses

    def collect_rollout(self) -> Rollout:
        """Act for T steps in all environments, and compute advantages and returns."""
        noise, actor = self._noise(), self._policy.build_actor()
        all_features, all_actions, starts, bootstraps = [], [], [self._starts], []
        for step in range(self._model.n_steps):
            all_features.append(actor.extract_features(self._obs))
            all_actions.append(actor.compute_actions(all_features[-1], noise[step]))
            bootstraps.append(self._step(actor.to_environment(all_actions[-1])))
            starts.append(self._starts)
            self.evaluate_if_due()
        features = self._tensor(np.stack(all_features))
        actions = self._tensor(np.stack(all_actions))
        values, log_probs = self._policy.evaluate_actions(features, actions)
        episode_starts = np.stack(starts)
        advantages, returns = advantages_and_returns(
            self._rewards(episode_starts[1:] > 0) + np.stack(bootstraps),
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
        for index in self.active_runs:
            if self._learners.diverged[index]:
                self._drop_run(index, divergence_error(self.timesteps))
            else:
                self._runs[index].advanced = True

    def finish(self) -> None:
        """Run the final evaluation, and write the policies."""
        for index in self.active_runs:
            with self._isolated(index) as run:
                run.recorder.on_update(self.timesteps, self._reports[index], last=True)
        self._evaluate(self.active_runs, final=True)
        for index in self.active_runs:
            with self._isolated(index) as run:
                self._export_run(index)
                run.finish()

    def _step(self, actions: Array) -> Array:
        """Step all environments; return the bootstrap value of each step (R, E).

        That is γ · V(last observation) where a time limit ended an episode, and 0 elsewhere.
        """
        self.timesteps += self._model.n_envs
        # The old arrays are part of the rollout.
        obs, last_obs = np.zeros((2, *self._obs.shape), self._obs.dtype)
        starts, truncated = np.zeros((2, *self._starts.shape), np.float32)
        for index in self.active_runs:
            with self._isolated(index) as run:
                run.base_envs.send(actions[index])
        for index in self.active_runs:
            with self._isolated(index) as run:
                step = run.base_envs.receive()
                obs[index] = normalize_observations(run.envs, step.obs)
                starts[index] = step.terminated | step.truncated
                if step.last_obs is not None:
                    truncated[index] = step.truncated & ~step.terminated
                    last_obs[index] = normalize_frozen(run.envs, step.last_obs)
                run.recorder.on_step(self.timesteps)
        self._obs, self._starts = obs, starts
        if not truncated.any():
            return np.asarray(truncated)
        return np.asarray(np.float32(self._model.gamma) * self._values_of(last_obs) * truncated)

    def _rewards(self, ended: Array) -> Array:
        """Return the learners' rewards of a rollout (T, R, E), given where episodes ended."""
        rewards = np.zeros(ended.shape, np.float32)
        for index in self.active_runs:
            with self._isolated(index) as run:
                shaped = run.base_envs.shape_rewards().astype(np.float32)
                rewards[:, index] = normalize_rewards(run.envs, shaped, ended[:, index])
        return rewards

    def _evaluate(self, indices: Sequence[int], *, final: bool) -> None:
        """Play the held-out episodes with the policies of these runs at once."""
        obs = np.zeros((len(self._runs), EVAL_BATCH_SIZE, *self._obs.shape[2:]), self._obs.dtype)
        playing = {}
        for index in indices:
            with self._isolated(index) as run:
                sb3_model.set_updates(run.model, int(self._learners.updates[index]))
                known = run.known_evaluation(final=final)
                if known is not None:
                    run.record_evaluation(self.timesteps, known)
                    continue
                run.recorder.report_progress(self.timesteps, "evaluating")
                progress = run.base_envs.evaluation_progress(self.timesteps)
                playing[index] = run.evaluation.play(run.episodes(final=final), progress)
        scalings = {index: self._runs[index].scaling for index in playing}
        actor, actions = self._policy.build_actor(), cast(Any, [None] * len(obs))
        while playing:
            for index in list(playing):
                with self._isolated(index) as run:
                    try:
                        raw_obs, scaling = playing[index].send(actions[index]), scalings[index]
                        obs[index] = scaling(raw_obs) if scaling else raw_obs
                    except StopIteration as end:
                        del playing[index]
                        run.record_evaluation(self.timesteps, end.value)
                if index in self.failures:
                    playing.pop(index, None)
            if playing:
                actions = actor.act(obs)

    def _first_obs(self, index: int, run: TrainingRun) -> Array:
        """Return the observations a run begins with; a resumed one restores its generators."""
        if not run.checkpoint:
            return np.asarray(run.envs.reset())
        state = run.checkpoint["learner"]
        self._generators[index].set_state(torch.from_numpy(state["torch"].copy()))
        self._shuffles[index].set_state(state["numpy"])
        obs, self._starts[index] = sb3_model.last_observations(run.model)
        return obs

    def _values_of(self, obs: Array) -> Array:
        """Return the critics' values (R, E) of observations (R, E, …)."""
        features = self._tensor(extract_features(obs, self._model.observation_space))
        return self._policy.predict_values(features).cpu().numpy()

    def _tensor(self, array: Array) -> Tensor:
        """Return an array on the device of the learners, in their precision."""
        return torch.from_numpy(array).to(self._policy.rows)

    def _noise(self) -> Array:
        """Draw the noise of a rollout's actions (T, R, E, K), from each run's own generator."""
        space, dtype = self._model.action_space, self._policy.rows.dtype
        shape = (self._model.n_steps, self._model.n_envs, self._policy.outputs)
        return np.stack([draw_noise(space, dtype, shape, gen) for gen in self._generators], 1)

    def _get_state(self, index: int) -> StateDict:
        """Return the state a run's learner resumes from, as the sb3 engine would write it."""
        self._export_run(index)
        return sb3_model.get_state(self._runs[index].model) | {
            "torch": self._generators[index].get_state().numpy(),
            "numpy": self._shuffles[index].get_state(legacy=False),
        }

    def _export_run(self, index: int) -> None:
        """Copy the current state of a run into its model."""
        model: Any = self._runs[index].model
        self._learners.export_run(index, model)
        sb3_model.set_progress(model, self.timesteps, 1.0 - self.timesteps / self.total_timesteps)
        starts = self._starts[index].astype(bool)
        sb3_model.set_last_observations(model, self._obs[index].copy(), starts)

    @contextmanager
    def _isolated(self, index: int) -> Iterator[TrainingRun]:
        """Do something for one run; an error drops that run only."""
        run = self._runs[index]
        try:
            with run.redirect_output():
                yield run
        except Exception as error:
            self._drop_run(index, error)

    def _drop_run(self, index: int, error: Exception) -> None:
        self.failures[index] = self._runs[index].cause(error)
        self._learners.drop_run(index)
        self._obs[index], self._starts[index] = 0, 1
