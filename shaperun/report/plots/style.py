"""The shared style of all figures: palette, panels, labels and saving."""

import colorsys
import io
import math
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import polars as pl
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import NullFormatter

from shaperun.common.files import write_atomically

WIDTH = 8.0  # inches; 800 pixels at 100 dots per inch
MUTED, GRAY = "#606060", "#A6A6A6"

# Okabe and Ito's colors, the baseline's black first and the yellow darkened to be visible on white;
# then Paul Tol's muted ones.
PALETTE = (
    *("#1A1A1A", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#C8B400"),
    *("#882255", "#332288", "#999933", "#44AA99", "#AA4499", "#117733"),
)

# On top of matplotlib's defaults, so that a user's matplotlibrc does not change the figures.
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
    "svg.fonttype": "path",  # same look where the font is not installed
    "svg.hashsalt": "shaperun",
    "text.parse_math": False,
}
styled = style.context(["default", _STYLE])


def assign_colors(arms: Sequence[str]) -> dict[str, str]:
    """Return one color per arm, by its index; black is for the first, the baseline."""
    return {arm: _color(index) for index, arm in enumerate(dict.fromkeys(arms))}


def _color(index: int) -> str:
    if index < len(PALETTE):
        return PALETTE[index]
    hue = index * 0.618034 % 1  # steps of the golden ratio keep neighbors apart
    return "#" + "".join(f"{round(255 * x):02X}" for x in colorsys.hls_to_rgb(hue, 0.42, 0.55))


def finish_layout(figure: Figure) -> None:
    """Freeze the layout, which would otherwise differ slightly between output formats."""
    engine = figure.get_layout_engine()
    if engine:
        engine.execute(figure)
    figure.set_layout_engine(None)


@styled
def render(figure: Figure, kind: Literal["png", "svg"]) -> bytes:
    """Return the figure as PNG or SVG; the same tables give the same bytes."""
    finish_layout(figure)
    data = io.BytesIO()
    metadata = dict.fromkeys(["Software"] if kind == "png" else ["Date", "Creator"])
    figure.savefig(data, format=kind, dpi=150, metadata=metadata)
    return data.getvalue()


def save(figure: Figure, path: Path) -> list[Path]:
    """Write `path`.png and `path`.svg."""
    png, svg = (path.with_name(f"{path.name}.{kind}") for kind in ("png", "svg"))
    write_atomically(png, render(figure, "png"))
    write_atomically(svg, render(figure, "svg"))
    return [png, svg]


def create_figure(title: str, height: float) -> Figure:
    """Return an empty figure with a title; `height` in inches excludes the title."""
    lines = wrap(title, 70)
    size = (WIDTH, height + 0.2 * (2 + lines.count("\n")))
    figure = Figure(figsize=size, layout="constrained")
    add_heading(figure, lines, fontsize=11)
    return figure


def create_empty_figure(title: str, text: str) -> Figure:
    """Return a figure with a message in place of data."""
    figure = create_figure(title, 1.0)
    annotate_center(figure.subplots(), text)
    return figure


def add_heading(part: Figure | SubFigure, text: str, **font: Any) -> None:
    """Add a left-aligned heading to a figure or a part of it."""
    part.suptitle(text, x=0.01, ha="left", **font)


def split_rows(figure: Figure, heights: Sequence[float]) -> list[SubFigure]:
    """Return subfigures one below the other, each with room for its heading and legend."""
    grid = figure.add_gridspec(len(heights), 1, height_ratios=heights)
    return [figure.add_subfigure(grid[row]) for row in range(len(heights))]


def _grid_shape(count: int, max_columns: int) -> tuple[int, int]:
    """Return rows and columns for `count` panels, with rows of about equal length."""
    rows = max(1, math.ceil(count / max_columns))
    return rows, max(1, math.ceil(count / rows))


