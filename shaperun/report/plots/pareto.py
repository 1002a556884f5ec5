"""The trials of a sweep for two objectives, and the front of those that none is better than."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from shaperun.report.plots.style import (
    GREY,
    MUTED,
    floats,
    label_axes,
    legend_columns,
    new_figure,
    split_rows,
    styled,
    wrap,
)
from shaperun.report.plots.trials import (
    BEST,
    TRIAL,
    finished_trials,
    format_metric,
    fresh_trials,
    legend_marker,
    legend_of_fresh,
    objective_label,
    wrap_name,
)

MAX_NAMED = 30  # names beside the figure; more need a page
_LINE = 0.145  # inches, of a name
_ROOM = 34  # characters, in the column of names
_WIDTHS = (5.4, 2.3)
_LINES = 24  # that the lowest figure has room for

Sample = NDArray[np.float64]


@styled
def pareto_front(
    trials: pl.DataFrame, *, objectives: Sequence[str], title: str, note: str
) -> Figure:
    """All finished trials by their two objectives; those on the front joined and named.

    Args:
        trials: as `search_plots` takes them.
        objectives: the two; the first lies along the horizontal axis.
        title: what the figure shows.
        note: what the points and lines are.
    """
    x, y = (objective.removeprefix("-") for objective in objectives)
    done = finished_trials(trials)
    front = done.filter("best").sort(y, x, descending=True)
    named = front.head(MAX_NAMED)
    lines = [wrap_name(name, _ROOM).count("\n") + 1 for name in named["arm"]]
    figure = new_figure(title, max(4.6, 1.6 + _LINE * sum(lines)))
    [body] = split_rows(figure, [1])
    axes, beside = body.subplots(1, 2, width_ratios=_WIDTHS)
    beside.set_axis_off()
    text = f"{note} Better is towards the {_corner(objectives)}."
    axes.set_title(wrap(text, 76), color=MUTED)
    _draw_trials(axes, done.filter(~pl.col("best")), x, y, TRIAL, 0.3)
    _draw_steps(axes, front, objectives)
    _draw_fresh(axes, front, fresh_trials(trials), x, y)
    _draw_trials(axes, front, x, y, BEST, 1.0)
    label_axes(axes, objective_label(objectives[0]), objective_label(objectives[1]))
    format_metric(axes, x, vertical=False)
    format_metric(axes, y)
    _name(axes, beside, named, lines, (x, y))
    handles = _legend(trials, len(front) - len(named))
    columns = legend_columns([str(handle.get_label()) for handle in handles])
    body.legend(handles=handles, loc="outside upper left", ncols=columns)
    return figure


def _corner(objectives: Sequence[str]) -> str:
    across, up = (objective[0] != "-" for objective in objectives)
    return f"{'upper' if up else 'lower'} {'right' if across else 'left'}"


def _draw_trials(axes: Axes, rows: pl.DataFrame, x: str, y: str, colour: str, alpha: float) -> None:
    """A point a trial, with lines from its lowest to its highest seed in either objective."""
    apart = rows.drop_nulls([f"{x}_low", f"{y}_low"])
    look: dict[str, Any] = {"color": colour, "alpha": 0.5 * alpha, "linewidth": 1}
    axes.hlines(apart[y], apart[f"{x}_low"], apart[f"{x}_high"], **look)
    axes.vlines(apart[x], apart[f"{y}_low"], apart[f"{y}_high"], **look)
    axes.plot(rows[x], rows[y], "o", color=colour, mec="white", alpha=alpha)


def _draw_steps(axes: Axes, front: pl.DataFrame, objectives: Sequence[str]) -> None:
    """The edge of what was reached: along it no objective is better without the other worse."""
    x, y = (objective.removeprefix("-") for objective in objectives)
    rows = front.sort(x, y)
    step = "steps-post" if objectives[0][0] == "-" else "steps-pre"
    axes.plot(rows[x], rows[y], color=BEST, linewidth=1.5, drawstyle=step)


def _draw_fresh(axes: Axes, front: pl.DataFrame, again: pl.DataFrame, x: str, y: str) -> None:
    """Where the trials of the front come to with fresh seeds, tied to where they were."""
    both = front.join(again.select("arm", x, y), on="arm", suffix="_fresh")
    for row in both.iter_rows(named=True):
        xs, ys = [row[x], row[f"{x}_fresh"]], [row[y], row[f"{y}_fresh"]]
        axes.plot(xs, ys, ":", color=BEST, linewidth=0.9, alpha=0.7)
    axes.plot(both[f"{x}_fresh"], both[f"{y}_fresh"], "D", mfc="white", mec=BEST, ms=5)


def _name(
    axes: Axes, beside: Axes, named: pl.DataFrame, lines: Sequence[int], columns: tuple[str, str]
) -> None:
    """Names in a column of their own, each as near to the height of its point as others let it."""
    low, high = axes.get_ylim()
    axes.set_ylim(low, high)
    wanted = (floats(named[columns[1]]) - low) / (high - low)
    middles = _spread_out(wanted, np.array(lines) / max(sum(lines), _LINES))
    rows = named.select("arm", *columns).iter_rows()
    for (arm, x, y), middle in zip(rows, middles, strict=True):
        beside.text(0, middle, wrap_name(arm, _ROOM), va="center", fontsize=7.5)
        leader = {"arrowstyle": "-", "color": GREY, "linewidth": 0.6, "shrinkA": 0}
        axes.annotate("", (x, y), (-0.02, middle), textcoords=beside.transAxes, arrowprops=leader)


def _spread_out(wanted: Sample, heights: Sample) -> Sample:
    """Places from 1 down to 0, near those that are wanted, so that nothing lies on another."""
    places, edge = wanted.copy(), 1.0
    for n, height in enumerate(heights):
        places[n] = min(wanted[n], edge - height / 2)
        edge = places[n] - height / 2
    edge = 0.0
    for n, height in reversed(list(enumerate(heights))):
        places[n] = max(places[n], edge + height / 2)
        edge = places[n] + height / 2
    return places


def _legend(trials: pl.DataFrame, unnamed: int) -> list[Line2D]:
    done = finished_trials(trials)
    on_front = int(done["best"].sum())
    others = len(done) - on_front
    more = f"; {unnamed} not named here are in trials.csv" if unnamed else ""
    handles = (
        [legend_marker("o", f"finished trial ({others})", color=TRIAL, alpha=0.5)] if others else []
    )
    handles.append(legend_marker("o", f"on the front ({on_front}){more}", color=BEST))
    return handles + legend_of_fresh(trials)
