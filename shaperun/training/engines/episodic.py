"""Train a run from whole episodes, without a critic: play a batch, learn, play again.

A policy does not change while it plays, so that evaluations due during a batch are run after it.
A batch that would take more steps than the run has left is not learned from.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from shaperun.training import sb3_model
from shaperun.training.algorithms.episode_batch import EpisodeBatch
from shaperun.training.checkpoint import StateDict
from shaperun.training.episodic_envs import EpisodicEnvs
from shaperun.training.normalization import normalize_frozen, normalize_observations
from shaperun.training.run import TrainingRun, divergence_error, train_sequentially
from shaperun.training.stacked.actor import draw_noise
from shaperun.training.stacked.policy import StackedPolicy

_NOISE_STEPS = 64  # steps whose noise is drawn at once


class EpisodicLearner(Protocol):
    """Improve the policy of a model from whole episodes.

    Its constructor takes the model, the hyperparameters of the study, and the generator for the
    order of minibatches.
    """

    def update(self, batch: EpisodeBatch, progress_remaining: float) -> dict[str, float]:
        """Learn from one episode per environment; return statistics by stable-baselines3's names.

        `progress_remaining` is 1 at the start of training and 0 at its end.
        """
        ...

    def get_state(self) -> StateDict:
        """Return the state besides the policy."""
        ...

    def set_state(self, state: StateDict) -> None:
        """Resume from a state."""
        ...


def train(runs: Sequence[TrainingRun]) -> dict[int, Exception]:
    """Train runs one after the other; return the exception of each failed run, by index."""
    return train_sequentially(runs, lambda run: EpisodicTraining(run).learn())


class EpisodicTraining:
    """The training of one run."""

    def __init__(self, run: TrainingRun) -> None:
        assert isinstance(run.base_envs, EpisodicEnvs)  # noqa: S101 (as `open_run` makes them)
        self._run, self._envs = run, run.base_envs
        self._model: Any = run.model
        policy: Any = run.model.policy
        self._policy = StackedPolicy([policy])
        self._generator = torch.Generator().manual_seed(run.policy_seed)
        shuffle = self._shuffle = np.random.RandomState(run.batch_seed)
        training = run.config.training
        make: Any = sb3_model.load_implementation(training.learner)
        self._learner: EpisodicLearner = make(self._model, training.hyperparameters, shuffle)
        self._report: dict[str, float] = {}
        # Every update begins with new episodes.
        space: Any = run.model.observation_space
        envs = self._envs.num_envs
        empty = np.zeros((envs, *space.shape), space.dtype)
        sb3_model.set_last_observations(self._model, empty, np.ones(envs, bool))
        if run.checkpoint:
            self._set_state(run.checkpoint["learner"])

    @property
    def timesteps(self) -> int:
        """Environment steps that the run has taken."""
        return self._envs.recorder.timesteps

    def learn(self) -> bool:
        """Train to the end, or to the pause; return whether the run reached its end.

        Raises:
            FloatingPointError: the training diverged.
        """
        total = self._run.total_timesteps
        self._evaluate_between(0, 1)  # the untrained policy is the first point of every curve
        while self._begin_update():
            began = self.timesteps
            batch = self._play_batch(total - began)
            if batch is None:
                self._evaluate_between(began, total)
                self._run.recorder.on_update(self.timesteps, self._report, last=True)
                self._evaluate(total, final=True)
                return True
            self._evaluate_between(began, self.timesteps)
            self._update(batch)
            self._run.advanced = True
        return False

    def _begin_update(self) -> bool:
        """Record the update before, save a checkpoint if due; return False to pause here."""
        recorder, timesteps = self._run.recorder, self.timesteps
        pauses = self._run.options.pauses_at(timesteps)
        recorder.on_update(timesteps, self._report)
        if pauses or (timesteps > 0 and recorder.checkpoint_due()):
            recorder.save_checkpoint(timesteps, self._get_state())
        if pauses:
            recorder.report_progress(timesteps, "")
        return not pauses

    def _play_batch(self, max_steps: int) -> EpisodeBatch | None:
        """Play one episode per environment; return None if they take more than `max_steps`."""
        self._policy.load_run(0, self._model.policy.state_dict())
        actor, envs, recorder = self._policy.build_actor(), self._run.envs, self._run.recorder
        all_obs: list[npt.NDArray[Any]] = []
        all_actions: list[npt.NDArray[Any]] = []
        noise, timesteps = np.empty(0), self.timesteps

        def act(obs: npt.NDArray[Any], playing: list[int]) -> npt.NDArray[Any]:
            nonlocal noise, timesteps
            normalize_observations(envs, obs[playing])
            step = len(all_actions) % _NOISE_STEPS
            if step == 0:
                noise = self._noise()
            all_obs.append(normalize_frozen(envs, obs))
            features = actor.extract_features(all_obs[-1][None])
            all_actions.append(actor.compute_actions(features, noise[step]))
            timesteps += len(playing)
            recorder.on_step(timesteps)
            return np.asarray(actor.to_environment(all_actions[-1])[0])

        rewards = self._envs.play_episodes(act, max_steps)
        if rewards is None:
            return None
        space = self._model.action_space.shape
        actions = np.stack(all_actions)[:, 0]
        return EpisodeBatch.from_episodes(
            np.stack(all_obs), actions.reshape(*actions.shape[:2], *space), rewards
        )

    def _update(self, batch: EpisodeBatch) -> None:
        model, total = self._model, self._run.total_timesteps
        # As in stable-baselines3: the share that remained when the episodes began.
        remaining = 1.0 - (self.timesteps - batch.lengths.sum()) / total
        sb3_model.set_progress(model, self.timesteps, remaining)
        learning_rate = model.lr_schedule(remaining)
        for group in model.policy.optimizer.param_groups:
            group["lr"] = learning_rate
        report = self._learner.update(batch, remaining)
        self._report = report | {"train/learning_rate": learning_rate}
        sb3_model.set_updates(model, sb3_model.get_updates(model) + 1)
        log_std = getattr(model.policy, "log_std", None)
        if log_std is not None:
            self._report["train/std"] = float(log_std.exp().mean())
        if not all(bool(torch.isfinite(p).all()) for p in model.policy.parameters()):
            raise divergence_error(self.timesteps)

    def _evaluate_between(self, first: int, end: int) -> None:
        """Run all evaluations due between two steps, with the present policy."""
        every = self._run.config.evaluation.every or 1
        for timesteps in range(-(-first // every) * every, end, every):
            if self._run.recorder.evaluation_due(timesteps):
                self._evaluate(timesteps, final=False)

    def _evaluate(self, timesteps: int, *, final: bool) -> None:
        run = self._run
        run.recorder.report_progress(self.timesteps, "evaluating")
        rows = run.known_evaluation(final=final)
        if rows is None:
            act = sb3_model.stacked_policy(self._model, run.scaling)
            progress = run.base_envs.evaluation_progress(timesteps)
            rows = run.evaluation(act, run.episodes(final=final), progress)
        run.record_evaluation(timesteps, rows)

    def _noise(self) -> npt.NDArray[Any]:
        """Draw the noise of the actions of some steps (steps, 1, N, K)."""
        space, rows = self._model.action_space, self._policy.rows
        shape = (_NOISE_STEPS, 1, self._envs.num_envs, self._policy.outputs)
        return draw_noise(space, rows.dtype, shape, self._generator)

    def _get_state(self) -> StateDict:
        return sb3_model.get_state(self._model) | {
            "torch": self._generator.get_state().numpy(),
            "numpy": self._shuffle.get_state(legacy=False),
            "own": self._learner.get_state(),
            "report": self._report,  # the last row, if the next batch is too long to learn from
        }

    def _set_state(self, state: StateDict) -> None:
        self._generator.set_state(torch.from_numpy(state["torch"].copy()))
        self._shuffle.set_state(state["numpy"])
        self._learner.set_state(state["own"])
        self._report = dict(state.get("report", {}))
