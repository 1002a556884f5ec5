"""Tables into figures.

Every function takes tables whose numbers are final and only draws them: centres and intervals are
columns, not computed here. An arm has one colour everywhere, decided by its place among the arms,
and text is shown literally, whatever an arm is called.
"""

import colorsys
import io
import math
import textwrap
from collections.abc import Callable, Collection, Iterator, Sequence
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
MUTED = "#606060"

# Okabe and Ito's colours, the baseline's black first and the yellow darkened to be seen on white;
# then Paul Tol's muted ones.
_PALETTE = (
    *("#1A1A1A", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#C8B400"),
    *("#882255", "#332288", "#999933", "#44AA99", "#AA4499", "#117733"),
)
_OUTCOMES = {
    True: ("#009E73", "#0072B2", "#56B4E9"),
    None: ("#A6A6A6", "#D0D0D0", "#787878"),
    False: ("#D55E00", "#E69F00", "#8C2D04", "#F3B98B"),
}

# Starts from matplotlib's own defaults, so that nobody's matplotlibrc changes a figure.
_styled = style.context(
    [
        "default",
        {
            "font.size": 9,
            "axes.axisbelow": True,
            "axes.edgecolor": MUTED,
            "axes.grid.axis": "y",
            "axes.spines.right": False,
            "axes.spines.top": False,
            "axes.titlelocation": "left",
            "axes.titlesize": 9,
            "grid.color": "#E6E6E6",
            "hatch.linewidth": 0.5,
            "legend.frameon": False,
            "svg.fonttype": "path",  # looks the same where the font is not installed
            "svg.hashsalt": "shaperun",
            "text.parse_math": False,
        },
    ]
)


def colours(arms: Sequence[str]) -> dict[str, str]:
    """One colour an arm, by its place; the first arm is the baseline and gets the black."""
    return {arm: _colour(place) for place, arm in enumerate(dict.fromkeys(arms))}


def _colour(place: int) -> str:
    if place < len(_PALETTE):
        return _PALETTE[place]
    hue = place * 0.618034 % 1  # steps of the golden ratio keep neighbours apart
    return "#" + "".join(f"{round(255 * x):02X}" for x in colorsys.hls_to_rgb(hue, 0.42, 0.55))


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
        arms: all arms in order; if left out, those in the tables in order of appearance.
        note: what the thin lines, the thick lines and the bands are.
    """
    palette = colours(arms or [*runs["arm"], *centre["arm"]])
    rows, columns = _grid(len(palette), most=4)
    heights = [3.2 + 0.2 * len(palette) / _legend_columns(palette), 0.4 + 1.5 * rows]
    figure = _figure(title, sum(heights))
    top, bottom = figure.subfigures(2, 1, height_ratios=heights)
    axes = _draw_returns(top, runs, centre, palette)
    axes.set_title(note, color=MUTED)
    if threshold is not None:
        _level(axes, threshold, f"solved\n({_number(threshold)})")
    _heading(
        bottom, "Shaped return per episode, each on its own scale: not comparable between arms"
    )
    for axes, arm in _panels(bottom, palette, rows, columns):
        _draw_shaped_returns(axes, runs.filter(arm=arm), palette[arm])
    return figure


def _draw_returns(
    part: SubFigure, runs: pl.DataFrame, centre: pl.DataFrame, palette: dict[str, str]
) -> Axes:
    axes = part.subplots()
    handles, labels, partial = [], [], False
    for arm, colour in palette.items():
        points = centre.filter(arm=arm).sort("timesteps")
        _thin_lines(axes, runs.filter(arm=arm), "return", colour)
        _band(axes, points, "timesteps", colour)
        partial |= _thick_line(axes, points, "return_centre", colour)
        handles.append(Line2D([], [], color=colour, linewidth=2))
        labels.append(f"{_wrapped(arm, 90)} ({_run_count(points['runs'])})")
    if partial:
        handles.append(Line2D([], [], color=MUTED, linewidth=2, linestyle=":"))
        labels.append("not all runs got this far")
    part.legend(handles, labels, loc="outside upper left", ncols=_legend_columns(labels))
    _label(axes, "environment steps", "environment return per episode")
    return axes


def _draw_shaped_returns(axes: Axes, runs: pl.DataFrame, colour: str) -> None:
    _thin_lines(axes, runs, "shaped_return", colour)
    mean = runs.group_by("timesteps").agg(pl.mean("shaped_return"), runs=pl.len())
    _thick_line(axes, mean.sort("timesteps"), "shaped_return", colour)
    _label(axes, "environment steps", "")
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.yaxis.set_major_locator(MaxNLocator(4))


def _thin_lines(axes: Axes, runs: pl.DataFrame, column: str, colour: str) -> None:
    for seed in runs["seed"].unique().sort():
        run = runs.filter(seed=seed).sort("timesteps")
        marker = "." if len(run) == 1 else ""
        axes.plot(run["timesteps"], run[column], marker, color=colour, linewidth=0.7, alpha=0.45)


def _thick_line(axes: Axes, points: pl.DataFrame, column: str, colour: str) -> bool:
    """Draw a centre, dotted where it has fewer runs behind it than elsewhere; say if there are."""
    steps, values, runs = (_floats(points[name]) for name in ("timesteps", column, "runs"))
    whole = runs == runs.max(initial=0)
    if not whole.all():
        axes.plot(steps, values, ":", color=colour, linewidth=2)
    values[~whole] = np.nan
    axes.plot(steps, values, "o-" if len(points) == 1 else "-", color=colour, linewidth=2)
    return not whole.all()


def _band(axes: Axes, points: pl.DataFrame, column: str, colour: str) -> None:
    """Shade from `return_low` to `return_high` along `column`; a lone point gets a bar."""
    x, low, high = (_floats(points[name]) for name in (column, "return_low", "return_high"))
    if len(points) == 1:
        axes.vlines(x, low, high, color=colour, linewidth=5, alpha=0.2)
    else:
        axes.fill_between(x, low, high, color=colour, linewidth=0, alpha=0.15)


@_styled
def outcomes(table: pl.DataFrame, *, title: str) -> Figure:
    """How each arm's episodes ended, as one bar of shares an arm, successes on the left.

    Args:
        table: arm, outcome, share (0 to 1 of the arm's episodes) and good (true for a success,
            false for a failure, null for neither).
        title: what the figure shows.
    """
    arms = table["arm"].unique(maintain_order=True).to_list()
    palette = _outcome_colours(table)
    figure = _figure(title, 1.1 + 0.42 * len(arms))
    axes = figure.subplots()
    start = dict.fromkeys(arms, 0.0)
    for outcome, colour in palette.items():
        for arm, share in table.filter(outcome=outcome).select("arm", "share").iter_rows():
            axes.barh(arms.index(arm), share, left=start[arm], color=colour, height=0.7)
            _label_segment(axes, start[arm] + share / 2, arms.index(arm), outcome, share, colour)
            start[arm] += share
    axes.set_yticks(range(len(arms)), [_wrapped(arm, 24) for arm in arms])
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.set(xlim=(0, 1), xlabel="share of evaluation episodes")
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    axes.invert_yaxis()
    handles = [Patch(color=colour) for colour in palette.values()]
    figure.legend(handles, list(palette), loc="outside upper left", ncols=_legend_columns(palette))
    return figure


def _outcome_colours(table: pl.DataFrame) -> dict[str, str]:
    """Colours by what an outcome means: successes, then neither, then failures."""
    palette = {}
    for good, shades in _OUTCOMES.items():
        rows = table.filter(pl.col("good").eq_missing(pl.lit(good, dtype=pl.Boolean)))
        for place, outcome in enumerate(rows["outcome"].unique(maintain_order=True)):
            palette[outcome] = shades[place % len(shades)]
    return palette


def _label_segment(axes: Axes, x: float, y: float, outcome: str, share: float, colour: str) -> None:
    """Write outcome and percentage on a segment, or as much of it as there is room for."""
    for text in (f"{outcome} {_percent(share)}", _percent(share)):
        if share > 0.016 * len(text):
            axes.text(x, y, text, ha="center", va="center", color=_ink(colour), fontsize=8)
            return


@_styled
def contributions(table: pl.DataFrame, *, title: str, arms: Sequence[str] | None = None) -> Figure:
    """What each term paid, one panel an arm, each on its own scale.

    Args:
        table: arm, term and contribution (mean over episodes of the term's weighted sum per
            episode); the term `environment` is the environment's own reward.
        title: what the figure shows.
        arms: all arms in order; if left out, those in the table in order of appearance.
    """
    palette = colours(arms or table["arm"].to_list())
    rows, columns = _grid(len(palette), most=2)
    bars = max((len(table.filter(arm=arm)) for arm in palette), default=0)
    figure = _figure(title, 0.5 + rows * (0.75 + 0.22 * bars))
    for axes, arm in _panels(figure, palette, rows, columns):
        _draw_contributions(axes, table.filter(arm=arm), palette[arm])
    figure.supxlabel("mean contribution per episode, each panel on its own scale", fontsize=9)
    return figure


def _draw_contributions(axes: Axes, table: pl.DataFrame, colour: str) -> None:
    if table.is_empty():
        _say(axes, "no terms weighted")
        return
    terms, values = table["term"].to_list(), _floats(table["contribution"])
    bars = axes.barh(
        range(len(terms)),
        values,
        color=["#9A9A9A" if term == "environment" else colour for term in terms],
        height=0.7,
    )
    axes.bar_label(bars, [_number(value) for value in values], padding=3, fontsize=8)
    axes.axvline(0, color=MUTED, linewidth=0.8)
    axes.set_yticks(range(len(terms)), [_wrapped(term, 24) for term in terms])
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.margins(x=0.3)
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.xaxis.set_major_formatter(_short)
    axes.invert_yaxis()


@_styled
def response_curve(table: pl.DataFrame, *, weight: str, title: str) -> Figure:
    """What a sweep over one weight came to: environment return, and how often it succeeds.

    Args:
        table: value (of the weight), return, return_low, return_high (environment return per
            episode and its interval, null where there is none) and success_rate (0 to 1).
        weight: the weight's name.
        title: what the figure shows.
    """
    table = table.sort("value")
    figure = _figure(title, 4.4)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 2])
    colour = _PALETTE[1]
    _band(upper, table, "value", colour)
    upper.plot(table["value"], table["return"], "o-", color=colour, linewidth=2)
    lower.plot(table["value"], table["success_rate"], "o-", color=_OUTCOMES[True][0], linewidth=2)
    _label(upper, "", "environment return\nper episode")
    _label(lower, f"weight of {_wrapped(weight, 80)}", "successful episodes")
    lower.set_ylim(-0.05, 1.05)
    lower.yaxis.set_major_formatter(PercentFormatter(1))
    return figure


@_styled
def heatmap(table: pl.DataFrame, *, x: str, y: str, title: str) -> Figure:
    """What a sweep over two weights came to, a cell for every pair of weights.

    Args:
        table: the columns named by `x` and `y` (values of the two weights), return (environment
            return per episode) and success_rate (0 to 1); at most one row a pair.
        x: the name of the weight along the horizontal axis.
        y: the name of the weight along the vertical axis.
        title: what the figure shows.
    """
    figure = _figure(title, min(8.0, 1.6 + 0.45 * table[y].n_unique()))
    left, right = figure.subplots(1, 2, sharey=True)
    _draw_cells(left, table.select(x, y, "return"), _number)
    _draw_cells(right, table.select(x, y, "success_rate"), _percent)
    left.set(title="environment return per episode", ylabel=f"weight of {_wrapped(y, 40)}")
    right.set(title="successful episodes")
    figure.supxlabel(f"weight of {_wrapped(x, 80)}", fontsize=9)
    return figure


def _draw_cells(axes: Axes, table: pl.DataFrame, write: Callable[[float], str]) -> None:
    """Draw (x, y, value) rows as cells; a pair without a row stays grey and hatched."""
    xs, ys = (table.to_series(column).unique().sort().to_list() for column in (0, 1))
    cells = np.full((len(ys), len(xs)), np.nan)
    for x, y, value in table.iter_rows():
        cells[ys.index(y), xs.index(x)] = np.nan if value is None else value
    mesh = axes.pcolormesh(np.ma.masked_invalid(cells), cmap="viridis", edgecolors="white")
    axes.patch.set(facecolor="#EBEBEB", edgecolor="#B0B0B0", hatch="////")
    for (row, column), value in np.ndenumerate(cells):
        if len(xs) <= 8 and np.isfinite(value):
            ink = _ink(mesh.to_rgba(value))
            axes.text(column + 0.5, row + 0.5, write(value), ha="center", va="center", color=ink)
    axes.set_xticks(np.arange(len(xs)) + 0.5, [_number(x) for x in xs])
    axes.set_yticks(np.arange(len(ys)) + 0.5, [_number(y) for y in ys])


@_styled
def save(figure: Figure, path: Path) -> list[Path]:
    """Write `path`.png and `path`.svg; the same figure gives the same bytes."""
    written = []
    for kind in ("png", "svg"):
        data = io.BytesIO()
        undated = {"Software": None} if kind == "png" else {"Date": None, "Creator": None}
        figure.savefig(data, format=kind, dpi=150, metadata=undated)
        written.append(path.with_name(f"{path.name}.{kind}"))
        write_atomically(written[-1], data.getvalue())
    return written


def _figure(title: str, height: float) -> Figure:
    """Make an empty figure as wide as a page; `height` in inches is that below the title."""
    lines = _wrapped(title, 80)
    figure = Figure(
        figsize=(WIDTH, height + 0.2 + 0.2 * len(lines.splitlines())), layout="constrained"
    )
    _heading(figure, lines, fontsize=11, fontweight="bold")
    return figure


def _heading(part: Figure | SubFigure, text: str, **font: Any) -> None:
    part.suptitle(text, x=0.01, ha="left", **font)


def _grid(count: int, most: int) -> tuple[int, int]:
    """Rows and columns for `count` panels, at most `most` in a row and no row nearly empty."""
    rows = max(1, math.ceil(count / most))
    return rows, max(1, math.ceil(count / rows))


def _panels(
    part: Figure | SubFigure, names: Collection[str], rows: int, columns: int
) -> Iterator[tuple[Axes, str]]:
    """One panel a name, titled with it."""
    for place, name in enumerate(names, start=1):
        axes = part.add_subplot(rows, columns, place)
        axes.set_title(_wrapped(name, 100 // columns), fontweight="bold")
        yield axes, name


def _level(axes: Axes, y: float, text: str) -> None:
    """Draw a dashed line across, named beside the right end."""
    axes.axhline(y, color=MUTED, linewidth=1, linestyle="--", zorder=1)
    axes.annotate(
        text,
        (1, y),
        xycoords=("axes fraction", "data"),
        xytext=(4, 0),
        textcoords="offset points",
        va="center",
        color=MUTED,
    )


def _label(axes: Axes, x: str, y: str) -> None:
    axes.set(xlabel=x, ylabel=y)
    axes.grid(visible=True)
    axes.xaxis.set_major_formatter(_short)
    axes.yaxis.set_major_formatter(_short)


def _say(axes: Axes, text: str) -> None:
    """Write a line of text in place of a panel's content."""
    axes.set_axis_off()
    axes.text(0, 0.95, text, transform=axes.transAxes, va="top", color=MUTED)


def _floats(column: pl.Series) -> npt.NDArray[np.float64]:
    """A writable copy of a column, null as NaN."""
    return np.array(column.cast(pl.Float64).to_numpy())


def _run_count(runs: pl.Series) -> str:
    """Say how many runs an arm has: `5 runs`."""
    count = runs.max() or 0
    return f"{count} run" if count == 1 else f"{count} runs"


def _short(value: float, _: object = None) -> str:
    """Write a tick: 50k, 1.5M."""
    for size, unit in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return _number(value / size) + unit
    return _number(value)


def _number(value: float) -> str:
    text = f"{value:,.0f}" if abs(value) >= 1000 else f"{round(value, 9) + 0.0:.4g}"
    return text.replace("-", "−")


def _percent(share: float) -> str:
    """Write a share, never rounding it to none or all."""
    if 0.995 <= share < 1:
        return ">99%"
    return "<1%" if 0 < share < 0.005 else f"{share:.0%}"


def _ink(background: Any) -> str:
    """Black or white, whichever is read more easily on the background."""
    red, green, blue, _ = to_rgba(background)
    return "black" if 0.3 * red + 0.59 * green + 0.11 * blue > 0.5 else "white"


def _wrapped(text: str, width: int) -> str:
    return textwrap.fill(text, width)


def _legend_columns(labels: Collection[str]) -> int:
    """How many columns of labels fit into the width of a figure."""
    return max(1, 100 // (max(map(len, labels), default=0) + 6))
