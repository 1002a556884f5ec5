"""Figures of a sweep's trials: response over one weight, and importance of the weights.

Tables of trials have the columns of `SweepResults.table`. An objective is a metric, with a minus in
front where less is better.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, PercentFormatter
from numpy.typing import NDArray

from shaperun.common.text import humanize, pluralize
from shaperun.report.plots import style
from shaperun.study.sweep import describe_swept, swept_column

Sample = NDArray[np.float64]

TRIAL, BEST = style.PALETTE[1], style.PALETTE[2]
_PRUNED_MARKERS = ("o", "s", "^", "D")


@dataclass(frozen=True)
class SweptWeight:
    """A swept weight, or parameter of a term, and its range."""

    name: str
    low: float
    high: float
    log: bool = False
    """Whether it was drawn on a logarithmic scale."""
    levels: tuple[float, ...] = ()
    """The values of a grid in ascending order; empty for a range."""

    @property
    def column(self) -> str:
        """The weight's column in a table of trials."""
        return swept_column(self.name)

    def normalize(self, values: Sample) -> Sample:
        """Map the range to 0 to 1, on the scale on which the values are spread evenly."""
        known = self.levels or (self.low, self.high)
        if len(set(known)) == 1:
            return np.full(len(values), 0.5)
        if self.log:
            values, known = np.log(values), tuple(np.log(known))
        return np.interp(values, known, np.linspace(0, 1, len(known)))

    def set_x_axis(self, axes: Axes) -> None:
        """Scale the horizontal axis to the range of the weight."""
        low, high = np.log([self.low, self.high]) if self.log else (self.low, self.high)
        margin = 0.03 * (high - low) or 0.5
        ends = np.array([low - margin, high + margin])
        axes.set_xlim(*(np.exp(ends) if self.log else ends))
        if self.log:
            style.log_scale(axes, "x")


def select_finished(trials: pl.DataFrame) -> pl.DataFrame:
    """Return the finished trials, with weights that were drawn twice only once."""
    done = trials.filter(seeds="search", state="done")
    return done.unique("arm", keep="first", maintain_order=True)


def select_fresh(trials: pl.DataFrame) -> pl.DataFrame:
    """Return the best trials on fresh seeds."""
    return trials.filter(seeds="fresh").unique("arm", keep="first", maintain_order=True)


def metric_name(objective: str) -> str:
    """Return the metric of an objective in words."""
    name = objective.removeprefix("-")
    known = {"return": "environment return per episode", "success_rate": "success rate"}
    outcome = name.removesuffix("_rate")
    return known.get(name, humanize(name) if name == outcome else f"episodes {humanize(outcome)}")


def objective_label(objective: str) -> str:
    """Return an objective in words, with its direction if less is better."""
    return metric_name(objective) + (" (less is better)" if objective[0] == "-" else "")


def set_metric_format(axes: Axes, objective: str, *, vertical: bool = True) -> None:
    """Format an axis as percentages for rates, else as short numbers."""
    axis = axes.yaxis if vertical else axes.xaxis
    share = objective.endswith("_rate")
    axis.set_major_formatter(PercentFormatter(1) if share else style.format_short)


@style.styled
def plot_response_scatter(
    trials: pl.DataFrame, *, weight: SweptWeight, objectives: Sequence[str], title: str, note: str
) -> Figure:
    """Draw every trial over one of its weights, one panel per objective.

    Pruned trials are hollow, at the value that they had when they were pruned.
    """
    figure = style.create_figure(title, 1.0 + 3.0 * len(objectives))
    [body] = style.split_rows(figure, [1])
    grid = body.subplots(len(objectives), 1, sharex=True, squeeze=False)[:, 0]
    for axes, objective in zip(grid, objectives, strict=True):
        _draw_response(axes, trials, weight, objective)
        style.label_axes(axes, "", style.wrap(objective_label(objective), 34))
        set_metric_format(axes, objective)
    weight.set_x_axis(grid[-1])
    grid[0].set_title(style.wrap(note, 110), color=style.MUTED)
    grid[-1].set_xlabel(style.wrap(describe_swept(weight.name), 70))
    handles = _legend(trials)
    columns = style.count_columns(
        [line for x in handles for line in str(x.get_label()).split("\n")]
    )
    body.legend(handles=handles, loc="outside upper left", ncols=columns)
    return figure


