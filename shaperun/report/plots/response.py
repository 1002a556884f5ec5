"""Figures of the objectives over one swept weight, or parameter, or two."""

import itertools
from collections.abc import Callable, Collection, Sequence

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from shaperun.common.text import format_exact, format_number
from shaperun.report.plots import style
from shaperun.report.plots.trials import objective_label, set_metric_format
from shaperun.study.sweep import describe_swept

MIN_CURVE = 3  # distinct points; a line through fewer would suggest a trend


@style.styled
def plot_response_curve(
    table: pl.DataFrame,
    *,
    weight: str,
    title: str,
    note: str = "",
    objectives: Sequence[str] = ("return",),
) -> Figure:
    """Draw the objectives over one weight, one panel each; below a single return the success rate.

    The table has value (of the weight), and for each objective a column with its value and, if
    known, `_low` and `_high`, its interval (null without one). An objective is a metric, with a
    minus in front where less is better. `success_rate` (0 to 1) is drawn if the table has it.
    """
    if table.is_empty():
        return style.create_empty_figure(title, "no evaluations yet")
    table = table.sort("value")
    panels = _list_panels(table, objectives)
    heights = [3.0 if panel in objectives else 2.0 for panel in panels]
    figure = style.create_figure(title, 0.8 + 0.73 * sum(heights))
    grid = figure.subplots(len(panels), 1, sharex=True, height_ratios=heights, squeeze=False)[:, 0]
    for index, (axes, panel) in enumerate(zip(grid, panels, strict=True)):
        name, color = panel.removeprefix("-"), style.PALETTE[(1, 3)[index]]
        if f"{name}_low" in table.columns:
            style.draw_band(axes, table, "value", color, 0.16, of=name)
            axes.vlines(table["value"], table[f"{name}_low"], table[f"{name}_high"], color=color)
        line = "-" if table["value"].n_unique() >= MIN_CURVE else "none"
        axes.plot(table["value"], table[name], "o", linestyle=line, color=color, linewidth=2)
        style.label_axes(axes, "", style.wrap(objective_label(panel), int(8 * heights[index])))
        set_metric_format(axes, panel)
        if name.endswith("_rate"):
            axes.set_ylim(-0.05, 1.05)
    grid[0].set_title(style.wrap(note, 110), color=style.MUTED)
    grid[-1].set_xlabel(style.wrap(describe_swept(weight), 70))
    return figure


def _list_panels(table: pl.DataFrame, objectives: Sequence[str]) -> list[str]:
    succeeds = list(objectives) == ["return"] and "success_rate" in table.columns
    return [*objectives, "success_rate"] if succeeds else list(objectives)


@style.styled
def plot_heatmap(
    table: pl.DataFrame,
    *,
    x: str,
    y: str,
    title: str,
    log: Collection[str] = (),
    objectives: Sequence[str] = ("return",),
    statistic: str = "interquartile mean",
) -> Figure:
    """Draw the objectives over two weights, as cells or points; beside a return the success rate.

    The table has one row per pair of weights: the columns named by `x` and `y`, and one per
    objective with the `statistic` over runs; objectives and success_rate as in
    `plot_response_curve`. Weights in `log` have a logarithmic axis.
    """
    if table.is_empty():
        return style.create_empty_figure(title, "no evaluations yet")
    # Pairs drawn at random hardly share any value, so they are drawn as points.
    cells = 2 * len(table) > table[x].n_unique() * table[y].n_unique()
    draw = _draw_cells if cells else _draw_points
    figure = style.create_figure(
        title, min(8.0, 1.5 + 0.42 * table[y].n_unique()) if cells else 3.6
    )
    panels = _list_panels(table, objectives)
    grid = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axes, panel in zip(grid, panels, strict=True):
        name = panel.removeprefix("-")
        rate = name.endswith("_rate")
        draw(
            axes,
            table.select(x, y, name),
            style.format_percent if rate else format_number,
            (0, 1) if rate else None,
        )
        how = statistic if panel in objectives else "interquartile mean"
        axes.set_title(style.wrap(f"{objective_label(panel)}, {how}", 88 // len(panels)))
    grid[0].set_ylabel(style.wrap(describe_swept(y), 42))
    for axes, (axis, name) in itertools.product(grid, zip("xy", (x, y), strict=True)):
        if name in log and not cells:
            style.log_scale(axes, axis)
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
        axes.figure.colorbar(mesh, ax=axes, format=_format_ticks(format_value, limits))
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
    axes.figure.colorbar(points, ax=axes, format=_format_ticks(format_value, limits))


def _format_ticks(
    format_value: Callable[[float], str], limits: tuple[float, float] | None
) -> Callable[[float, object], str]:
    """Return the format of a color bar: its ticks may differ in late digits, unless in percent."""
    return (lambda value, _: format_value(value)) if limits else style.format_short
