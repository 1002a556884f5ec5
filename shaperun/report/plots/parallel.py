"""Parallel coordinates of a sweep: the weights of every trial and its objectives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patheffects import Normal, Stroke
from matplotlib.ticker import LogLocator, MaxNLocator
from numpy.typing import NDArray

from shaperun.report.plots import style
from shaperun.report.plots.trials import SweptWeight, name_best, objective_label, select_finished
from shaperun.study.sweep import describe_swept

Sample = NDArray[np.float64]
MARGIN = 0.04  # beyond either end of an axis, relative to its length
EDGE = "#1A1A1A"


@dataclass(frozen=True)
class _Axis:
    """A vertical axis."""

    column: str
    label: str
    normalize: Callable[[Sample], Sample]
    """Maps values to 0 (bottom) to 1 (top)."""
    ticks: Sequence[float]


@style.styled
def plot_parallel_coordinates(
    trials: pl.DataFrame,
    *,
    weights: Sequence[SweptWeight],
    objectives: Sequence[str],
    title: str,
    note: str,
) -> Figure:
    """Draw one line per trial through its weights and objectives, colored by the first objective.

    The better end of an objective is up. Lines of pruned trials end at the last weight, as their
    final values are unknown.
    """
    done = select_finished(trials)
    pruned = trials.filter(seeds="search", state="pruned")
    ends = [_objective_axis(done, objective) for objective in objectives]
    verticals = [*(_weight_axis(weight) for weight in weights), *ends]
    figure = style.create_figure(title, 4.6)
    [body] = style.split_rows(figure, [1])
    axes = body.subplots()
    body.suptitle(style.wrap(note, 110), x=0.01, ha="left", color=style.MUTED, fontweight="normal")
    axes.set(xlim=(0, len(verticals) - 1), ylim=(-MARGIN, 1 + MARGIN), xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    for x, vertical in enumerate(verticals):
        _draw_axis(axes, vertical, x, 100 // len(verticals))
    for line in _lines(pruned, verticals[: len(weights)]):
        axes.plot(line, color=style.GRAY, linewidth=0.8, alpha=0.5, linestyle="--")
    _draw_finished(axes, done, verticals, ends[0])
    handle = axes.plot([], [], color=style.MUTED, **_edged(3.0))
    body.legend(handle, [name_best(trials, 100)], loc="outside lower left")
    return figure


def _draw_finished(axes: Axes, done: pl.DataFrame, verticals: Sequence[_Axis], by: _Axis) -> None:
    """Draw better trials brighter and on top, and the best with a black edge."""
    done = done[np.argsort(by.normalize(style.to_floats(done[by.column])), kind="stable").tolist()]
    # The end of viridis is too bright on white.
    colors = colormaps["viridis"](by.normalize(style.to_floats(done[by.column])) / 1.1)
    lines, best = _lines(done, verticals), done["best"].to_numpy()
    # A single artist, as thousands of them would be slow to draw.
    others = np.stack(np.broadcast_arrays(np.arange(len(verticals)), lines[~best]), axis=2)
    axes.add_collection(LineCollection(list(others), colors=colors[~best], clip_on=False))
    edged = _edged(2.0 if best.sum() > 1 else 3.0)
    for line, color in zip(lines[best], colors[best], strict=True):
        axes.plot(line, color=color, clip_on=False, solid_capstyle="butt", **edged)


def _edged(width: float) -> dict[str, Any]:
    edge = Stroke(linewidth=width + 2.5, foreground=EDGE)
    return {"linewidth": width, "path_effects": [edge, Normal()]}


def _lines(rows: pl.DataFrame, verticals: Sequence[_Axis]) -> Sample:
    return np.stack(
        [axis.normalize(style.to_floats(rows[axis.column])) for axis in verticals], axis=1
    )


def _weight_axis(weight: SweptWeight) -> _Axis:
    ticks = weight.levels[:: 1 + len(weight.levels) // 12]
    if not ticks:
        ticks = tuple(_ticks(weight.low, weight.high, log=weight.log))
    return _Axis(
        weight.column, describe_swept(weight.name).replace(" of ", " of\n"), weight.normalize, ticks
    )


def _objective_axis(done: pl.DataFrame, objective: str) -> _Axis:
    name = objective.removeprefix("-")
    values = style.to_floats(done[name])
    bottom, top = values.min(), values.max()
    ticks = _ticks(bottom, top) if bottom < top else [bottom]
    if objective[0] == "-":
        bottom, top = top, bottom

    def normalize(some: Sample) -> Sample:
        return np.full(len(some), 0.5) if bottom == top else (some - bottom) / (top - bottom)

    return _Axis(name, objective_label(objective), normalize, ticks)


def _ticks(low: float, high: float, *, log: bool = False) -> list[float]:
    """Return a few round values within a range, or else its ends."""
    locator = LogLocator(numticks=6) if log else MaxNLocator(5, steps=[1, 2, 2.5, 5, 10])
    inside = [x for x in locator.tick_values(low, high) if low <= x <= high]
    return inside if len(inside) > 1 else [low, high]


def _draw_axis(axes: Axes, vertical: _Axis, x: int, width: int) -> None:
    axes.vlines(x, -MARGIN, 1 + MARGIN, color=style.MUTED, linewidth=1, clip_on=False)
    behind = {"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 0.8}
    format_tick = style.format_percent if vertical.column.endswith("_rate") else style.format_short
    heights = vertical.normalize(np.array(vertical.ticks, float))
    for tick, y in zip(vertical.ticks, heights, strict=True):
        axes.annotate(
            format_tick(tick),
            (x, y),
            (5, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
            bbox=behind,
            zorder=4,
        )
    text = style.wrap(vertical.label, width)
    axes.annotate(text, (x, 1 + MARGIN), (0, 5), textcoords="offset points", ha="center")
