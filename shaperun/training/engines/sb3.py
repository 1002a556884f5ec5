"""One run, trained by stable-baselines3's own loop: the reference, and every algorithm it has."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

from shaperun.training import sb3_model
from shaperun.training.run import Trainee, diverged, one_after_another
from shaperun.training.sb3_model import actor


class _StopError(Exception):
    """Training has come as far as it was to come for now."""


def train(trainees: Sequence[Trainee], until: int | None) -> dict[int, Exception]:
    """Train runs one after the other.

    Args:
        trainees: the runs; those that come to their end are written.
        until: stop at the first rollout that begins after so many steps, and keep the run there.

    Returns:
        what became of those that failed, by their place.
    """
    return one_after_another(trainees, lambda trainee: _learn(trainee, until))


def _learn(trainee: Trainee, until: int | None) -> bool:
    """Train and evaluate; what comes of parameters that are not finite is no result.

    Returns:
        whether it came to its end.

    Raises:
        FloatingPointError: the training diverged.
    """
    model, callback = trainee.model, _Callback(trainee, until)
    trouble, finished = None, True
    try:
        # Never dumping the log keeps its latest values in memory, where the callback reads them.
        model.learn(
            trainee.total_timesteps - model.num_timesteps,  # it adds those that were done before
            callback,
            log_interval=None,  # type: ignore[arg-type]
            reset_num_timesteps=not model.num_timesteps,
        )
        callback.evaluate(final=True)
    except _StopError:
        finished = False
    except Exception as error:  # whatever a library says of actions that are not numbers
        trouble = error
    if not all(bool(torch.isfinite(p).all()) for p in model.policy.parameters()):
        raise diverged(model.num_timesteps) from trouble
    if trouble:
        raise trouble
    return finished


class _Callback(BaseCallback):
    """Hands on to the recording what happens, and evaluates."""

    def __init__(self, trainee: Trainee, until: int | None) -> None:
        super().__init__()
        self._trainee, self._recording, self._until = trainee, trainee.recording, until
        self._kept = trainee.kept  # as long as training has not gone on from it

    def _on_training_start(self) -> None:
        self._on_step()  # the untrained policy is the first point of every curve

    def _on_step(self) -> bool:
        self._recording.stepped(self.num_timesteps)
        if self._recording.evaluation_is_due(self.num_timesteps):
            self.evaluate()
        return True

    def _on_rollout_start(self) -> None:
        if self._kept:  # this very moment is where it was kept
            sb3_model.restore_streams(self.model, self._kept["learner"])
            self._kept = None
        else:
            self._trainee.on_its_way = True
            self._recording.updated(self.num_timesteps, self._report())
        enough = self._until is not None and self.num_timesteps >= self._until
        if enough or (self.num_timesteps and self._recording.keep_is_due()):
            self._keep()
        if enough:
            self._recording.progress(self.num_timesteps, "")
            raise _StopError

    def _on_training_end(self) -> None:
        self._recording.updated(self.num_timesteps, self._report(), last=True)

    def evaluate(self, *, final: bool = False) -> None:
        """Evaluate the policy as it is now and record every episode."""
        trainee = self._trainee
        self._recording.progress(self.num_timesteps, "evaluating")
        share = min(1.0, self.num_timesteps / trainee.total_timesteps)
        act = actor(self.model, trainee.scaling)
        rows = trainee.evaluation(act, trainee.episodes(final=final), share)
        self._recording.evaluated(self.num_timesteps, rows)

    def _keep(self) -> None:
        """Keep the run. Off-policy learners begin anew."""
        if isinstance(self.model, OnPolicyAlgorithm):
            memory = sb3_model.memory(self.model) | sb3_model.streams()
            self._recording.keep(self.num_timesteps, memory)

    def _report(self) -> dict[str, float]:
        values = self.logger.name_to_value
        return values if "train/n_updates" in values else {}
