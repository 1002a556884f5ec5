"""What a second worker on a second core brings, as a user sees it: whole commands."""

from __future__ import annotations

import tempfile
from itertools import count
from pathlib import Path

from benchmarks.speed.measure import (
    SHAPERUN,
    Command,
    Row,
    alternate,
    cores,
    on_cores,
    ratios,
    run,
    seconds,
    tell,
)
from benchmarks.speed.study import write_study

RUNS = 4


def rows(*, quick: bool) -> list[Row]:
    """Wall time with one worker / with two, of the same study on the same two cores."""
    if cores() < 2:
        tell("  skipped: there is only one core here")
        return []
    rounds, rollouts = (1, 1) if quick else (2, 6)
    with tempfile.TemporaryDirectory() as name, on_cores(2):
        folder, number = Path(name), count()
        study = write_study(folder, rollouts=rollouts, seeds=list(range(RUNS)), engine="sb3")

        def train(workers: int) -> float:
            results = folder / str(next(number))
            command: Command = [SHAPERUN, "train", study, "--results", results, "--quiet"]
            return seconds(lambda: run([*command, "--workers", str(workers)]))

        pairs = alternate(lambda: train(1), lambda: train(2), rounds, "s")
    return [
        Row("two workers / one", ratios(pairs), at_least=1.8),
        Row(f"{RUNS} runs, one worker", [a for a, _ in pairs], "{:.1f}", "s"),
        Row(f"{RUNS} runs, two workers", [b for _, b in pairs], "{:.1f}", "s"),
    ]
