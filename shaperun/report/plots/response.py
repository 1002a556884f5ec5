"""The tables of a sweep into figures: response curves and heatmaps."""

import itertools
from collections.abc import Callable, Collection

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, PercentFormatter

from shaperun.common.text import format_number
from shaperun.report.plots.style import (
    PALETTE,
    draw_band,
    figure_without_data,
    floats,
    format_percent,
    format_short,
    label_axes,
    new_figure,
    styled,
    text_colour,
    wrap,
)


def log_scale(axes: Axes, which: str) -> None:
    """The logarithm along an axis ("x" or "y"), with numbers as on other axes: 0.01, 0.1, 1."""
    axes.set(**{f"{which}scale": "log"})
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_formatter(format_short)
    axis.set_minor_formatter(NullFormatter())


@styled
def response_curve(table: pl.DataFrame, *, weight: str, title: str) -> Figure:
    """What a sweep over one weight came to: environment return, and how often it succeeds.

    Args:
        table: value (of the weight), return, return_low, return_high (environment return per
            episode and its interval, null where there is none) and, where the environment knows
            successes, success_rate (0 to 1).
        weight: the weight's name.
        title: what the figure shows.
    """
    if table.is_empty():
        return figure_without_data(title, "no evaluations yet")
    table = table.sort("value")
    succeeds = "success_rate" in table.columns
    figure = new_figure(title, 4.4 if succeeds else 3.0)
    heights = [3, 2] if succeeds else [3]
    upper, *below = figure.subplots(
        len(heights), 1, sharex=True, height_ratios=heights, squeeze=False
    )[:, 0]
    draw_band(upper, table, "value", PALETTE[1], 0.16)
    upper.vlines(table["value"], table["return_low"], table["return_high"], color=PALETTE[1])
    upper.plot(table["value"], table["return"], "o-", color=PALETTE[1], linewidth=2)
    label_axes(upper, "", "environment return\nper episode")
    for lower in below:
        lower.plot(table["value"], table["success_rate"], "o-", color=PALETTE[3], linewidth=2)
        label_axes(lower, "", "successful episodes")
        lower.set_ylim(-0.05, 1.05)
        lower.yaxis.set_major_formatter(PercentFormatter(1))
    [upper, *below][-1].set_xlabel(f"weight of {wrap(weight, 60)}")
    return figure


@styled
def heatmap(
    table: pl.DataFrame, *, x: str, y: str, title: str, log: Collection[str] = ()
) -> Figure:
    """What a sweep over two weights came to: a cell for every pair of their values.

    Args:
        table: the columns named by `x` and `y` (values of the two weights), return (environment
            return per episode) and, where the environment knows successes, success_rate (0 to
            1); one row a pair.
        x: the weight along the horizontal axis.
        y: the weight along the vertical axis.
        title: what the figure shows.
        log: which of the weights were drawn in the logarithm.
    """
    if table.is_empty():
        return figure_without_data(title, "no evaluations yet")
    # Pairs that were drawn at random have hardly a value in common: they are points, not cells.
    cells = 2 * len(table) > table[x].n_unique() * table[y].n_unique()
    draw = _draw_cells if cells else _draw_points
    figure = new_figure(title, min(8.0, 1.5 + 0.42 * table[y].n_unique()) if cells else 3.6)
    succeeds = "success_rate" in table.columns
    left, *right = figure.subplots(1, 1 + succeeds, sharey=True, squeeze=False)[0]
    draw(left, table.select(x, y, "return"), format_number, None)
    left.set(title="environment return per episode", ylabel=f"weight of {wrap(y, 32)}")
    for axes in right:
        draw(axes, table.select(x, y, "success_rate"), format_percent, (0, 1))
        axes.set(title="successful episodes")
    for axes, (axis, name) in itertools.product([left, *right], zip("xy", (x, y), strict=True)):
        if name in log and not cells:
            log_scale(axes, axis)
    figure.supxlabel(f"weight of {wrap(x, 60)}")
    return figure


def _draw_cells(
    axes: Axes,
    table: pl.DataFrame,
    write: Callable[[float], str],
    limits: tuple[float, float] | None,
) -> None:
    """Draw rows of (x, y, value) as cells; a pair without a value stays grey and hatched."""
    xs, ys = (table.to_series(place).unique().sort().to_list() for place in (0, 1))
    cells = np.full((len(ys), len(xs)), np.nan)
    for x, y, value in table.drop_nulls().iter_rows():
        cells[ys.index(y), xs.index(x)] = value
    mesh = axes.pcolormesh(np.ma.masked_invalid(cells), cmap="viridis", ec="white")
    if limits:
        mesh.set_clim(*limits)
    axes.patch.set(facecolor="#EBEBEB", edgecolor="#B0B0B0", hatch="////")
    axes.set_xticks(np.arange(len(xs)) + 0.5, [f"{x:g}" for x in xs])
    axes.set_yticks(np.arange(len(ys)) + 0.5, [f"{y:g}" for y in ys])
    if len(xs) > 8:
        axes.figure.colorbar(mesh, ax=axes, format=lambda value, _: write(value))
        return
    for (row, column), value in np.ndenumerate(cells):
        if np.isfinite(value):
            colour = text_colour(mesh.to_rgba(value))
            axes.text(column + 0.5, row + 0.5, write(value), ha="center", va="center", color=colour)


def _draw_points(
    axes: Axes,
    table: pl.DataFrame,
    write: Callable[[float], str],
    limits: tuple[float, float] | None,
) -> None:
    """Draw rows of (x, y, value) as coloured points."""
    xs, ys, values = (floats(table.to_series(place)) for place in range(3))
    low, high = limits or (None, None)
    points = axes.scatter(xs, ys, 70, values, vmin=low, vmax=high, cmap="viridis", ec="white")
    label_axes(axes, "", "")
    axes.figure.colorbar(points, ax=axes, format=lambda value, _: write(value))
