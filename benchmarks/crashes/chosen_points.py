"""Kills runs of several environments at the moments that matter most."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.crashes.comparison import differences, leftovers, outcome
from benchmarks.crashes.every_write import Counts
from benchmarks.crashes.fork_server import NEVER, Nursery
from benchmarks.crashes.studies import run_of
from shaperun.runs.run_folder import RunFolder
from shaperun.training import checkpoint

ENVIRONMENTS = (
    "CartPole-v1",
    "LunarLander-v3",
    "BipedalWalker-v3",
    "MountainCarContinuous-v0",
    "Pendulum-v1",
)

# Moment -> what the nursery is to do. The second checkpoint: there is one to fall back on.
MOMENTS: dict[str, dict[str, Any]] = {
    "in a rollout": {"die_at_step": 700},
    "in an evaluation": {"die_in_evaluation": 400},
    "while a checkpoint is written": {"fault": "die 2 written */checkpoint-*.bin"},
    "between its replacement and the folder's sync": {"fault": "die 2 replaced */checkpoint-*.bin"},
    "just before DONE.json": {"fault": "die 1 synced */DONE.json"},
}


def kills(nursery: Nursery, folder: Path, env_id: str) -> Iterator[tuple[str, Counts]]:
    """Kill a run of the environment at each moment, and have it go on."""
    run = run_of(env_id)
    whole = RunFolder(folder / "whole")
    nursery.train(whole.path, run, keep_seconds=NEVER)
    expected = outcome(whole)
    for number, (moment, wishes) in enumerate(MOMENTS.items()):
        killed = RunFolder(folder / str(number))
        ended = nursery.train(killed.path, run, **wishes)
        assert ended.killed, (env_id, moment, ended)
        lost = checkpoint.latest(killed.checkpoints) is None
        unfinished = nursery.train(killed.path, run).status != 0
        differing, left = len(differences(killed, expected)), len(leftovers(killed))
        yield moment, Counts(1, differing, int(unfinished), left, int(lost))
