"""The most memory that is resident while a large cohort is trained."""

from __future__ import annotations

from benchmarks.speed.measure import Row, on_cores
from benchmarks.speed.train_once import cohort

RUNS = 64


def rows(*, quick: bool) -> list[Row]:
    """Of one process, in which all runs are; two rollouts, since the second finds the first's."""
    runs, rollouts = (RUNS // 8, 1) if quick else (RUNS, 2)
    with on_cores(1):
        memory = float(cohort(runs, rollouts)["memory"])
    most = None if quick else 2000.0  # fewer runs than the target is about
    return [Row(f"memory, {runs} runs in lockstep", [memory], "{:,.0f}", "MB", at_most=most)]
