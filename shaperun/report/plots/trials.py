"""The trials of a sweep into figures: over one weight, and what each weight explains.

The tables of trials are those of `trial_table`, with the column `best` (whether a trial is the
best, or of two objectives on the front) and the column `seeds`: `search` for the trials, `fresh`
for the best trained again. An objective is a metric, with a minus in front where less is better.
"""

from __future__ import annotations

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
from matplotlib.transforms import ScaledTranslation
from numpy.typing import NDArray

from shaperun.common.text import humanize
from shaperun.report.plots.response import log_scale
from shaperun.report.plots.style import (
    GREY,
    MUTED,
    PALETTE,
    bar_axis,
    format_percent,
    format_short,
    label_axes,
    legend_columns,
    max_lines,
    new_figure,
    panels,
    split_rows,
    styled,
    wrap,
)

Sample = NDArray[np.float64]

TRIAL, BEST = PALETTE[1], PALETTE[2]
_STOPPED = ("o", "s", "^", "D")


@dataclass(frozen=True)
class SweptWeight:
    """A swept weight, and where it was sought."""

    name: str
    low: float
    high: float
    log: bool = False
    """Whether it was drawn in the logarithm."""
    levels: tuple[float, ...] = ()
    """The values that it was given, in order, where it was not drawn."""

    @property
    def column(self) -> str:
        """Its column in a table of trials."""
        return f"weight_{self.name}"

    def even(self, values: Sample) -> Sample:
        """From 0 to 1 where it was sought, on the scale on which its values are spread evenly."""
        known = self.levels or (self.low, self.high)
        if len(set(known)) == 1:
            return np.full(len(values), 0.5)
        if self.log:
            values, known = np.log(values), tuple(np.log(known))
        return np.interp(values, known, np.linspace(0, 1, len(known)))

    def bound(self, axes: Axes) -> None:
        """Lay the weight along the horizontal axis, from end to end of where it was sought."""
        low, high = np.log([self.low, self.high]) if self.log else (self.low, self.high)
        margin = 0.03 * (high - low) or 0.5
        ends = np.array([low - margin, high + margin])
        axes.set_xlim(*(np.exp(ends) if self.log else ends))
        if self.log:
            log_scale(axes, "x")


def finished_trials(trials: pl.DataFrame) -> pl.DataFrame:
    """The finished trials; weights that were drawn twice were trained, and are shown, once."""
    done = trials.filter(seeds="search", state="done")
    return done.unique("arm", keep="first", maintain_order=True)


def fresh_trials(trials: pl.DataFrame) -> pl.DataFrame:
    """The best with the seeds that the search had not seen."""
    return trials.filter(seeds="fresh").unique("arm", keep="first", maintain_order=True)


def metric_name(objective: str) -> str:
    """An objective in words."""
    name = objective.removeprefix("-")
    known = {"return": "environment return per episode", "success_rate": "successful episodes"}
    outcome = name.removesuffix("_rate")
    return known.get(name, humanize(name) if name == outcome else f"episodes {humanize(outcome)}")


def objective_label(objective: str) -> str:
    """An objective in words, and that less of it is better where that is so."""
    return metric_name(objective) + (" (less is better)" if objective[0] == "-" else "")


def format_metric(axes: Axes, objective: str, *, vertical: bool = True) -> None:
    """Shares as percentages, all else in short numbers."""
    axis = axes.yaxis if vertical else axes.xaxis
    share = objective.endswith("_rate")
    axis.set_major_formatter(PercentFormatter(1) if share else format_short)


@styled
def response_scatter(
    trials: pl.DataFrame, *, weight: SweptWeight, objectives: Sequence[str], title: str, note: str
) -> Figure:
    """What every trial came to over one of its weights; a panel an objective.

    Trials that were stopped on the way stand hollow at the value that they had then.

    Args:
        trials: the trials, and the best once more with its fresh seeds.
        weight: the weight along the horizontal axis.
        objectives: the metrics that were sought.
        title: what the figure shows.
        note: what the points and lines are.
    """
    figure = new_figure(title, 1.0 + 3.0 * len(objectives))
    [body] = split_rows(figure, [1])
    grid = body.subplots(len(objectives), 1, sharex=True, squeeze=False)[:, 0]
    for axes, objective in zip(grid, objectives, strict=True):
        _draw_response(axes, trials, weight, objective)
        label_axes(axes, "", wrap(objective_label(objective), 34))
        format_metric(axes, objective)
    weight.bound(grid[-1])
    grid[0].set_title(wrap(note, 110), color=MUTED)
    grid[-1].set_xlabel(f"weight of {wrap(weight.name, 60)}")
    handles = _legend(trials)
    columns = legend_columns([line for x in handles for line in str(x.get_label()).split("\n")])
    body.legend(handles=handles, loc="outside upper left", ncols=columns)
    return figure


