"""The Pareto front of a sweep with two objectives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from shaperun.report.plots import style
from shaperun.report.plots.trials import (
    BEST,
    TRIAL,
    make_fresh_legend,
    make_marker,
    objective_label,
    select_finished,
    select_fresh,
    set_metric_format,
    wrap_name,
)

MAX_NAMED = 30  # trials named next to the figure
_LINE_HEIGHT = 0.145  # inches, in the column of names
_NAME_WIDTH = 34  # characters
_WIDTHS = (5.4, 2.3)
_MIN_LINES = 24  # that the lowest figure has room for

Sample = NDArray[np.float64]


@style.styled
def plot_pareto_front(
    trials: pl.DataFrame, *, objectives: Sequence[str], title: str, note: str
) -> Figure:
    """Draw all finished trials by two objectives, x and y, with the front joined and named."""
    x, y = (objective.removeprefix("-") for objective in objectives)
    done = select_finished(trials)
    front = done.filter("best").sort(y, x, descending=True)
    named = front.head(MAX_NAMED)
    lines = [wrap_name(name, _NAME_WIDTH).count("\n") + 1 for name in named["arm"]]
    figure = style.create_figure(title, max(4.6, 1.6 + _LINE_HEIGHT * sum(lines)))
    [body] = style.split_rows(figure, [1])
    axes, column = body.subplots(1, 2, width_ratios=_WIDTHS)
    column.set_axis_off()
    text = f"{note} Better is towards the {_corner(objectives)}."
    axes.set_title(style.wrap(text, 76), color=style.MUTED)
    _draw_trials(axes, done.filter(~pl.col("best")), x, y, TRIAL, 0.3)
    _draw_steps(axes, front, objectives)
    _draw_fresh(axes, front, select_fresh(trials), x, y)
    _draw_trials(axes, front, x, y, BEST, 1.0)
    style.label_axes(axes, objective_label(objectives[0]), objective_label(objectives[1]))
    set_metric_format(axes, x, vertical=False)
    set_metric_format(axes, y)
    _draw_names(axes, column, named, lines, (x, y))
    handles = _legend(trials, len(front) - len(named))
    columns = style.count_columns([str(handle.get_label()) for handle in handles])
    body.legend(handles=handles, loc="outside upper left", ncols=columns)
    return figure


def _corner(objectives: Sequence[str]) -> str:
    across, up = (objective[0] != "-" for objective in objectives)
    return f"{'upper' if up else 'lower'} {'right' if across else 'left'}"


def _draw_trials(axes: Axes, rows: pl.DataFrame, x: str, y: str, color: str, alpha: float) -> None:
    """Draw a point per trial, with lines from its lowest to its highest seed in each objective."""
    spread = rows.drop_nulls([f"{x}_low", f"{y}_low"])
    look: dict[str, Any] = {"color": color, "alpha": 0.5 * alpha, "linewidth": 1}
    axes.hlines(spread[y], spread[f"{x}_low"], spread[f"{x}_high"], **look)
    axes.vlines(spread[x], spread[f"{y}_low"], spread[f"{y}_high"], **look)
    axes.plot(rows[x], rows[y], "o", color=color, mec="white", alpha=alpha)


def _draw_steps(axes: Axes, front: pl.DataFrame, objectives: Sequence[str]) -> None:
    """Draw the edge of the region that the trials dominate."""
    x, y = (objective.removeprefix("-") for objective in objectives)
    rows = front.sort(x, y)
    step = "steps-post" if objectives[0][0] == "-" else "steps-pre"
    axes.plot(rows[x], rows[y], color=BEST, linewidth=1.5, drawstyle=step)


def _draw_fresh(axes: Axes, front: pl.DataFrame, fresh: pl.DataFrame, x: str, y: str) -> None:
    """Draw the trials of the front on fresh seeds, connected to their values in the search."""
    both = front.join(fresh.select("arm", x, y), on="arm", suffix="_fresh")
    for row in both.iter_rows(named=True):
        xs, ys = [row[x], row[f"{x}_fresh"]], [row[y], row[f"{y}_fresh"]]
        axes.plot(xs, ys, ":", color=BEST, linewidth=0.9, alpha=0.7)
    axes.plot(both[f"{x}_fresh"], both[f"{y}_fresh"], "D", mfc="white", mec=BEST, ms=5)


def _draw_names(
    axes: Axes, column: Axes, named: pl.DataFrame, lines: Sequence[int], xy: tuple[str, str]
) -> None:
    """Write names in a column, each close to the height of its point, with a leader line."""
    low, high = axes.get_ylim()
    axes.set_ylim(low, high)
    wanted = (style.to_floats(named[xy[1]]) - low) / (high - low)
    middles = _separate(wanted, np.array(lines) / max(sum(lines), _MIN_LINES))
    rows = named.select("arm", *xy).iter_rows()
    for (arm, x, y), middle in zip(rows, middles, strict=True):
        column.text(0, middle, wrap_name(arm, _NAME_WIDTH), va="center", fontsize=7.5)
        leader = {"arrowstyle": "-", "color": style.GRAY, "linewidth": 0.6, "shrinkA": 0}
        axes.annotate("", (x, y), (-0.02, middle), textcoords=column.transAxes, arrowprops=leader)


def _separate(wanted: Sample, heights: Sample) -> Sample:
    """Return positions from 1 down to 0 that are near the wanted ones and do not overlap."""
    positions, edge = wanted.copy(), 1.0
    for n, height in enumerate(heights):
        positions[n] = min(wanted[n], edge - height / 2)
        edge = positions[n] - height / 2
    edge = 0.0
    for n, height in reversed(list(enumerate(heights))):
        positions[n] = max(positions[n], edge + height / 2)
        edge = positions[n] + height / 2
    return positions


def _legend(trials: pl.DataFrame, unnamed: int) -> list[Line2D]:
    done = select_finished(trials)
    on_front = int(done["best"].sum())
    others = len(done) - on_front
    more = f"; {unnamed} more in trials.csv" if unnamed else ""
    handles = (
        [make_marker("o", f"finished trial ({others})", color=TRIAL, alpha=0.5)] if others else []
    )
    handles.append(make_marker("o", f"on the front ({on_front}){more}", color=BEST))
    return handles + make_fresh_legend(trials)
