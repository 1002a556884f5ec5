"""Record a run while it is trained: tables, progress, evaluations, checkpoints.

Engines report what happens; nothing here depends on the learner.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from shaperun.common.files import AppendOnlyCsv, read_json
from shaperun.envs.metrics import recorded_metrics
from shaperun.runs.run_folder import RunFolder
from shaperun.runs.train_options import TrainOptions
from shaperun.study.models import RunConfig
from shaperun.training import checkpoint as checkpoints
from shaperun.training import evaluation
from shaperun.training.checkpoint import StateDict
from shaperun.training.envs import TrainingEnvs
from shaperun.training.episode_recorder import Row, episode_columns

if TYPE_CHECKING:
    from shaperun.training.tensorboard import EventFile

PROGRESS_SECONDS = 0.5
# Time between checkpoints: a killed run loses at most this and a rollout.
CHECKPOINT_SECONDS = 10.0
CHECKPOINT_SHARE = 0.02  # largest share of the training time that checkpoints take
MAX_UPDATE_ROWS = 1000  # a learner that updates at every step would fill the disk

# Parts of the record that must match for a run to resume from a checkpoint.
MUST_MATCH = ("identity", "versions", "platform", "code")

# Column -> the names under which learners report it; empty if a learner does not report it.
UPDATE_COLUMNS = {
    "approx_kl": ("train/approx_kl", "train/kl_divergence_loss"),
    "clip_fraction": ("train/clip_fraction",),
    "entropy_loss": ("train/entropy_loss",),
    "explained_variance": ("train/explained_variance",),
    "policy_loss": ("train/policy_gradient_loss", "train/policy_loss"),
    "value_loss": ("train/value_loss",),
    "loss": ("train/loss",),
    "learning_rate": ("train/learning_rate",),
    "std": ("train/std",),
}


class RunRecorder:
    """Write the tables, the progress and the checkpoints of one run of a cohort.

    The training environments emit their episodes to `on_episode`.
    """

    def __init__(
        self,
        folder: RunFolder,
        config: RunConfig,
        envs: TrainingEnvs,
        checkpoint: StateDict | None,
        options: TrainOptions,
        cohort_size: int,
    ) -> None:
        self._folder, self._config = folder, config
        self._envs, self._cohort_size = envs, cohort_size
        metrics = recorded_metrics(config.environment.describe())
        columns = {
            "episodes": episode_columns(envs.kernel),
            "evaluations": ["timesteps", *evaluation.evaluation_columns(envs.kernel, metrics)],
            "updates": ["timesteps", *UPDATE_COLUMNS],
        }
        sizes = checkpoint["tables"] if checkpoint else {}
        self._tables = {
            name: AppendOnlyCsv(getattr(folder, name), names, sizes.get(name))
            for name, names in columns.items()
        }
        self._events = _event_file(folder, config) if options.tensorboard else None
        earlier = checkpoint["recording"] if checkpoint else {}
        self._next_evaluation = earlier.get("next_evaluation", 0)
        self._next_update = self._next_point = earlier.get("next_update", 0)
        self._evaluated_return: float | None = earlier.get("evaluated_return")
        self._evaluation_seconds = earlier.get("evaluation_seconds", 0.0)
        self._seconds_per_batch: float | None = earlier.get("seconds_per_batch")
        self._evaluation_began: float | None = None
        self._earlier = {name: earlier.get(name, 0.0) for name in ("seconds", "core_seconds")}
        self._began = self._next_progress = time.monotonic()
        self._next_checkpoint = self._began + CHECKPOINT_SECONDS

    def close(self) -> None:
        """Close the tables."""
        for table in self._tables.values():
            table.close()
        if self._events:
            self._events.close()

    def on_episode(self, row: Row) -> None:
        """Record a training episode."""
        self._tables["episodes"].append([row])
        if self._events:
            self._events.add_episode(row)

    def on_step(self, timesteps: int) -> None:
        """Report progress from time to time."""
        if time.monotonic() >= self._next_progress:
            self._next_progress = time.monotonic() + PROGRESS_SECONDS * self._cohort_size
            self.report_progress(timesteps, "training")

    def evaluation_due(self, timesteps: int) -> bool:
        """Return whether an evaluation is due, and schedule the next one."""
        every = self._config.evaluation.every or 1
        if not self._next_evaluation <= timesteps < self._config.training.total_timesteps:
            return False
        self._next_evaluation = (timesteps // every + 1) * every
        return True

    def on_evaluation(self, timesteps: int, rows: list[Row]) -> None:
        """Record the episodes of one evaluation."""
        self._tables["evaluations"].append([{"timesteps": timesteps, **row} for row in rows])
        if self._events:
            self._events.write_evaluation(timesteps, rows)
        self._evaluated_return = float(np.mean([float(str(row["return"])) for row in rows]))
        if self._evaluation_began is not None:
            took = time.monotonic() - self._evaluation_began
            self._evaluation_began = None
            self._evaluation_seconds += took
            self._seconds_per_batch = took / _count_batches(len(rows))
        self.report_progress(timesteps, "training", evaluated=True)

    def on_update(self, timesteps: int, report: Mapping[str, Any], *, last: bool = False) -> None:
        """Record the statistics of an update, if there are any; the last one in any case, once."""
        gap = self._config.training.total_timesteps // MAX_UPDATE_ROWS
        written = self._next_update == timesteps + gap
        if report and not written and (last or timesteps >= self._next_update):
            self._next_update = timesteps + gap
            self._write_update(timesteps, report)
        if self._events and (last or timesteps >= self._next_point):
            self._next_point = timesteps + gap
            self._events.write_episodes(timesteps)

    def checkpoint_due(self) -> bool:
        """Return whether it is time for a checkpoint."""
        return time.monotonic() >= self._next_checkpoint

    def save_checkpoint(self, timesteps: int, learner: StateDict) -> None:
        """Write everything that the run needs to resume."""
        began = time.monotonic()
        self._folder.ensure_present()
        record = read_json(self._folder.config)
        state = {
            "timesteps": timesteps,
            "made_by": {key: record[key] for key in MUST_MATCH},
            "learner": learner,
            "environments": self._envs.get_state(),
            "tables": {name: table.fsync() for name, table in self._tables.items()},
            "recording": {
                "next_evaluation": self._next_evaluation,
                "next_update": self._next_update,
                "evaluated_return": self._evaluated_return,
                "seconds_per_batch": self._seconds_per_batch,
                **self._time(),
            },
        }
        checkpoints.save(state, self._folder.checkpoints)
        took = (time.monotonic() - began) * self._cohort_size
        rest = max(CHECKPOINT_SECONDS, took / CHECKPOINT_SHARE) if CHECKPOINT_SECONDS else 0.0
        self._next_checkpoint = time.monotonic() + rest

    def report_progress(self, timesteps: int, phase: str, *, evaluated: bool = False) -> None:
        """Write the progress of the run; the evaluation at this step may be `evaluated` already."""
        if phase == "evaluating":
            self._evaluation_began = time.monotonic()
        recent = self._envs.recorder.recent_returns
        final = evaluated and timesteps >= self._config.training.total_timesteps
        self._folder.write_progress(
            {
                "phase": phase,
                "timesteps": timesteps,
                "total_timesteps": self._config.training.total_timesteps,
                **{name: round(value, 3) for name, value in self._time().items()},
                "evaluation_seconds_left": 0.0 if final else self._estimate_evaluations(),
                "training_return": sum(recent) / len(recent) if recent else None,
                "evaluated_return": self._evaluated_return,
            }
        )

    def _time(self) -> dict[str, float]:
        """Return the seconds of the run, its share of the process's, and those of evaluations."""
        seconds = time.monotonic() - self._began
        return {
            "seconds": self._earlier["seconds"] + seconds,
            "core_seconds": self._earlier["core_seconds"] + seconds / self._cohort_size,
            "evaluation_seconds": self._evaluation_seconds,
        }

    def _estimate_evaluations(self) -> float | None:
        """Return the expected seconds of all evaluations to come; None before the first."""
        if self._seconds_per_batch is None:
            return None
        protocol, total = self._config.evaluation, self._config.training.total_timesteps
        count = len(range(self._next_evaluation, total, protocol.every or 1))
        batches = count * _count_batches(protocol.episodes)
        batches += _count_batches(protocol.final_episodes)
        return round(self._seconds_per_batch * batches, 3)

    def _write_update(self, timesteps: int, report: Mapping[str, Any]) -> None:
        row = {
            column: next((report[name] for name in names if name in report), "")
            for column, names in UPDATE_COLUMNS.items()
        }
        self._tables["updates"].append([{"timesteps": timesteps, **row}])
        if self._events:
            self._events.write_update(timesteps, row)


def _count_batches(episodes: int) -> float:
    """Return how much work an evaluation is; fewer episodes than a batch take as long as one."""
    return max(1.0, episodes / evaluation.EVAL_BATCH_SIZE)


def _event_file(folder: RunFolder, config: RunConfig) -> EventFile:
    from shaperun.training.tensorboard import EventFile  # an optional dependency

    return EventFile(folder.tensorboard, list(config.environment.describe().outcomes))
