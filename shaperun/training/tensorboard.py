"""Write TensorBoard event files: the recorded episodes and updates of a run.

All scalars are means over episodes, by the environment steps of the run:

    environment/return, environment/length, environment/outcome/<name> (its share)
    shaped/return, shaped/shaping, shaped/schedule (with a schedule)
    term/<name>, a raw term summed over the episode

They cover the training episodes that ended since the last point; with the prefix evaluation/, the
held-out ones. Statistics of updates are under train/, by the names of updates.csv.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.proto.summary_pb2 import Summary

Row = Mapping[str, object]

TAGS = {
    "return": "environment/return",
    "length": "environment/length",
    "shaped_return": "shaped/return",
    "shaping": "shaped/shaping",
    "schedule": "shaped/schedule",
}


class EventFile:
    """Event file of one run, flushed after every event."""

    def __init__(self, folder: Path, outcomes: Sequence[str]) -> None:
        folder.mkdir(exist_ok=True)
        # The low-level writer: threads and queues would leak semaphores when a worker is stopped.
        self._writer = EventsWriter(str(folder / "events"))
        self._outcomes = outcomes
        self._episodes: list[Row] = []

    def add_episode(self, row: Row) -> None:
        """Add a training episode to the next point."""
        self._episodes.append(row)

    def write_episodes(self, timesteps: int) -> None:
        """Write the means of the training episodes since the last point."""
        if self._episodes:
            self._write(timesteps, self._means(self._episodes))
            self._episodes = []

    def write_evaluation(self, timesteps: int, rows: Sequence[Row]) -> None:
        """Write the means of the episodes of one evaluation."""
        means = self._means(rows)
        self._write(timesteps, {f"evaluation/{name}": mean for name, mean in means.items()})

    def write_update(self, timesteps: int, row: Row) -> None:
        """Write the statistics of an update; those that are "" are left out."""
        scalars = {f"train/{name}": float(str(v)) for name, v in row.items() if v != ""}
        self._write(timesteps, scalars)

    def close(self) -> None:
        """Close the file."""
        self._writer.close()

    def _means(self, rows: Sequence[Row]) -> dict[str, float]:
        names = {column: TAGS[column] for column in rows[0] if column in TAGS}
        names |= {c: f"term/{c.removeprefix('sum_')}" for c in rows[0] if c.startswith("sum_")}
        outcomes = [row["outcome"] for row in rows]
        return {
            **{name: _mean([row[column] for row in rows]) for column, name in names.items()},
            **{
                f"environment/outcome/{outcome}": outcomes.count(outcome) / len(rows)
                for outcome in self._outcomes
            },
        }

    def _write(self, timesteps: int, values: Mapping[str, float]) -> None:
        summary = Summary(
            value=[Summary.Value(tag=name, simple_value=value) for name, value in values.items()]
        )
        self._writer.write_event(Event(wall_time=time.time(), step=timesteps, summary=summary))
        self._writer.flush()


def _mean(values: Sequence[object]) -> float:
    return float(np.mean([float(str(value)) for value in values]))
