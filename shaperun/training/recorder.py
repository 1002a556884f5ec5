"""What is written of a run while it is trained: tables, progress, evaluations, checkpoints.

It knows nothing of how the learning is done; an engine tells it what happens, and when.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from shaperun.common import fault_injection
from shaperun.common.files import AppendedTable, read_json
from shaperun.runs.run_folder import RunFolder
from shaperun.study.models import RunConfig
from shaperun.training import checkpoint, evaluation
from shaperun.training.checkpoint import Memory
from shaperun.training.envs import TrainingEnvs
from shaperun.training.episode_recorder import Row, episode_columns

if TYPE_CHECKING:
    from shaperun.training.tensorboard import EventFile

PROGRESS_SECONDS = 0.5
# Between checkpoints: what a killed run loses at most, and a rollout.
KEEP_SECONDS = fault_injection.keep_seconds(10.0)
KEEP_SHARE = 0.02  # of the time; checkpoints that would take more are made less often
UPDATE_ROWS = 1000  # a learner that updates at every step would fill the disk; points likewise

# What of its record must be the same for a run to go on from what was kept of it.
SAME = ("identity", "versions", "platform", "code")

# Column -> the names under which the learners report it; what a learner lacks stays empty.
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


class Recording:
    """The tables of one run, its progress and its checkpoints.

    Args:
        folder: of the run.
        config: what it is.
        envs: where it is trained; their rows are to be handed to `episode`.
        kept: what it goes on from, if it does.
        tensorboard: whether to write event files too.
        together: how many runs this process trains at the same time.
    """

    def __init__(
        self,
        folder: RunFolder,
        config: RunConfig,
        envs: TrainingEnvs,
        kept: Memory | None,
        *,
        tensorboard: bool,
        together: int,
    ) -> None:
        self._folder, self._config, self._envs, self._together = folder, config, envs, together
        tables = kept["tables"] if kept else {}
        evaluations = ["timesteps", *evaluation.columns(envs.kernel)]
        updates = ["timesteps", *UPDATE_COLUMNS]
        self._episodes = AppendedTable(
            folder.episodes, episode_columns(envs.kernel), tables.get("episodes")
        )
        self._evaluations = AppendedTable(
            folder.evaluations, evaluations, tables.get("evaluations")
        )
        self._updates = AppendedTable(folder.updates, updates, tables.get("updates"))
        self._events = _event_file(folder, config) if tensorboard else None
        own = kept["recording"] if kept else {}
        self._next_evaluation = own.get("next_evaluation", 0)
        self._next_update = self._next_point = own.get("next_update", 0)
        self._evaluated_return: float | None = own.get("evaluated_return")
        self._earlier = {name: own.get(name, 0.0) for name in ("seconds", "core_seconds")}
        self._began = self._next_progress = time.monotonic()
        self._next_kept = self._began + KEEP_SECONDS

    def close(self) -> None:
        """Close the tables."""
        for table in (self._episodes, self._evaluations, self._updates):
            table.close()
        if self._events:
            self._events.close()

    def episode(self, row: Row) -> None:
        """Take in a training episode that ended."""
        self._episodes.append([row])
        if self._events:
            self._events.episode(row)

    def stepped(self, timesteps: int) -> None:
        """Say now and then how far the run is."""
        if time.monotonic() >= self._next_progress:
            self._next_progress = time.monotonic() + PROGRESS_SECONDS * self._together
            self.progress(timesteps, "training")

    def evaluation_is_due(self, timesteps: int) -> bool:
        """Whether the policy is to be evaluated now; that is asked for once."""
        every = self._config.evaluation.every or 1
        if not self._next_evaluation <= timesteps < self._config.training.total_timesteps:
            return False
        self._next_evaluation = (timesteps // every + 1) * every
        return True

    def evaluated(self, timesteps: int, rows: list[Row]) -> None:
        """Take in the episodes of one evaluation."""
        self._evaluations.append([{"timesteps": timesteps, **row} for row in rows])
        if self._events:
            self._events.write_evaluation(timesteps, rows)
        self._evaluated_return = float(np.mean([float(str(row["return"])) for row in rows]))
        self.progress(timesteps, "training")

    def updated(self, timesteps: int, report: Mapping[str, Any], *, last: bool = False) -> None:
        """Take in what the learner says of its latest update, and the episodes before it.

        Args:
            timesteps: of the run.
            report: by stable-baselines3's names; empty before the first update.
            last: whether training ends with it: it is then written in any case.
        """
        gap = self._config.training.total_timesteps // UPDATE_ROWS
        if report and (last or timesteps >= self._next_update):
            self._next_update = timesteps + gap
            self._write_update(timesteps, report)
        if self._events and (last or timesteps >= self._next_point):
            self._next_point = timesteps + gap
            self._events.write_episodes(timesteps)

    def keep_is_due(self) -> bool:
        """Whether it is long since the run was kept."""
        return time.monotonic() >= self._next_kept

    def keep(self, timesteps: int, learner: Memory) -> None:
        """Keep all that the run needs to go on from here."""
        began = time.monotonic()
        record = read_json(self._folder.config)
        memory = {
            "timesteps": timesteps,
            "made_by": {key: record[key] for key in SAME},
            "learner": learner,
            "environments": self._envs.memory(),
            "tables": {
                "episodes": self._episodes.settle(),
                "evaluations": self._evaluations.settle(),
                "updates": self._updates.settle(),
            },
            "recording": {
                "next_evaluation": self._next_evaluation,
                "next_update": self._next_update,
                "evaluated_return": self._evaluated_return,
                **self._time(),
            },
        }
        checkpoint.save(memory, self._folder.checkpoints)
        took = (time.monotonic() - began) * self._together
        rest = max(KEEP_SECONDS, took / KEEP_SHARE) if KEEP_SECONDS else 0.0
        self._next_kept = time.monotonic() + rest

    def progress(self, timesteps: int, phase: str) -> None:
        """Say how far the run is."""
        recent = self._envs.recorder.recent_returns
        self._folder.write_progress(
            {
                "phase": phase,
                "timesteps": timesteps,
                "total_timesteps": self._config.training.total_timesteps,
                **{name: round(value, 3) for name, value in self._time().items()},
                "training_return": sum(recent) / len(recent) if recent else None,
                "evaluated_return": self._evaluated_return,
            }
        )

    def _time(self) -> dict[str, float]:
        """Seconds that the run takes so far, and its share of what the process does in them."""
        seconds = time.monotonic() - self._began
        return {
            "seconds": self._earlier["seconds"] + seconds,
            "core_seconds": self._earlier["core_seconds"] + seconds / self._together,
        }

    def _write_update(self, timesteps: int, report: Mapping[str, Any]) -> None:
        row = {
            column: next((report[name] for name in names if name in report), "")
            for column, names in UPDATE_COLUMNS.items()
        }
        self._updates.append([{"timesteps": timesteps, **row}])
        if self._events:
            self._events.write_update(timesteps, row)


def _event_file(folder: RunFolder, config: RunConfig) -> EventFile:
    from shaperun.training.tensorboard import EventFile  # an extra, which need not be installed

    return EventFile(folder.tensorboard, list(config.environment.describe().outcomes))