def iter_panels(
    part: Figure | SubFigure, names: Collection[str], max_columns: int
) -> Iterator[tuple[Axes, str]]:
    """Yield one panel per name, with the name as its title."""
    rows, columns = _grid_shape(len(names), max_columns)
    for index, name in enumerate(names, start=1):
        axes = part.add_subplot(rows, columns, index)
        axes.set_title(wrap(name, 64 // columns))
        yield axes, name


def figure_height(names: Collection[str], max_columns: int, panel: float) -> float:
    """Return the height in inches of a grid of panels, each `panel` high without its title."""
    rows, columns = _grid_shape(len(names), max_columns)
    return rows * (panel + 0.17 * max_lines(names, 64 // columns)) + 0.4


def label_axes(axes: Axes, x: str, y: str) -> None:
    """Label the axes and give them a grid and short numbers."""
    axes.set(xlabel=x, ylabel=y)
    axes.grid(visible=True)
    axes.xaxis.set_major_formatter(format_short)
    axes.yaxis.set_major_formatter(format_short)


def label_bars(axes: Axes, names: Sequence[str], room: int) -> None:
    """Label horizontal bars from the top down, with room for `room` of them."""
    axes.set_yticks(range(len(names)), [wrap(name, 24) for name in names])
    axes.set_ylim(room - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)


def annotate_center(axes: Axes, text: str) -> None:
    """Show a line of text in place of a panel's content."""
    axes.set_axis_off()
    axes.text(0, 0.95, text, transform=axes.transAxes, va="top", color=MUTED)


def to_floats(column: pl.Series) -> npt.NDArray[np.float64]:
    """Return a copy of a column's values, with NaN for null."""
    return np.array(column.cast(pl.Float64))


def format_short(value: float, _: object = None) -> str:
    """Format a tick label: 50k, 1.5M."""
    size, unit = next((s for s in ((1e6, "M"), (1e3, "k")) if abs(value) >= s[0]), (1.0, ""))
    return f"{round(value / size, 9) + 0.0:g}{unit}".replace("-", "−")


def format_percent(share: float) -> str:
    """Format a share as a percentage that is never rounded to 0% or 100%."""
    if 0.995 <= share < 1:
        return ">99%"
    return "<1%" if 0 < share < 0.005 else f"{share:.0%}"


def text_color(background: Any) -> str:
    """Return black or white, depending on the contrast with the background."""
    red, green, blue = (x**2.2 for x in to_rgba(background)[:3])
    return "black" if 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.18 else "white"


def wrap(text: str, width: int) -> str:
    """Break a text into lines of at most `width`, after punctuation where possible."""
    line, broken = f".{{1,{width}}}", f".{{{width // 2},{width}}}(?<=[-_=,/ ])"
    return "\n".join(re.findall(rf"{line}$|{broken}|{line}", text, re.MULTILINE))


def max_lines(texts: Iterable[str], width: int) -> int:
    """Return the largest number of lines among wrapped texts."""
    return max((1 + wrap(text, width).count("\n") for text in texts), default=1)


def count_columns(labels: Collection[str]) -> int:
    """Return the number of legend columns that fit into the width of a figure."""
    return max(1, 108 // (max(map(len, labels), default=0) + 7))


def log_scale(axes: Axes, which: str) -> None:
    """Make an axis ("x" or "y") logarithmic, with the same short numbers as other axes."""
    axes.set(**{f"{which}scale": "log"})
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_formatter(format_short)
    axis.set_minor_formatter(NullFormatter())


def draw_band(
    axes: Axes, points: pl.DataFrame, column: str, color: str, alpha: float, of: str = "return"
) -> None:
    """Shade from `return_low` to `return_high` along `column`; a single point gets a bar.

    `of` is another metric with such an interval.
    """
    x, low, high = (to_floats(points[name]) for name in (column, f"{of}_low", f"{of}_high"))
    if len(points) == 1:
        axes.vlines(x, low, high, color=color, linewidth=6, alpha=alpha)
    else:
        axes.fill_between(x, low, high, color=color, linewidth=0, alpha=alpha)
