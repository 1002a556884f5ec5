"""All weights of a sweep's trials beside what the trials came to: parallel coordinates."""

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

from shaperun.report.plots.style import (
    GREY,
    MUTED,
    floats,
    format_percent,
    format_short,
    new_figure,
    split_rows,
    styled,
    wrap,
)
from shaperun.report.plots.trials import SweptWeight, finished_trials, name_best, objective_label

Sample = NDArray[np.float64]
MARGIN = 0.04  # of an axis, beyond either end
EDGE = "#1A1A1A"


@dataclass(frozen=True)
class _Upright:
    """One of the axes."""

    column: str
    text: str
    place: Callable[[Sample], Sample]
    """Where values lie, from 0 at its foot to 1 at its head."""
    ticks: Sequence[float]


@styled
def parallel_coordinates(
    trials: pl.DataFrame,
    *,
    weights: Sequence[SweptWeight],
    objectives: Sequence[str],
    title: str,
    note: str,
) -> Figure:
    """A line a trial, through its weights to what it came to; coloured by the first objective.

    Trials that were stopped end at the last weight: what they would have come to is not known.

    Args:
        trials: as `search_plots` takes them.
        weights: an axis each, in order.
        objectives: the last axes; the better end of each is up.
        title: what the figure shows.
        note: what the lines are.
    """
    done = finished_trials(trials)
    stopped = trials.filter(seeds="search", state="pruned")
    ends = [_of_objective(done, objective) for objective in objectives]
    uprights = [*(_of_weight(weight) for weight in weights), *ends]
    figure = new_figure(title, 4.6)
    [body] = split_rows(figure, [1])
    axes = body.subplots()
    body.suptitle(wrap(note, 110), x=0.01, ha="left", color=MUTED, fontweight="normal")
    axes.set(xlim=(0, len(uprights) - 1), ylim=(-MARGIN, 1 + MARGIN), xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    for place, one in enumerate(uprights):
        _draw_upright(axes, one, place, 100 // len(uprights))
    for line in _lines(stopped, uprights[: len(weights)]):
        axes.plot(line, color=GREY, linewidth=0.8, alpha=0.5, linestyle="--")
    _draw_finished(axes, done, uprights, ends[0])
    handle = axes.plot([], [], color=MUTED, **_edged(3.0))
    body.legend(handle, [name_best(trials, 100)], loc="outside lower left")
    return figure


def _draw_finished(
    axes: Axes, done: pl.DataFrame, uprights: Sequence[_Upright], by: _Upright
) -> None:
    """The better a trial the brighter, and above the others; the best has a black edge."""
    done = done[np.argsort(by.place(floats(done[by.column])), kind="stable").tolist()]
    # The last of viridis is too bright a yellow for white paper.
    colours = colormaps["viridis"](by.place(floats(done[by.column])) / 1.1)
    lines, best = _lines(done, uprights), done["best"].to_numpy()
    # One artist for all of them: thousands would take many times as long to draw.
    others = np.stack(np.broadcast_arrays(np.arange(len(uprights)), lines[~best]), axis=2)
    axes.add_collection(LineCollection(list(others), colors=colours[~best], clip_on=False))
    edged = _edged(2.0 if best.sum() > 1 else 3.0)
    for line, colour in zip(lines[best], colours[best], strict=True):
        axes.plot(line, color=colour, clip_on=False, solid_capstyle="butt", **edged)


def _edged(width: float) -> dict[str, Any]:
    edge = Stroke(linewidth=width + 2.5, foreground=EDGE)
    return {"linewidth": width, "path_effects": [edge, Normal()]}


def _lines(rows: pl.DataFrame, uprights: Sequence[_Upright]) -> Sample:
    return np.stack([one.place(floats(rows[one.column])) for one in uprights], axis=1)


def _of_weight(weight: SweptWeight) -> _Upright:
    ticks = weight.levels[:: 1 + len(weight.levels) // 12]
    if not ticks:
        ticks = tuple(_ticks(weight.low, weight.high, log=weight.log))
    return _Upright(weight.column, f"weight of\n{weight.name}", weight.even, ticks)


def _of_objective(done: pl.DataFrame, objective: str) -> _Upright:
    name = objective.removeprefix("-")
    values = floats(done[name])
    foot, head = values.min(), values.max()
    ticks = _ticks(foot, head) if foot < head else [foot]
    if objective[0] == "-":
        foot, head = head, foot

    def place(some: Sample) -> Sample:
        return np.full(len(some), 0.5) if foot == head else (some - foot) / (head - foot)

    return _Upright(name, objective_label(objective), place, ticks)


def _ticks(low: float, high: float, *, log: bool = False) -> list[float]:
    """A few round values; the ends where there are none."""
    locator = LogLocator(numticks=6) if log else MaxNLocator(5, steps=[1, 2, 2.5, 5, 10])
    inside = [x for x in locator.tick_values(low, high) if low <= x <= high]
    return inside if len(inside) > 1 else [low, high]


def _draw_upright(axes: Axes, one: _Upright, x: int, width: int) -> None:
    """An axis with its numbers, upon the lines."""
    axes.vlines(x, -MARGIN, 1 + MARGIN, color=MUTED, linewidth=1, clip_on=False)
    behind = {"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 0.8}
    say = format_percent if one.column.endswith("_rate") else format_short
    for tick, y in zip(one.ticks, one.place(np.array(one.ticks, float)), strict=True):
        axes.annotate(
            say(tick),
            (x, y),
            (5, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
            bbox=behind,
            zorder=4,
        )
    text = wrap(one.text, width)
    axes.annotate(text, (x, 1 + MARGIN), (0, 5), textcoords="offset points", ha="center")
