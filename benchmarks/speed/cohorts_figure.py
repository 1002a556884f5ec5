"""Draws what the size of a cohort brings, in the style of the project's other figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, NullLocator

from shaperun.report.plots.style import (
    GREY,
    PALETTE,
    add_heading,
    bar_axis,
    finish_layout,
    format_short,
    label_axes,
    new_figure,
    split_rows,
    styled,
    text_colour,
)

TITLE = "PPO on LunarLander-v3 in lockstep, 16 copies a run, on one core"
LINES = (PALETTE[0], PALETTE[8])  # none of them the colour of a part
FITS = 0.055  # of the width of a panel: a bar as long as this has room for its number


@dataclass(frozen=True)
class Point:
    """A cohort: its speed in steps a second, and microseconds a step by part."""

    backend: str
    runs: int
    speed: float
    micros: dict[str, float]


@styled
def draw(points: Sequence[Point], path: Path) -> None:
    """Write the figure as PNG."""
    backends = list(dict.fromkeys(point.backend for point in points))
    sizes = list(dict.fromkeys(point.runs for point in points))
    figure = new_figure(TITLE, 2.5 + 0.8 + 0.3 * len(sizes))
    upper, lower = split_rows(figure, [2.5, 0.8 + 0.3 * len(sizes)])
    _draw_speeds(upper, points, backends, sizes)
    _draw_splits(lower, points, backends)
    _save(figure, path)


def _draw_speeds(
    part: SubFigure, points: Sequence[Point], backends: Sequence[str], sizes: Sequence[int]
) -> None:
    add_heading(part, "Environment steps a second while learning, of all runs together")
    axes = part.subplots()
    for backend, colour in zip(backends, LINES, strict=False):
        line = [point for point in points if point.backend == backend]
        lowest = backend == min(points, key=lambda point: point.speed).backend
        speeds = [point.speed for point in line]
        axes.plot([point.runs for point in line], speeds, "o-", color=colour, linewidth=2)
        for point in line:
            _draw_number(axes, point, above=not lowest)
        end = (line[-1].runs, line[-1].speed)
        axes.annotate(backend, end, (8, 0), textcoords="offset points", va="center", color=colour)
    label_axes(axes, "runs in the cohort", "")
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_locator(FixedLocator(list(sizes)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(format_short)
    axes.set_ylim(0, 1.12 * max(point.speed for point in points))


def _draw_number(axes: Axes, point: Point, *, above: bool) -> None:
    axes.annotate(
        format_short(round(point.speed, -2)),
        (point.runs, point.speed),
        (0, 6 if above else -6),
        textcoords="offset points",
        ha="center",
        va="bottom" if above else "top",
        fontsize=8,
    )


def _draw_splits(part: SubFigure, points: Sequence[Point], backends: Sequence[str]) -> None:
    add_heading(part, "Microseconds that a step takes, by what they are spent in")
    names = list(points[0].micros)
    shades = dict(zip(names, (*PALETTE[1 : len(names)], GREY), strict=True))
    every: list[Axes] = list(part.subplots(1, len(backends), sharex=True, squeeze=False)[0])
    most = max(sum(point.micros.values()) for point in points)
    for axes, backend in zip(every, backends, strict=True):
        line = [point for point in points if point.backend == backend]
        for row, point in enumerate(line):
            _draw_bar(axes, row, point, shades, most)
        bar_axis(axes, [f"{p.runs} run{'s' * (p.runs != 1)}" for p in line], len(line))
        axes.set(xlim=(0, 1.1 * most), title=backend)
    handles = [Patch(color=shade) for shade in shades.values()]
    part.legend(handles, names, loc="outside lower center", ncols=len(names))


def _draw_bar(axes: Axes, row: int, point: Point, shades: dict[str, str], most: float) -> None:
    end = 0.0
    for name, micros in point.micros.items():
        axes.barh(row, micros, left=end, color=shades[name], height=0.75)
        if micros > FITS * most:
            colour = text_colour(shades[name])
            place = (end + micros / 2, row)
            axes.text(*place, f"{micros:.0f}", ha="center", va="center", color=colour, fontsize=8)
        end += micros
    axes.text(end + 0.015 * most, row, f"{end:.0f}", va="center", fontsize=8, fontweight="bold")


def _save(figure: Figure, path: Path) -> None:
    finish_layout(figure)
    figure.savefig(path, dpi=150, metadata={"Software": None})
