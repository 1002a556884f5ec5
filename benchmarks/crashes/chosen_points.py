"""Runs of several environments, killed where a kill is most likely to do harm."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.crashes.comparison import count_harm, read_outcome
from benchmarks.crashes.fork_server import NEVER, ForkServer
from benchmarks.crashes.studies import short_run
from shaperun.runs.run_folder import RunFolder
from shaperun.training import checkpoint

ENVIRONMENTS = (
    "CartPole-v1",
    "LunarLander-v3",
    "BipedalWalker-v3",
    "MountainCarContinuous-v0",
    "Pendulum-v1",
)

# Point -> options of the task. The second checkpoint, so that there is a first to resume from.
POINTS: dict[str, dict[str, Any]] = {
    "in a rollout": {"kill_at_step": 700},
    "in an evaluation": {"kill_in_evaluation": 0.4},
    "while a checkpoint is written": {"fault": "die 2 before sync */checkpoint-*.bin"},
    "between its replacement and the folder's sync": {
        "fault": "die 2 after replace */checkpoint-*.bin"
    },
    "just before DONE.json": {"fault": "die 1 after sync */DONE.json"},
}


def kill_at_points(
    server: ForkServer, folder: Path, env_id: str
) -> Iterator[tuple[str, Counter[str]]]:
    """Kill a run of the environment at each point, resume it, and yield the counts."""
    config = short_run(env_id)
    uninterrupted = RunFolder(folder / "uninterrupted")
    server.train(uninterrupted.path, config, checkpoint_seconds=NEVER)
    expected = read_outcome(uninterrupted)
    for number, (point, options) in enumerate(POINTS.items()):
        run = RunFolder(folder / str(number))
        result = server.train(run.path, config, **options)
        assert result.killed, (env_id, point, result)
        lost = checkpoint.load_latest(run.checkpoints) is None
        finished = server.train(run.path, config).status == 0
        counts = Counter({"cases": 1, "checkpoints lost": int(lost)})
        yield point, counts + count_harm(run, expected, finished=finished)
