"""Tables into figures.

Every function takes tables whose numbers are final and only draws them: centres and intervals are
columns, not computed here. An arm has one colour everywhere, decided by its place among the arms,
and text is shown literally, whatever an arm is called.
"""

import colorsys
import io
import math
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator, PercentFormatter

from shaperun.files import write_atomically

WIDTH = 8.0  # inches; 800 pixels at 100 dots an inch
MUTED, GREY = "#606060", "#A6A6A6"

# Okabe and Ito's colours, the baseline's black first and the yellow darkened to be seen on white;
# then Paul Tol's muted ones.
_PALETTE = (
    *("#1A1A1A", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#C8B400"),
    *("#882255", "#332288", "#999933", "#44AA99", "#AA4499", "#117733"),
)
_OUTCOMES = {
    True: ("#009E73", "#0072B2", "#56B4E9"),
    None: (GREY, "#D0D0D0", "#787878"),
    False: ("#D55E00", "#E69F00", "#8C2D04", "#F3B98B"),
}

# Starts from matplotlib's own defaults, so that nobody's matplotlibrc changes a figure.
_STYLE = {
    "font.size": 9,
    "axes.axisbelow": True,
    "axes.edgecolor": MUTED,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 9,
    "figure.labelsize": 9,
    "figure.titlesize": 10,
    "figure.titleweight": "bold",
    "grid.color": "#E6E6E6",
    "hatch.linewidth": 0.5,
    "legend.frameon": False,
    "svg.fonttype": "path",  # looks the same where the font is not installed
    "svg.hashsalt": "shaperun",
    "text.parse_math": False,
}
_styled = style.context(["default", _STYLE])


def colours(arms: Sequence[str]) -> dict[str, str]:
    """One colour an arm, by its place; the first arm is the baseline and gets the black."""
    return {arm: _colour(place) for place, arm in enumerate(dict.fromkeys(arms))}


def _colour(place: int) -> str:
    if place < len(_PALETTE):
        return _PALETTE[place]
    hue = place * 0.618034 % 1  # steps of the golden ratio keep neighbours apart
    return "#" + "".join(f"{round(255 * x):02X}" for x in colorsys.hls_to_rgb(hue, 0.42, 0.55))


@_styled
def save(figure: Figure, path: Path) -> list[Path]:
    """Write `path`.png and `path`.svg; a figure of the same tables gives the same bytes."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # laid out once: doing it again would move things slightly
    written = []
    for kind, undated in (("png", {"Software": None}), ("svg", {"Date": None, "Creator": None})):
        data = io.BytesIO()
        figure.savefig(data, format=kind, dpi=150, metadata=undated)
        written.append(path.with_name(f"{path.name}.{kind}"))
        write_atomically(written[-1], data.getvalue())
    return written


@_styled
def learning_curves(
    runs: pl.DataFrame,
    centre: pl.DataFrame,
    *,
    title: str,
    threshold: float | None,
    arms: Sequence[str] | None = None,
    note: str = "thin: single runs; thick and shaded: their centre and its interval",
) -> Figure:
    """Environment return of all arms in one panel; below it, each arm's own shaped return.

    Args:
        runs: arm, seed, timesteps (environment steps), return and shaped_return (means over the
            episodes of one evaluation of one run).
        centre: arm, timesteps, return_centre, return_low, return_high (null where there is no
            interval) and runs (how many runs are behind the point).
        title: what the figure shows.
        threshold: the environment return that counts as solved.
        arms: the arms to draw, in order; if left out, those in the tables as they appear.
        note: what the thin lines, the thick lines and the bands are.
    """
    if runs.is_empty():
        return _figure_without_data(title, "no evaluations yet")
    palette = colours(arms or [*runs["arm"], *centre["arm"]])
    heights = [3.3 + 0.2 * len(palette) / _legend_columns(palette), _height(palette, 4, 1.3)]
    figure = _figure(title, sum(heights) + 0.4)
    top, bottom = _parts(figure, heights)
    axes = _draw_returns(top, runs, centre, palette)
    axes.set_title(note, color=MUTED)
    if threshold is not None:
        _draw_level(axes, threshold, f"solved\n({threshold:g})")
    bottom.supxlabel("environment steps")
    _head(bottom, "Shaped return per episode, each on its own scale: not comparable between arms")
    for panel, arm in _panels(bottom, palette, 4):
        _draw_shaped_returns(panel, runs.filter(arm=arm), palette[arm])
        panel.set_xlim(axes.get_xlim())
    return figure


def _draw_returns(
    part: SubFigure, runs: pl.DataFrame, centre: pl.DataFrame, palette: dict[str, str]
) -> Axes:
    axes = part.subplots()
    handles, labels, partial = [], [], False
    faint = min(1.0, 4 / len(palette))
    for arm, colour in palette.items():
        points = centre.filter(arm=arm).sort("timesteps")
        _draw_band(axes, points, "timesteps", colour, 0.16 * faint)
        _draw_runs(axes, runs.filter(arm=arm), "return", colour, 0.5 * faint)
        partial |= _draw_centre(axes, points, "return_centre", colour)
        count = int(_floats(points["runs"]).max(initial=0))
        labels.append(_wrapped(f"{arm} ({count} run{'s' * (count != 1)})", 60))
        handles.append(Line2D([], [], color=colour, linewidth=2))
    if partial:
        labels.append("not all runs got this far")
        handles.append(Line2D([], [], color=MUTED, linewidth=2, linestyle=":"))
    part.legend(handles, labels, loc="outside upper left", ncols=_legend_columns(labels))
    axes.set_xlim(left=0)
    _label(axes, "environment steps", "environment return per episode")
    return axes


def _draw_shaped_returns(axes: Axes, runs: pl.DataFrame, colour: str) -> None:
    if runs.is_empty():
        _say(axes, "no evaluations yet")
        return
    steps = runs.sort("timesteps", "seed").group_by("timesteps", maintain_order=True)
    means = steps.agg(pl.mean("shaped_return"), runs=pl.len())
    _draw_runs(axes, runs, "shaped_return", colour, 0.5)
    _draw_centre(axes, means, "shaped_return", colour)
    _label(axes, "", "")
    axes.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_locator(MaxNLocator(4))


def _draw_runs(axes: Axes, runs: pl.DataFrame, column: str, colour: str, alpha: float) -> None:
    for seed in runs["seed"].unique().sort():
        run = runs.filter(seed=seed).sort("timesteps")
        form = ".-" if len(run) == 1 else "-"
        axes.plot(run["timesteps"], run[column], form, color=colour, linewidth=0.7, alpha=alpha)


def _draw_centre(axes: Axes, points: pl.DataFrame, column: str, colour: str) -> bool:
    """Draw a centre, dotted where fewer runs are behind it than elsewhere; say if there are."""
    steps, values, runs = (_floats(points[name]) for name in ("timesteps", column, "runs"))
    fewer = runs < runs.max(initial=0)
    if fewer.any():
        axes.plot(steps, values, ":", color=colour, linewidth=2)
    values[fewer] = np.nan
    axes.plot(steps, values, "o-" if len(points) == 1 else "-", color=colour, linewidth=2)
    return bool(fewer.any())


def _draw_band(axes: Axes, points: pl.DataFrame, column: str, colour: str, alpha: float) -> None:
    """Shade from `return_low` to `return_high` along `column`; a lone point gets a bar."""
    x, low, high = (_floats(points[name]) for name in (column, "return_low", "return_high"))
    if len(points) == 1:
        axes.vlines(x, low, high, color=colour, linewidth=6, alpha=alpha)
    else:
        axes.fill_between(x, low, high, color=colour, linewidth=0, alpha=alpha)


def _draw_level(axes: Axes, y: float, text: str) -> None:
    axes.axhline(y, color=MUTED, linewidth=1, linestyle="--", zorder=1)
    axes.text(1.008, y, text, transform=axes.get_yaxis_transform(), va="center", color=MUTED)


@_styled
def outcomes(table: pl.DataFrame, *, title: str) -> Figure:
    """How each arm's episodes ended: one bar an arm, successes on the left.

    Args:
        table: arm, outcome, share (0 to 1 of the arm's episodes) and good (true for a success,
            false for a failure, null for neither).
        title: what the figure shows.
    """
    if table.is_empty():
        return _figure_without_data(title, "no episodes yet")
    arms = list(dict.fromkeys(table["arm"]))
    palette = _outcome_colours(table)
    figure = _figure(title, 0.9 + len(arms) * max(0.42, 0.17 * _most_lines(arms, 24)))
    [body] = _parts(figure, [1])
    axes = body.subplots()
    ends = dict.fromkeys(arms, 0.0)
    for outcome, colour in palette.items():
        for arm, share in table.filter(outcome=outcome).select("arm", "share").iter_rows():
            axes.barh(arms.index(arm), share, left=ends[arm], color=colour, height=0.7)
            text = _fitting(f"{outcome} {_percent(share)}", _percent(share), share)
            place = (ends[arm] + share / 2, arms.index(arm))
            axes.text(*place, text, ha="center", va="center", color=_ink(colour), fontsize=8)
            ends[arm] += share
    _bar_axis(axes, arms, len(arms))
    axes.set(xlim=(0, 1), xlabel="share of evaluation episodes")
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    patches = [Patch(color=colour) for colour in palette.values()]
    body.legend(patches, palette, loc="outside upper left", ncols=_legend_columns(palette))
    return figure


def _outcome_colours(table: pl.DataFrame) -> dict[str, str]:
    """Outcomes in the order they are drawn: successes, those that are neither, failures."""
    palette = {}
    for good, shades in _OUTCOMES.items():
        rows = table.filter(pl.col("good").eq_missing(pl.lit(good, dtype=pl.Boolean)))
        for place, outcome in enumerate(dict.fromkeys(rows["outcome"])):
            palette[outcome] = shades[place % len(shades)]
    return palette


def _fitting(long: str, short: str, share: float) -> str:
    """The longest text that a bar over this share of the figure has room for."""
    return next((text for text in (long, short) if share > 0.0125 * len(text)), "")


@_styled
def contributions(table: pl.DataFrame, *, title: str, arms: Sequence[str] | None = None) -> Figure:
    """What each term paid: one panel an arm, each on its own scale.

    Args:
        table: arm, term and contribution (mean over episodes of the sum over an episode of the
            term's weighted value); the term `environment` is the environment's own reward.
        title: what the figure shows.
        arms: the arms to draw, in order; if left out, those in the table as they appear.
    """
    palette = colours(arms or table["arm"].to_list())
    bars = max((len(table.filter(arm=arm)) for arm in palette), default=1)
    bar = max(0.2, 0.17 * _most_lines(table["term"], 24))
    figure = _figure(title, 0.3 + _height(palette, 2, 0.2 + bar * bars))
    for axes, arm in _panels(figure, palette, 2):
        rows = table.filter(arm=arm)
        if rows.is_empty():
            _say(axes, "no terms weighted")
        else:
            _draw_contributions(axes, rows, palette[arm], bars)
    figure.supxlabel(
        "mean contribution per episode (the weighted term, summed); each panel on its own scale"
    )
    return figure


def _draw_contributions(axes: Axes, rows: pl.DataFrame, colour: str, bars: int) -> None:
    terms, values = rows["term"].to_list(), _floats(rows["contribution"])
    shades = [GREY if term == "environment" else colour for term in terms]
    drawn = axes.barh(range(len(terms)), values, color=shades, height=0.7)
    axes.bar_label(drawn, [_number(value) for value in values], padding=3, fontsize=8)
    axes.vlines(0, -0.5, len(terms) - 0.5, color=MUTED, linewidth=0.8)
    _bar_axis(axes, terms, bars)
    axes.margins(x=0.35)
    axes.xaxis.set_visible(False)
    axes.spines["bottom"].set_visible(False)


@_styled
def response_curve(table: pl.DataFrame, *, weight: str, title: str) -> Figure:
    """What a sweep over one weight came to: environment return, and how often it succeeds.

    Args:
        table: value (of the weight), return, return_low, return_high (environment return per
            episode and its interval, null where there is none) and success_rate (0 to 1).
        weight: the weight's name.
        title: what the figure shows.
    """
    if table.is_empty():
        return _figure_without_data(title, "no evaluations yet")
    table = table.sort("value")
    figure = _figure(title, 4.4)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 2])
    _draw_band(upper, table, "value", _PALETTE[1], 0.16)
    upper.vlines(table["value"], table["return_low"], table["return_high"], color=_PALETTE[1])
    upper.plot(table["value"], table["return"], "o-", color=_PALETTE[1], linewidth=2)
    lower.plot(table["value"], table["success_rate"], "o-", color=_PALETTE[3], linewidth=2)
    _label(upper, "", "environment return\nper episode")
    _label(lower, f"weight of {_wrapped(weight, 60)}", "successful episodes")
    lower.set_ylim(-0.05, 1.05)
    lower.yaxis.set_major_formatter(PercentFormatter(1))
    return figure


@_styled
def heatmap(table: pl.DataFrame, *, x: str, y: str, title: str) -> Figure:
    """What a sweep over two weights came to: a cell for every pair of their values.

    Args:
        table: the columns named by `x` and `y` (values of the two weights), return (environment
            return per episode) and success_rate (0 to 1); one row a pair.
        x: the weight along the horizontal axis.
        y: the weight along the vertical axis.
        title: what the figure shows.
    """
    if table.is_empty():
        return _figure_without_data(title, "no evaluations yet")
    figure = _figure(title, min(8.0, 1.5 + 0.42 * table[y].n_unique()))
    left, right = figure.subplots(1, 2, sharey=True)
    _draw_cells(left, table.select(x, y, "return"), _number)
    _draw_cells(right, table.select(x, y, "success_rate"), _percent, limits=(0, 1))
    left.set(title="environment return per episode", ylabel=f"weight of {_wrapped(y, 32)}")
    right.set(title="successful episodes")
    figure.supxlabel(f"weight of {_wrapped(x, 60)}")
    return figure


def _draw_cells(
    axes: Axes,
    table: pl.DataFrame,
    write: Callable[[float], str],
    limits: tuple[float, float] | None = None,
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
            ink = _ink(mesh.to_rgba(value))
            axes.text(column + 0.5, row + 0.5, write(value), ha="center", va="center", color=ink)


def _figure(title: str, height: float) -> Figure:
    """An empty figure with a title; `height` is the rest's, in inches."""
    lines = _wrapped(title, 70)
    size = (WIDTH, height + 0.2 * (2 + lines.count("\n")))
    figure = Figure(figsize=size, layout="constrained")
    _head(figure, lines, fontsize=11)
    return figure


def _figure_without_data(title: str, text: str) -> Figure:
    figure = _figure(title, 1.0)
    _say(figure.subplots(), text)
    return figure


def _head(part: Figure | SubFigure, text: str, **font: Any) -> None:
    part.suptitle(text, x=0.01, ha="left", **font)


def _parts(figure: Figure, heights: Sequence[float]) -> list[SubFigure]:
    """Parts of a figure, one below the other, that each keep their own heading and legend."""
    grid = figure.add_gridspec(len(heights), 1, height_ratios=heights)
    return [figure.add_subfigure(grid[row]) for row in range(len(heights))]


def _rows_and_columns(count: int, most: int) -> tuple[int, int]:
    """A grid for `count` panels, at most `most` in a row, and no row much emptier than others."""
    rows = max(1, math.ceil(count / most))
    return rows, max(1, math.ceil(count / rows))


def _panels(
    part: Figure | SubFigure, names: Collection[str], most: int
) -> Iterator[tuple[Axes, str]]:
    """One panel a name, titled with it."""
    rows, columns = _rows_and_columns(len(names), most)
    for place, name in enumerate(names, start=1):
        axes = part.add_subplot(rows, columns, place)
        axes.set_title(_wrapped(name, 64 // columns))
        yield axes, name


def _height(names: Collection[str], most: int, panel: float) -> float:
    """How many inches a grid of panels needs, each as high as `panel` without its title."""
    rows, columns = _rows_and_columns(len(names), most)
    return rows * (panel + 0.17 * _most_lines(names, 64 // columns)) + 0.4


def _label(axes: Axes, x: str, y: str) -> None:
    axes.set(xlabel=x, ylabel=y)
    axes.grid(visible=True)
    axes.xaxis.set_major_formatter(_short)
    axes.yaxis.set_major_formatter(_short)


def _bar_axis(axes: Axes, names: Sequence[str], room: int) -> None:
    """Name horizontal bars from the top down, leaving room for so many."""
    axes.set_yticks(range(len(names)), [_wrapped(name, 24) for name in names])
    axes.set_ylim(room - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)


def _say(axes: Axes, text: str) -> None:
    """Write a line in place of a panel's content."""
    axes.set_axis_off()
    axes.text(0, 0.95, text, transform=axes.transAxes, va="top", color=MUTED)


def _floats(column: pl.Series) -> npt.NDArray[np.float64]:
    """A column's values, null as NaN, in an array of its own."""
    return np.array(column.cast(pl.Float64))


def _short(value: float, _: object = None) -> str:
    """A tick label: 50k, 1.5M."""
    size, unit = next((s for s in ((1e6, "M"), (1e3, "k")) if abs(value) >= s[0]), (1.0, ""))
    return f"{round(value / size, 9) + 0.0:g}{unit}".replace("-", "−")


def _number(value: float) -> str:
    """A value with three digits that count, or all that are before the point."""
    text = f"{value:,.0f}" if abs(value) >= 100 else f"{value + 0.0:.3g}"
    return text.replace("-", "−")


def _percent(share: float) -> str:
    """A share, never rounded to none or all."""
    if 0.995 <= share < 1:
        return ">99%"
    return "<1%" if 0 < share < 0.005 else f"{share:.0%}"


def _ink(background: Any) -> str:
    """Black or white, whichever stands out more from the background."""
    red, green, blue = (x**2.2 for x in to_rgba(background)[:3])
    return "black" if 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.18 else "white"


def _wrapped(text: str, width: int) -> str:
    """All of a text in lines of at most `width`, broken after punctuation where there is any."""
    line, broken = f".{{1,{width}}}", f".{{{width // 2},{width}}}(?<=[-_=,/ ])"
    return "\n".join(re.findall(rf"{line}$|{broken}|{line}", text, re.MULTILINE))


def _most_lines(texts: Iterable[str], width: int) -> int:
    """How many lines the longest of some texts takes."""
    return max((1 + _wrapped(text, width).count("\n") for text in texts), default=1)


def _legend_columns(labels: Collection[str]) -> int:
    """How many columns of labels fit into the width of a figure."""
    return max(1, 108 // (max(map(len, labels), default=0) + 7))
