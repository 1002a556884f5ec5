"""Speed by the size of a cohort, and the time per part of a step; draws docs/lockstep.png."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import SubFigure
from matplotlib.ticker import FixedLocator, NullLocator

from benchmarks.doc_tables import ROOT, log
from benchmarks.speed.measure import Row, on_cores
from benchmarks.speed.train_once import Timing, speed_row, steps_per_second, train_cohort
from shaperun.report.plots.style import (
    GRAY,
    PALETTE,
    add_heading,
    create_figure,
    finish_layout,
    format_short,
    label_axes,
    label_bars,
    split_rows,
    styled,
    text_color,
)

SIZES = (1, 2, 4, 8, 16, 32)
BACKENDS = {"gymnasium": "gymnasium", "envpool": "EnvPool"}
SPLIT_SIZE = 8  # the size whose parts are rows; the figure has the parts of all sizes
FIGURE = ROOT / "docs" / "lockstep.png"
TITLE = "PPO on LunarLander-v3 in lockstep, 16 environments per run, 1 core"
LINES = (PALETTE[0], PALETTE[8])  # neither is the color of a part
MIN_LABELED_SHARE = 0.055  # of the width of a panel: shorter bars have no room for a number

Timings = dict[tuple[str, int], list[Timing]]


@dataclass(frozen=True)
class Point:
    """A cohort: its size, its speed in steps per second, and microseconds per step by part."""

    backend: str
    runs: int
    speed: float
    micros: dict[str, float]


def cohorts_rows(*, quick: bool) -> list[Row]:
    """Measure cohorts by size and backend; draw the figure."""
    sizes, rounds, rollouts = (SIZES[:2], 1, 1) if quick else (SIZES, 3, 2)
    timings: Timings = {(backend, size): [] for backend in BACKENDS for size in sizes}
    with on_cores(1):
        for number in range(rounds):
            for (backend, size), column in timings.items():
                column.append(train_cohort(size, rollouts, number, backend=backend, mode="parts"))
            log(f"  round {number + 1} of {rounds}")
    with TemporaryDirectory() as folder:
        draw(_points(timings), Path(folder, FIGURE.name) if quick else FIGURE)
    speeds = [
        speed_row(_label(*key), [steps_per_second(timing) for timing in column])
        for key, column in timings.items()
    ]
    shown = SPLIT_SIZE if SPLIT_SIZE in sizes else max(sizes)
    return speeds + [row for backend in BACKENDS for row in _part_rows(timings, backend, shown)]


def _part_rows(timings: Timings, backend: str, size: int) -> list[Row]:
    column = timings[backend, size]
    return [
        Row(
            f"{_label(backend, size)}: {part}",
            [100 * timing["parts"][part] / timing["seconds"] for timing in column],
            "{:.1f}",
            "%",
        )
        for part in column[0]["parts"]
    ]


def _points(timings: Timings) -> list[Point]:
    return [
        Point(
            BACKENDS[backend],
            size,
            median(steps_per_second(timing) for timing in column),
            {
                part: median(1e6 * timing["parts"][part] / timing["steps"] for timing in column)
                for part in column[0]["parts"]
            },
        )
        for (backend, size), column in timings.items()
    ]


def _label(backend: str, size: int) -> str:
    return f"{size} run{'s' * (size > 1)}, {BACKENDS[backend]}"


@styled
def draw(points: Sequence[Point], path: Path) -> None:
    """Write the figure as PNG."""
    lines = {point.backend: [p for p in points if p.backend == point.backend] for point in points}
    heights = [2.5, 0.8 + 0.3 * max(map(len, lines.values()))]
    figure = create_figure(TITLE, sum(heights))
    upper, lower = split_rows(figure, heights)
    _draw_speeds(upper, lines)
    _draw_parts(lower, lines)
    finish_layout(figure)
    figure.savefig(path, dpi=150, metadata={"Software": None})


def _draw_speeds(panel: SubFigure, lines: dict[str, list[Point]]) -> None:
    add_heading(panel, "Environment steps per second of learning, all runs together")
    axes = panel.subplots()
    lowest = min(lines, key=lambda backend: min(point.speed for point in lines[backend]))
    for (backend, line), color in zip(lines.items(), LINES, strict=False):
        runs, speeds = [point.runs for point in line], [point.speed for point in line]
        axes.plot(runs, speeds, "o-", color=color, linewidth=2)
        offset, side = (-6, "top") if backend == lowest else (6, "bottom")
        near: dict[str, Any] = {"textcoords": "offset points"}
        for end in zip(runs, speeds, strict=True):
            text = format_short(round(end[1], -2))
            axes.annotate(text, end, (0, offset), ha="center", va=side, fontsize=8, **near)
        axes.annotate(backend, end, (8, 0), va="center", color=color, **near)
    label_axes(axes, "runs in the cohort", "")
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_locator(FixedLocator(runs))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(format_short)
    axes.set_ylim(0, 1.12 * max(point.speed for line in lines.values() for point in line))


def _draw_parts(panel: SubFigure, lines: dict[str, list[Point]]) -> None:
    add_heading(panel, "Microseconds per step, by part")
    panels: list[Axes] = list(panel.subplots(1, len(lines), sharex=True, squeeze=False)[0])
    longest = max(sum(point.micros.values()) for line in lines.values() for point in line)
    for axes, (backend, line) in zip(panels, lines.items(), strict=True):
        names, rows, ends = list(line[0].micros), np.arange(len(line)), np.zeros(len(line))
        for name, color in zip(names, (*PALETTE[1 : len(names)], GRAY), strict=True):
            micros = np.array([point.micros[name] for point in line])
            bars = axes.barh(rows, micros, left=ends, color=color, height=0.75, label=name)
            texts = [f"{x:.0f}" if x > MIN_LABELED_SHARE * longest else "" for x in micros]
            axes.bar_label(bars, texts, label_type="center", color=text_color(color), fontsize=8)
            ends += micros
        axes.bar_label(bars, [f"{x:.0f}" for x in ends], padding=3, fontsize=8, fontweight="bold")
        label_bars(axes, [f"{p.runs} run{'s' * (p.runs != 1)}" for p in line], len(line))
        axes.set(xlim=(0, 1.1 * longest), title=backend)
    handles, labels = panels[0].get_legend_handles_labels()
    panel.legend(handles, labels, loc="outside lower center", ncols=len(labels))
