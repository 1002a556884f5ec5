"""What the size of a cohort brings, and what a step is spent in; the figure docs/lockstep.png."""

from __future__ import annotations

from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from benchmarks.speed.cohorts_figure import Point, draw
from benchmarks.speed.measure import ROOT, Row, on_cores, tell
from benchmarks.speed.train_once import Noted, cohort, steps_per_second

SIZES = (1, 2, 4, 8, 16, 32)
BACKENDS = {"gymnasium": "gymnasium", "envpool": "EnvPool"}
SPLIT_AT = 8  # the size whose split is told in rows; the figure has it for all
FIGURE = ROOT / "docs" / "lockstep.png"

Found = dict[tuple[str, int], list[Noted]]


def rows(*, quick: bool) -> list[Row]:
    """Steps a second by size and backend, and the split; draws the figure."""
    sizes, rounds, rollouts = (SIZES[:2], 1, 1) if quick else (SIZES, 3, 2)
    found: Found = {(backend, size): [] for backend in BACKENDS for size in sizes}
    with on_cores(1):
        for number in range(rounds):
            for (backend, size), noted in found.items():
                noted.append(
                    cohort(
                        size,
                        rollouts,
                        number,
                        backend=backend,
                        clock="benchmarks.speed.time_breakdown",
                    )
                )
            tell(f"  round {number + 1} of {rounds}")
    _draw(found, keep=not quick)
    speeds = [
        Row(
            f"{_runs(size)}, {BACKENDS[backend]}",
            [steps_per_second(one) for one in noted],
            "{:,.0f}",
            "steps/s",
        )
        for (backend, size), noted in found.items()
    ]
    return speeds + [row for backend in BACKENDS for row in _split(found, backend)]


def _split(found: Found, backend: str) -> list[Row]:
    size = SPLIT_AT if (backend, SPLIT_AT) in found else max(size for _, size in found)
    noted = found[backend, size]
    return [
        Row(
            f"{_runs(size)}, {BACKENDS[backend]}: {part}",
            [100 * one["parts"][part] / one["seconds"] for one in noted],
            "{:.1f}",
            "%",
        )
        for part in noted[0]["parts"]
    ]


def _draw(found: Found, *, keep: bool) -> None:
    points = [
        Point(
            BACKENDS[backend],
            size,
            median(steps_per_second(one) for one in noted),
            {part: median(_micros(one, part) for one in noted) for part in noted[0]["parts"]},
        )
        for (backend, size), noted in found.items()
    ]
    with TemporaryDirectory() as name:
        draw(points, FIGURE if keep else Path(name, FIGURE.name))


def _micros(noted: Noted, part: str) -> float:
    return 1e6 * float(noted["parts"][part] / noted["steps"])


def _runs(count: int) -> str:
    return "1 run" if count == 1 else f"{count} runs"
