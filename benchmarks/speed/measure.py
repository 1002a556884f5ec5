"""Rows of the table, sides measured in turn, and commands on a fixed number of cores."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter

from benchmarks.doc_tables import ROOT, log

SHAPERUN = Path(sys.executable).parent / "shaperun"

# Every process computes with one thread; set this before numpy is imported.
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}

Command = Sequence[str | Path]


@dataclass(frozen=True)
class Row:
    """One row of the table: one value per round, and perhaps a target for their median."""

    label: str
    values: Sequence[float]
    template: str = "{:.2f}"
    unit: str = "×"
    at_least: float | None = None
    at_most: float | None = None

    def cells(self) -> list[object]:
        """Return label, median, range, target, verdict and number of rounds."""
        middle, template = median(self.values), f"{self.template} {self.unit}"
        target, verdict = "", ""
        if self.at_least is not None:
            target = f"≥ {template.format(self.at_least)}"
            verdict = "yes" if middle >= self.at_least else "no"
        elif self.at_most is not None:
            target = f"≤ {template.format(self.at_most)}"
            verdict = "yes" if middle <= self.at_most else "no"
        ends = (self.template.format(end) for end in (min(self.values), max(self.values)))
        spread = " – ".join(ends) if len(self.values) > 1 else ""
        return [self.label, template.format(middle), spread, target, verdict, len(self.values)]


def measure_in_turn(
    sides: Mapping[str, Callable[[int], float]], rounds: int, unit: str = ""
) -> dict[str, list[float]]:
    """Measure the sides in turn, A B A B, so that a slow minute of the machine affects all.

    Args:
        sides: functions of the round, from 0.
        rounds: number of rounds.
        unit: if given, the values of each round are logged in this unit.
    """
    values: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds):
        for name, side in sides.items():
            values[name].append(side(number))
        if unit:
            latest = ", ".join(f"{name} {column[-1]:,.1f}" for name, column in values.items())
            log(f"  round {number + 1} of {rounds}: {latest} {unit}")
    return values


def ratios(a: Sequence[float], b: Sequence[float]) -> list[float]:
    """Return a / b of every round."""
    return [x / y for x, y in zip(a, b, strict=True)]


def seconds(work: Callable[[], object]) -> float:
    """Return the wall time of one call."""
    start = perf_counter()
    work()
    return perf_counter() - start


def run(command: Command) -> None:
    """Run a command from the root of the repository, without output.

    Raises:
        RuntimeError: the command failed; the message has the end of its output.
    """
    environment = os.environ | ONE_THREAD
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        line = " ".join(map(str, command))
        raise RuntimeError(
            f"{line} exited with status {done.returncode}:\n{(done.stdout + done.stderr)[-3000:]}"
        )


@contextmanager
def on_cores(count: int) -> Iterator[None]:
    """Restrict this process and its children to `count` cores, where the system supports it."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    # The last ones: systems tend to handle interrupts on the first core.
    os.sched_setaffinity(0, sorted(before)[-count:])
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
