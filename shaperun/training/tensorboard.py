"""TensorBoard's event files: what a run records anyway, under names that mix no two rewards.

Everything is a mean over episodes, at the environment steps of the run so far:

    environment/return, environment/length, environment/outcome/<name> (its share)
    shaped/return, shaped/shaping, shaped/schedule (where there is one)
    term/<name>, a raw term summed over the episode

for the training episodes that ended since the last point, and the same with evaluation/ before
them for the held-out ones. What the learner reports of its updates is under train/, by the names
of updates.csv.
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

NAMES = {
    "return": "environment/return",
    "length": "environment/length",
    "shaped_return": "shaped/return",
    "shaping": "shaped/shaping",
    "schedule": "shaped/schedule",
}


class EventFile:
    """The events of one run, on the disk as soon as they are written.

    Args:
        folder: where the file is made; the folder too, if need be.
        outcomes: all that an episode can end with.
    """

    def __init__(self, folder: Path, outcomes: Sequence[str]) -> None:
        folder.mkdir(exist_ok=True)
        # The writer beneath the library's threads and queues, which would leave semaphores behind
        # where a worker is stopped.
        self._writer = EventsWriter(str(folder / "events"))
        self._outcomes = outcomes
        self._episodes: list[Row] = []

    def episode(self, row: Row) -> None:
        """Take in a training episode that ended."""
        self._episodes.append(row)

    def write_episodes(self, timesteps: int) -> None:
        """Write the means of the training episodes taken in since this was done last."""
        if self._episodes:
            self._write(timesteps, self._means(self._episodes))
            self._episodes = []

    def write_evaluation(self, timesteps: int, rows: Sequence[Row]) -> None:
        """Write the means of the episodes of one evaluation."""
        means = self._means(rows)
        self._write(timesteps, {f"evaluation/{name}": mean for name, mean in means.items()})

    def write_update(self, timesteps: int, row: Row) -> None:
        """Write what the learner reported; the row has "" for what it lacks."""
        known = {f"train/{name}": float(str(v)) for name, v in row.items() if v != ""}
        self._write(timesteps, known)

    def close(self) -> None:
        """Close the file."""
        self._writer.close()

    def _means(self, rows: Sequence[Row]) -> dict[str, float]:
        names = {column: NAMES[column] for column in rows[0] if column in NAMES}
        names |= {c: f"term/{c.removeprefix('sum_')}" for c in rows[0] if c.startswith("sum_")}
        endings = [row["outcome"] for row in rows]
        return {
            **{name: _mean([row[column] for row in rows]) for column, name in names.items()},
            **{
                f"environment/outcome/{outcome}": endings.count(outcome) / len(rows)
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
