"""Train a run with stable-baselines3's own loop: the reference, for every algorithm it has."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

from shaperun.training import sb3_model
from shaperun.training.run import TrainingRun, divergence_error, train_sequentially
from shaperun.training.sb3_model import deterministic_policy


class _StopError(Exception):
    """Training pauses."""


def train(runs: Sequence[TrainingRun]) -> dict[int, Exception]:
    """Train runs one after the other; return the exception of each failed run, by index."""
    return train_sequentially(runs, _learn)


def _learn(run: TrainingRun) -> bool:
    """Train and evaluate; return whether the run reached its end.

    Raises:
        FloatingPointError: the training diverged.
    """
    model, callback = run.model, _Callback(run)
    failure, finished = None, True
    try:
        # A log that is never dumped keeps its latest values, which the callback reads.
        model.learn(
            run.total_timesteps - model.num_timesteps,  # sb3 adds those already done
            callback,
            log_interval=None,  # type: ignore[arg-type]
            reset_num_timesteps=not model.num_timesteps,
        )
        callback.evaluate(final=True)
    except _StopError:
        finished = False
    except Exception as error:  # libraries raise all kinds of errors on actions that are NaN
        failure = error
    if not all(bool(torch.isfinite(p).all()) for p in model.policy.parameters()):
        raise divergence_error(model.num_timesteps) from failure
    if failure:
        raise failure
    return finished


class _Callback(BaseCallback):
    """Report what happens to the recorder, and evaluate."""

    def __init__(self, run: TrainingRun) -> None:
        super().__init__()
        self._run, self._recorder = run, run.recorder
        self._checkpoint = run.checkpoint  # until training has resumed from it

    def _on_training_start(self) -> None:
        self._on_step()  # the untrained policy is the first point of every curve

    def _on_step(self) -> bool:
        self._recorder.on_step(self.num_timesteps)
        if self._recorder.evaluation_due(self.num_timesteps):
            self.evaluate()
        return True

    def _on_rollout_start(self) -> None:
        if self._checkpoint:  # it was written at this very moment
            sb3_model.set_random_state(self.model, self._checkpoint["learner"])
            self._checkpoint = None
        else:
            self._run.advanced = True
            self._recorder.on_update(self.num_timesteps, self._report())
        pauses = self._run.options.pauses_at(self.num_timesteps)
        if pauses or (self.num_timesteps and self._recorder.checkpoint_due()):
            self._save_checkpoint()
        if pauses:
            self._recorder.report_progress(self.num_timesteps, "")
            raise _StopError

    def _on_training_end(self) -> None:
        self._recorder.on_update(self.num_timesteps, self._report(), last=True)

    def evaluate(self, *, final: bool = False) -> None:
        """Evaluate the policy as it is now and record every episode."""
        run = self._run
        self._recorder.report_progress(self.num_timesteps, "evaluating")
        progress = run.base_envs.evaluation_progress(self.num_timesteps)
        rows = run.known_evaluation(final=final)
        if rows is None:
            act = deterministic_policy(self.model, run.scaling)
            rows = run.evaluation(act, run.episodes(final=final), progress)
        run.record_evaluation(self.num_timesteps, rows)

    def _save_checkpoint(self) -> None:
        """Write a checkpoint; off-policy learners restart instead."""
        if isinstance(self.model, OnPolicyAlgorithm):
            state = sb3_model.get_state(self.model) | sb3_model.get_random_state()
            self._recorder.save_checkpoint(self.num_timesteps, state)

    def _report(self) -> dict[str, float]:
        values = self.logger.name_to_value
        return values if "train/n_updates" in values else {}
