"""Figures of a grid sweep: response curves and heatmaps."""

import itertools
from collections.abc import Callable, Collection

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, PercentFormatter

from shaperun.common.text import format_exact, format_number
from shaperun.report.plots import style
from shaperun.study.sweep import describe_swept


def log_scale(axes: Axes, which: str) -> None:
    """Make an axis ("x" or "y") logarithmic, with the same short numbers as other axes."""
    axes.set(**{f"{which}scale": "log"})
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_formatter(style.format_short)
    axis.set_minor_formatter(NullFormatter())


@style.styled
def plot_response_curve(table: pl.DataFrame, *, weight: str, title: str, note: str = "") -> Figure:
    """Draw environment return and success rate over one weight.

    The table has value (of the weight), return, return_low, return_high (environment return per
    episode and its interval, null without one) and, if the environment defines successes,
    success_rate (0 to 1).
    """
    if table.is_empty():
        return style.create_empty_figure(title, "no evaluations yet")
    table = table.sort("value")
    succeeds = "success_rate" in table.columns
    figure = style.create_figure(title, 4.4 if succeeds else 3.0)
    heights = [3, 2] if succeeds else [3]
    upper, *below = figure.subplots(
        len(heights), 1, sharex=True, height_ratios=heights, squeeze=False
    )[:, 0]
    upper.set_title(note, color=style.MUTED)
    style.draw_band(upper, table, "value", style.PALETTE[1], 0.16)
    upper.vlines(table["value"], table["return_low"], table["return_high"], color=style.PALETTE[1])
    upper.plot(table["value"], table["return"], "o-", color=style.PALETTE[1], linewidth=2)
    style.label_axes(upper, "", "environment return\nper episode")
    for lower in below:
        lower.plot(table["value"], table["success_rate"], "o-", color=style.PALETTE[3], linewidth=2)
        style.label_axes(lower, "", "success rate")
        lower.set_ylim(-0.05, 1.05)
        lower.yaxis.set_major_formatter(PercentFormatter(1))
    [upper, *below][-1].set_xlabel(style.wrap(describe_swept(weight), 70))
    return figure


@style.styled
def plot_heatmap(
    table: pl.DataFrame, *, x: str, y: str, title: str, log: Collection[str] = ()
) -> Figure:
    """Draw environment return and success rate over two weights, as cells or points.

    The table has one row per pair of weights: the columns named by `x` and `y`, return
    (interquartile mean over runs, per episode) and, if the environment defines successes,
    success_rate. Weights in `log` have a logarithmic axis.
    """
    if table.is_empty():
        return style.create_empty_figure(title, "no evaluations yet")
    # Pairs drawn at random hardly share any value, so they are drawn as points.
    cells = 2 * len(table) > table[x].n_unique() * table[y].n_unique()
    draw = _draw_cells if cells else _draw_points
    figure = style.create_figure(
        title, min(8.0, 1.5 + 0.42 * table[y].n_unique()) if cells else 3.6
    )
    succeeds = "success_rate" in table.columns
    left, *right = figure.subplots(1, 1 + succeeds, sharey=True, squeeze=False)[0]
    draw(left, table.select(x, y, "return"), format_number, None)
    left.set(
        title="return per episode, interquartile mean", ylabel=style.wrap(describe_swept(y), 42)
    )
    for axes in right:
        draw(axes, table.select(x, y, "success_rate"), style.format_percent, (0, 1))
        axes.set(title="success rate, interquartile mean")
    for axes, (axis, name) in itertools.product([left, *right], zip("xy", (x, y), strict=True)):
        if name in log and not cells:
            log_scale(axes, axis)
    figure.supxlabel(style.wrap(describe_swept(x), 70))
    return figure


def _draw_cells(
    axes: Axes,
    table: pl.DataFrame,
    format_value: Callable[[float], str],
    limits: tuple[float, float] | None,
) -> None:
    """Draw rows of (x, y, value) as cells; a pair without a value is gray and hatched."""
    xs, ys = (table.to_series(column).unique().sort().to_list() for column in (0, 1))
    cells = np.full((len(ys), len(xs)), np.nan)
    for x, y, value in table.drop_nulls().iter_rows():
        cells[ys.index(y), xs.index(x)] = value
    mesh = axes.pcolormesh(np.ma.masked_invalid(cells), cmap="viridis", ec="white")
    if limits:
        mesh.set_clim(*limits)
    axes.patch.set(facecolor="#EBEBEB", edgecolor="#B0B0B0", hatch="////")
    axes.set_xticks(np.arange(len(xs)) + 0.5, list(map(format_exact, xs)))
    axes.set_yticks(np.arange(len(ys)) + 0.5, list(map(format_exact, ys)))
    if len(xs) > 8:
        axes.figure.colorbar(mesh, ax=axes, format=lambda value, _: format_value(value))
        return
    for (row, column), value in np.ndenumerate(cells):
        if np.isfinite(value):
            color = style.text_color(mesh.to_rgba(value))
            text = format_value(value)
            axes.text(column + 0.5, row + 0.5, text, ha="center", va="center", color=color)


def _draw_points(
    axes: Axes,
    table: pl.DataFrame,
    format_value: Callable[[float], str],
    limits: tuple[float, float] | None,
) -> None:
    """Draw rows of (x, y, value) as colored points."""
    xs, ys, values = (style.to_floats(table.to_series(column)) for column in range(3))
    low, high = limits or (None, None)
    points = axes.scatter(xs, ys, 70, values, vmin=low, vmax=high, cmap="viridis", ec="white")
    style.label_axes(axes, "", "")
    axes.figure.colorbar(points, ax=axes, format=lambda value, _: format_value(value))
