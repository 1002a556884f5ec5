"""What all rows share: a figure with its target, alternating pairs, processes on chosen cores."""

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

ROOT = Path(__file__).resolve().parents[2]
SHAPERUN = Path(sys.executable).parent / "shaperun"

# Every process computes with one thread; this must stand before any of them imports numpy.
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


@dataclass(frozen=True)
class Row:
    """One line of the table: figures from several rounds, of which the median counts."""

    what: str
    figures: Sequence[float]
    form: str = "{:.2f}"
    unit: str = "×"
    at_least: float | None = None
    at_most: float | None = None

    @property
    def measured(self) -> str:
        """The median."""
        return self._with_unit(median(self.figures))

    @property
    def spread(self) -> str:
        """The lowest and the highest figure."""
        if len(self.figures) < 2:
            return ""
        return f"{self.form.format(min(self.figures))} – {self.form.format(max(self.figures))}"

    @property
    def target(self) -> str:
        """What the median should be; empty for a figure that is only told."""
        if self.at_least is not None:
            return f"≥ {self._with_unit(self.at_least)}"
        return f"≤ {self._with_unit(self.at_most)}" if self.at_most is not None else ""

    @property
    def reached(self) -> bool | None:
        """Whether it is; None without a target."""
        if self.at_least is not None:
            return median(self.figures) >= self.at_least
        return median(self.figures) <= self.at_most if self.at_most is not None else None

    def _with_unit(self, figure: float) -> str:
        return f"{self.form.format(figure)} {self.unit}"


Pair = tuple[float, float]
Command = Sequence[str | Path]


def alternate(
    a: Callable[[], float], b: Callable[[], float], rounds: int, unit: str = ""
) -> list[Pair]:
    """Measure two sides in turn, A B A B, so that a slow minute of the machine meets both."""
    pairs = []
    for number in range(1, rounds + 1):
        pairs.append((a(), b()))
        if unit:
            first, second = pairs[-1]
            tell(f"  round {number} of {rounds}: {first:,.1f} and {second:,.1f} {unit}")
    return pairs


def in_turn(
    sides: Mapping[str, Callable[[int], float]], rounds: int, unit: str
) -> dict[str, list[float]]:
    """Measure several sides in turn, A B C A B C; each is told which round it is, from 0."""
    found: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds):
        for name, side in sides.items():
            found[name].append(side(number))
        told = ", ".join(f"{name} {figures[-1]:,.1f}" for name, figures in found.items())
        tell(f"  round {number + 1} of {rounds}: {told} {unit}")
    return found


def ratios(pairs: Sequence[Pair]) -> list[float]:
    """A / B of every pair."""
    return [a / b for a, b in pairs]


def tell(line: str) -> None:
    """Say how far the benchmark is."""
    print(line, file=sys.stderr, flush=True)


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one call."""
    start = perf_counter()
    work()
    return perf_counter() - start


def run(command: Command) -> None:
    """Run a command from the project's folder, silently.

    Raises:
        RuntimeError: it failed; the message has the end of what it printed.
    """
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=os.environ | ONE_THREAD,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        line = " ".join(map(str, command))
        raise RuntimeError(f"{line} ended with {done.returncode}:\n{done.stdout[-3000:]}")


def cores() -> int:
    """The processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def on_cores(count: int) -> Iterator[None]:
    """Keep this process and those it starts on that many cores, where the system can."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    # The last ones: the first core is where a system tends to handle its interrupts.
    os.sched_setaffinity(0, sorted(before)[-count:])
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