@styled
def importance(table: pl.DataFrame, *, title: str, note: str) -> Figure:
    """How much of each objective's variation every weight explains; a panel an objective.

    Args:
        table: objective, weight, share (0 to 1) and chance (what a weight that does nothing stays
            below 19 times of 20).
        title: what the figure shows.
        note: what is measured, and with how many trials.
    """
    objectives = list(dict.fromkeys(table["objective"]))
    weights = table.n_unique("weight")
    figure = new_figure(title, 1.3 + weights * max(0.42, 0.17 * max_lines(table["weight"], 24)))
    [body] = split_rows(figure, [1])
    body.suptitle(wrap(note, 110), x=0.01, ha="left", color=MUTED, fontweight="normal")
    for axes, objective in panels(body, objectives, 2):
        axes.set_title(wrap(objective_label(objective), 64 // len(objectives)))
        _draw_shares(axes, table.filter(objective=objective))
    return figure


def _draw_shares(axes: Axes, rows: pl.DataFrame) -> None:
    for place, (share, chance) in enumerate(rows.select("share", "chance").iter_rows()):
        axes.barh(place, share, color=TRIAL if share > chance else GREY, height=0.6)
        axes.vlines(chance, place - 0.4, place + 0.4, color=BEST, linewidth=2)
        axes.text(max(share, chance), place, f"  {format_percent(share)}", va="center", fontsize=8)
    bar_axis(axes, rows["weight"].to_list(), len(rows))
    longest = rows.select("share", "chance").max().max_horizontal()[0]
    axes.set(xlim=(0, max(0.3, 1.15 * longest)), xlabel="share of the variation between trials")
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))


def _draw_response(axes: Axes, trials: pl.DataFrame, weight: SweptWeight, objective: str) -> None:
    name = objective.removeprefix("-")
    done = finished_trials(trials)
    for place, (_, rows) in enumerate(_stopped(trials)):
        marker = _STOPPED[place % len(_STOPPED)]
        axes.plot(rows[weight.column], rows[name], marker, mfc="none", mec=GREY, alpha=0.8, ms=5)
    for rows, marker, colour, size in (
        (done.filter(~pl.col("best")), "o", TRIAL, 6),
        (done.filter("best"), "*", BEST, 13),
    ):
        _draw_spread(axes, rows, weight.column, name, colour)
        axes.plot(rows[weight.column], rows[name], marker, color=colour, mec="white", ms=size)
    again = fresh_trials(trials)
    # Beside the search's mark, not upon it: both have the same weight.
    beside = axes.transData + ScaledTranslation(7 / 72, 0, axes.figure.dpi_scale_trans)
    ends = again[f"{name}_low"], again[f"{name}_high"]
    axes.vlines(again[weight.column], *ends, color=BEST, linestyle=":", transform=beside)
    axes.plot(again[weight.column], again[name], "D", mfc="white", mec=BEST, transform=beside)
    _bound(axes, trials.select(name, f"{name}_low", f"{name}_high"))


def _bound(axes: Axes, values: pl.DataFrame) -> None:
    """Show all of them; what stands beside its place is not seen by matplotlib."""
    low, high = values.min().min_horizontal()[0], values.max().max_horizontal()[0]
    margin = 0.07 * (high - low) or 0.5
    axes.set_ylim(low - margin, high + margin)


def _draw_spread(axes: Axes, rows: pl.DataFrame, x: str, y: str, colour: str) -> None:
    """A line from the lowest to the highest seed of every trial that has more than one."""
    rows = rows.drop_nulls(f"{y}_low")
    axes.vlines(rows[x], rows[f"{y}_low"], rows[f"{y}_high"], color=colour, alpha=0.6)


def _stopped(trials: pl.DataFrame) -> list[tuple[int, pl.DataFrame]]:
    """The trials that were stopped, by the steps after which they were."""
    stopped = trials.filter(seeds="search", state="pruned").sort("stopped_at", "trial")
    return [
        (steps, stopped.filter(stopped_at=steps))
        for steps in stopped["stopped_at"].unique(maintain_order=True)
    ]


def _legend(trials: pl.DataFrame) -> list[Line2D]:
    """What the marks are; the best by its name."""
    handles = []
    done = finished_trials(trials)
    if not done["best"].all():
        handles.append(legend_marker("o", f"finished trial ({(~done['best']).sum()})", color=TRIAL))
    handles.append(legend_marker("*", name_best(trials, 44), color=BEST, markersize=11))
    handles += legend_of_fresh(trials)
    for place, (steps, rows) in enumerate(_stopped(trials)):
        text = f"pruned after {steps:,} steps, not ranked ({len(rows)})"
        handles.append(
            legend_marker(_STOPPED[place % len(_STOPPED)], text, mfc="none", markeredgecolor=GREY)
        )
    return handles


def legend_of_fresh(trials: pl.DataFrame) -> list[Line2D]:
    """What a hollow diamond is, where there are any."""
    again = fresh_trials(trials)
    if again.is_empty():
        return []
    text = f"the same with {count_things(again['runs'][0], 'fresh seed')}"
    return [legend_marker("D", text, markerfacecolor="white", markeredgecolor=BEST)]


def legend_marker(marker: str, text: str, **look: Any) -> Line2D:
    """A mark of a legend."""
    return Line2D([], [], marker=marker, linestyle="none", label=text, **look)


def name_best(trials: pl.DataFrame, width: int) -> str:
    """The best by name, or how many there are on the front."""
    names = finished_trials(trials).filter("best")["arm"]
    if len(names) == 1:
        return wrap_name(f"best: {names[0]}", width)
    return f"on the front: {len(names)} trials"


def wrap_name(name: str, width: int) -> str:
    """A trial's name in lines of at most `width`, broken between weights where that will do."""
    lines = [""]
    for part in re.split(r"(?<=\d_)(?=[A-Za-z])", name):
        if lines[-1] and len(lines[-1] + part) > width:
            lines.append("")
        lines[-1] += part
    return "\n".join(wrap(line, width) for line in lines)


def count_things(things: int, name: str) -> str:
    """So many things."""
    return f"{things} {name}{'s' * (things != 1)}"