@style.styled
def plot_importance(table: pl.DataFrame, *, title: str, note: str) -> Figure:
    """Draw the share of each objective's variance per weight, one panel per objective.

    The table has objective, weight, share (0 to 1) and chance (95th percentile of the share of a
    weight without effect).
    """
    objectives = list(dict.fromkeys(table["objective"]))
    weights = table.n_unique("weight")
    figure = style.create_figure(
        title, 1.3 + weights * max(0.42, 0.17 * style.max_lines(table["weight"], 24))
    )
    [body] = style.split_rows(figure, [1])
    body.suptitle(style.wrap(note, 110), x=0.01, ha="left", color=style.MUTED, fontweight="normal")
    for axes, objective in style.iter_panels(body, objectives, 2):
        axes.set_title(style.wrap(objective_label(objective), 64 // len(objectives)))
        _draw_shares(axes, table.filter(objective=objective))
    return figure


def _draw_shares(axes: Axes, rows: pl.DataFrame) -> None:
    for y, (share, chance) in enumerate(rows.select("share", "chance").iter_rows()):
        axes.barh(y, share, color=TRIAL if share > chance else style.GRAY, height=0.6)
        axes.vlines(chance, y - 0.4, y + 0.4, color=BEST, linewidth=2)
        axes.text(
            max(share, chance), y, f"  {style.format_percent(share)}", va="center", fontsize=8
        )
    style.label_bars(axes, rows["weight"].to_list(), len(rows))
    longest = rows.select("share", "chance").max().max_horizontal()[0]
    axes.set(xlim=(0, max(0.3, 1.15 * longest)), xlabel="share of the variance between trials")
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))


def _draw_response(axes: Axes, trials: pl.DataFrame, weight: SweptWeight, objective: str) -> None:
    name = objective.removeprefix("-")
    done = select_finished(trials)
    for (_, rows), marker in zip(_pruned_by_rung(trials), itertools.cycle(_PRUNED_MARKERS)):
        axes.plot(
            rows[weight.column], rows[name], marker, mfc="none", mec=style.GRAY, alpha=0.8, ms=5
        )
    for rows, marker, color, size in (
        (done.filter(~pl.col("best")), "o", TRIAL, 6),
        (done.filter("best"), "*", BEST, 13),
    ):
        _draw_spread(axes, rows, weight.column, name, color)
        axes.plot(rows[weight.column], rows[name], marker, color=color, mec="white", ms=size)
    fresh = select_fresh(trials)
    x, ends = fresh[weight.column], (fresh[f"{name}_low"], fresh[f"{name}_high"])
    axes.vlines(x, *ends, color=BEST, linestyle=":")  # over the line of the search, hence the ends
    for values in ends:
        axes.plot(x, values, "_", color=BEST, markersize=9)
    axes.plot(x, fresh[name], "D", mfc="none", mec=BEST, markersize=8)


def _draw_spread(axes: Axes, rows: pl.DataFrame, x: str, y: str, color: str) -> None:
    """Draw a line from the lowest to the highest seed of every trial with several seeds."""
    rows = rows.drop_nulls(f"{y}_low")
    axes.vlines(rows[x], rows[f"{y}_low"], rows[f"{y}_high"], color=color, alpha=0.6)


def _pruned_by_rung(trials: pl.DataFrame) -> list[tuple[int, pl.DataFrame]]:
    pruned = trials.filter(seeds="search", state="pruned").sort("stopped_at", "trial")
    return [
        (steps, pruned.filter(stopped_at=steps))
        for steps in pruned["stopped_at"].unique(maintain_order=True)
    ]


def _legend(trials: pl.DataFrame) -> list[Line2D]:
    handles = []
    done = select_finished(trials)
    if not done["best"].all():
        handles.append(
            make_marker("o", f"other finished trials ({(~done['best']).sum()})", color=TRIAL)
        )
    handles.append(make_marker("*", name_best(trials, 44), color=BEST, markersize=11))
    handles += make_fresh_legend(trials)
    for (steps, rows), marker in zip(_pruned_by_rung(trials), itertools.cycle(_PRUNED_MARKERS)):
        text = f"pruned after {steps:,} steps, not ranked ({len(rows)})"
        handles.append(make_marker(marker, text, mfc="none", markeredgecolor=style.GRAY))
    return handles


def make_fresh_legend(trials: pl.DataFrame) -> list[Line2D]:
    """Return the legend entry of trials on fresh seeds, if any."""
    fresh = select_fresh(trials)
    if fresh.is_empty():
        return []
    text = f"the same with {pluralize(fresh['runs'][0], 'fresh seed')}"
    return [make_marker("D", text, markerfacecolor="white", markeredgecolor=BEST)]


def make_marker(marker: str, text: str, **look: Any) -> Line2D:
    """Return a marker as a legend entry."""
    return Line2D([], [], marker=marker, linestyle="none", label=text, **look)


def name_best(trials: pl.DataFrame, width: int) -> str:
    """Return the name of the best trial, or the size of the front."""
    names = select_finished(trials).filter("best")["arm"]
    if len(names) == 1:
        return wrap_name(f"best: {names[0]}", width)
    return f"on the front: {len(names)} trials"


def wrap_name(name: str, width: int) -> str:
    """Break a trial's name into lines of at most `width`, between weights where possible."""
    lines = [""]
    for part in re.split(r"(?<=\d_)(?=[A-Za-z])", name):
        if lines[-1] and len(lines[-1] + part) > width:
            lines.append("")
        lines[-1] += part
    return "\n".join(style.wrap(line, width) for line in lines)
