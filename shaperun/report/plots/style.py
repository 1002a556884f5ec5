"""What all figures share: palette, style, panels, labels, and how they are saved."""

import colorsys
import io
import math
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure, SubFigure

from shaperun.common.files import write_atomically

WIDTH = 8.0  # inches; 800 pixels at 100 dots an inch
MUTED, GREY = "#606060", "#A6A6A6"

# Okabe and Ito's colours, the baseline's black first and the yellow darkened to be seen on white;
# then Paul Tol's muted ones.
PALETTE = (
    *("#1A1A1A", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#C8B400"),
    *("#882255", "#332288", "#999933", "#44AA99", "#AA4499", "#117733"),
)

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
styled = style.context(["default", _STYLE])


def colours(arms: Sequence[str]) -> dict[str, str]:
    """One colour an arm, by its place; the first arm is the baseline and gets the black."""
    return {arm: _colour(place) for place, arm in enumerate(dict.fromkeys(arms))}


def _colour(place: int) -> str:
    if place < len(PALETTE):
        return PALETTE[place]
    hue = place * 0.618034 % 1  # steps of the golden ratio keep neighbours apart
    return "#" + "".join(f"{round(255 * x):02X}" for x in colorsys.hls_to_rgb(hue, 0.42, 0.55))


def finish_layout(figure: Figure) -> None:
    """Lay the figure out for good: doing it again for another format would move things slightly."""
    engine = figure.get_layout_engine()
    if engine:
        engine.execute(figure)
    figure.set_layout_engine(None)


@styled
def save(figure: Figure, path: Path) -> list[Path]:
    """Write `path`.png and `path`.svg; a figure of the same tables gives the same bytes."""
    finish_layout(figure)
    written = []
    for kind, undated in (("png", {"Software": None}), ("svg", {"Date": None, "Creator": None})):
        data = io.BytesIO()
        figure.savefig(data, format=kind, dpi=150, metadata=undated)
        written.append(path.with_name(f"{path.name}.{kind}"))
        write_atomically(written[-1], data.getvalue())
    return written


def new_figure(title: str, height: float) -> Figure:
    """An empty figure with a title; `height` is the rest's, in inches."""
    lines = wrap(title, 70)
    size = (WIDTH, height + 0.2 * (2 + lines.count("\n")))
    figure = Figure(figsize=size, layout="constrained")
    add_heading(figure, lines, fontsize=11)
    return figure


def figure_without_data(title: str, text: str) -> Figure:
    """A figure that only says why there is nothing to see."""
    figure = new_figure(title, 1.0)
    annotate_center(figure.subplots(), text)
    return figure


def add_heading(part: Figure | SubFigure, text: str, **font: Any) -> None:
    """Write the heading of a figure or of a part of it."""
    part.suptitle(text, x=0.01, ha="left", **font)


def split_rows(figure: Figure, heights: Sequence[float]) -> list[SubFigure]:
    """Parts of a figure, one below the other, that each keep their own heading and legend."""
    grid = figure.add_gridspec(len(heights), 1, height_ratios=heights)
    return [figure.add_subfigure(grid[row]) for row in range(len(heights))]


def _rows_and_columns(count: int, most: int) -> tuple[int, int]:
    """A grid for `count` panels, at most `most` in a row, and no row much emptier than others."""
    rows = max(1, math.ceil(count / most))
    return rows, max(1, math.ceil(count / rows))


def panels(
    part: Figure | SubFigure, names: Collection[str], most: int
) -> Iterator[tuple[Axes, str]]:
    """One panel a name, titled with it."""
    rows, columns = _rows_and_columns(len(names), most)
    for place, name in enumerate(names, start=1):
        axes = part.add_subplot(rows, columns, place)
        axes.set_title(wrap(name, 64 // columns))
        yield axes, name


def figure_height(names: Collection[str], most: int, panel: float) -> float:
    """How many inches a grid of panels needs, each as high as `panel` without its title."""
    rows, columns = _rows_and_columns(len(names), most)
    return rows * (panel + 0.17 * max_lines(names, 64 // columns)) + 0.4


def label_axes(axes: Axes, x: str, y: str) -> None:
    """Name the axes, and give them a grid and short numbers."""
    axes.set(xlabel=x, ylabel=y)
    axes.grid(visible=True)
    axes.xaxis.set_major_formatter(format_short)
    axes.yaxis.set_major_formatter(format_short)


def bar_axis(axes: Axes, names: Sequence[str], room: int) -> None:
    """Name horizontal bars from the top down, leaving room for so many."""
    axes.set_yticks(range(len(names)), [wrap(name, 24) for name in names])
    axes.set_ylim(room - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)


def annotate_center(axes: Axes, text: str) -> None:
    """Write a line in place of a panel's content."""
    axes.set_axis_off()
    axes.text(0, 0.95, text, transform=axes.transAxes, va="top", color=MUTED)


def floats(column: pl.Series) -> npt.NDArray[np.float64]:
    """A column's values, null as NaN, in an array of its own."""
    return np.array(column.cast(pl.Float64))


def format_short(value: float, _: object = None) -> str:
    """A tick label: 50k, 1.5M."""
    size, unit = next((s for s in ((1e6, "M"), (1e3, "k")) if abs(value) >= s[0]), (1.0, ""))
    return f"{round(value / size, 9) + 0.0:g}{unit}".replace("-", "−")


def format_percent(share: float) -> str:
    """A share, never rounded to none or all."""
    if 0.995 <= share < 1:
        return ">99%"
    return "<1%" if 0 < share < 0.005 else f"{share:.0%}"


def text_colour(background: Any) -> str:
    """Black or white, whichever stands out more from the background."""
    red, green, blue = (x**2.2 for x in to_rgba(background)[:3])
    return "black" if 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.18 else "white"


def wrap(text: str, width: int) -> str:
    """All of a text in lines of at most `width`, broken after punctuation where there is any."""
    line, broken = f".{{1,{width}}}", f".{{{width // 2},{width}}}(?<=[-_=,/ ])"
    return "\n".join(re.findall(rf"{line}$|{broken}|{line}", text, re.MULTILINE))


def max_lines(texts: Iterable[str], width: int) -> int:
    """How many lines the longest of some texts takes."""
    return max((1 + wrap(text, width).count("\n") for text in texts), default=1)


def legend_columns(labels: Collection[str]) -> int:
    """How many columns of labels fit into the width of a figure."""
    return max(1, 108 // (max(map(len, labels), default=0) + 7))


def draw_band(axes: Axes, points: pl.DataFrame, column: str, colour: str, alpha: float) -> None:
    """Shade from `return_low` to `return_high` along `column`; a lone point gets a bar."""
    x, low, high = (floats(points[name]) for name in (column, "return_low", "return_high"))
    if len(points) == 1:
        axes.vlines(x, low, high, color=colour, linewidth=6, alpha=alpha)
    else:
        axes.fill_between(x, low, high, color=colour, linewidth=0, alpha=alpha)
