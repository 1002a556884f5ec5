"""Figures of a study's arms: learning curves, outcomes and contributions.

Functions only draw: means and intervals are columns of their tables. An arm has the same color in
every figure, by its index among the arms, and names are shown literally.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator, PercentFormatter

from shaperun.analysis.summary import describe_intervals
from shaperun.common.text import format_number, humanize
from shaperun.report.plots import style

MAX_LINES = 200  # single runs in one figure; more are unreadable
MAX_PANELS = 12

_OUTCOMES = {
    True: ("#009E73", "#0072B2", "#56B4E9"),
    None: (style.GRAY, "#D0D0D0", "#787878"),
    False: ("#D55E00", "#E69F00", "#8C2D04", "#F3B98B"),
}


@style.styled
def plot_learning_curves(
    runs: pl.DataFrame,
    center: pl.DataFrame,
    *,
    title: str,
    threshold: float | None,
    arms: Sequence[str] | None = None,
    note: str | None = None,
) -> Figure:
    """Draw the environment return of all arms in one panel, and below it their shaped returns.

    The runs have arm, seed, timesteps (environment steps), return and shaped_return (means over the
    episodes of one evaluation of one run); `center` has arm, timesteps, return_center, return_low,
    return_high (null without an interval) and runs (their number at this point). `threshold` is
    the return that counts as solved, drawn if it is near the runs. The arms are drawn in the given
    order, by default those in the tables; `note` says what the lines and the bands are, by default
    `describe_curves`.
    """
    if runs.is_empty():
        return style.create_empty_figure(title, "no evaluations yet")
    palette = style.assign_colors(arms or [*runs["arm"], *center["arm"]])
    shown = list(palette)[:MAX_PANELS]
    heights = [
        3.3 + 0.2 * len(palette) / style.count_columns(palette),
        style.figure_height(shown, 4, 1.3),
    ]
    figure = style.create_figure(title, sum(heights) + 0.4)
    lines, note = _limit_runs(runs), note or describe_curves(center)
    if len(lines) < len(runs):
        note = f"{note} (single runs: only the first of each arm)"
    top, bottom = style.split_rows(figure, heights)
    axes = _draw_returns(top, lines, center, palette)
    beyond = place_threshold(threshold, runs["return"])
    if threshold is not None and beyond:
        note = f"{note}\nsolved at {format_number(threshold)}, {beyond} the axis"
    axes.set_title(note, color=style.MUTED)
    near = [] if threshold is None or beyond else [threshold]
    _set_y_limits(axes, [*runs["return"], *near])
    for level in near:
        _draw_level(axes, level, f"solved\n({format_number(level)})")
    bottom.supxlabel("environment steps")
    some = "" if len(shown) == len(palette) else f"; the first {len(shown)} arms"
    text = f"Shaped return per episode (thick: mean over runs), not comparable between arms{some}"
    style.add_heading(bottom, text)
    for panel, arm in style.iter_panels(bottom, shown, 4):
        _draw_shaped_returns(panel, runs.filter(arm=arm), lines.filter(arm=arm), palette[arm])
        panel.set_xlim(axes.get_xlim())
    return figure


def describe_curves(center: pl.DataFrame) -> str:
    """Return what the lines and bands of learning curves are; `center` is as they are drawn."""
    runs = center.group_by("arm").agg(pl.col("runs").max())["runs"].to_list()
    if max(runs, default=0) < 2:
        return "lines: single runs"
    return (
        f"thin: single runs; thick: interquartile mean over runs; bands: {describe_intervals(runs)}"
    )


def place_threshold(threshold: float | None, returns: pl.Series) -> str:
    """Return "above" or "below" if drawing the threshold would flatten the curves, else nothing.

    That is, if it is further from the returns than half of their range.
    """
    low, high = min(returns), max(returns)
    if threshold is None or abs(threshold - (low + high) / 2) <= high - low:
        return ""
    return "above" if threshold > high else "below"


def _set_y_limits(axes: Axes, values: Sequence[float]) -> None:
    """Scale to the runs, as intervals of a few runs can be much wider."""
    low, high = min(values), max(values)
    margin = 0.05 * ((high - low) or abs(high)) or 1.0
    axes.set_ylim(low - margin, high + margin)


def _limit_runs(runs: pl.DataFrame) -> pl.DataFrame:
    """Return all runs, or the first of every arm if there are more than MAX_LINES."""
    if runs.select("arm", "seed").n_unique() <= MAX_LINES:
        return runs
    per_arm = max(3, MAX_LINES // runs["arm"].n_unique())
    return runs.filter(pl.col("seed").rank("dense").over("arm") <= per_arm)


def _draw_returns(
    part: SubFigure, runs: pl.DataFrame, center: pl.DataFrame, palette: dict[str, str]
) -> Axes:
    axes = part.subplots()
    handles, labels, partial = [], [], False
    faint = min(1.0, 4 / len(palette))
    for arm, color in palette.items():
        points = center.filter(arm=arm).sort("timesteps")
        style.draw_band(axes, points, "timesteps", color, 0.16 * faint)
        _draw_runs(axes, runs.filter(arm=arm), "return", color, 0.5 * faint)
        partial |= _draw_center(axes, points, "return_center", color)
        count = int(style.to_floats(points["runs"]).max(initial=0))
        labels.append(style.wrap(f"{arm} ({count} run{'s' * (count != 1)})", 60))
        handles.append(Line2D([], [], color=color, linewidth=2))
    if partial:
        labels.append("not all runs reached this step")
        handles.append(Line2D([], [], color=style.MUTED, linewidth=2, linestyle=":"))
    part.legend(handles, labels, loc="outside upper left", ncols=style.count_columns(labels))
    axes.set_xlim(left=0)
    style.label_axes(axes, "environment steps", "environment return per episode")
    return axes


def _draw_shaped_returns(axes: Axes, runs: pl.DataFrame, lines: pl.DataFrame, color: str) -> None:
    if runs.is_empty():
        style.annotate_center(axes, "no evaluations yet")
        return
    steps = runs.sort("timesteps", "seed").group_by("timesteps", maintain_order=True)
    means = steps.agg(pl.mean("shaped_return"), runs=pl.len())
    _draw_runs(axes, lines, "shaped_return", color, 0.5)
    _draw_center(axes, means, "shaped_return", color)
    style.label_axes(axes, "", "")
    axes.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_locator(MaxNLocator(4))


def _draw_runs(axes: Axes, runs: pl.DataFrame, column: str, color: str, alpha: float) -> None:
    runs = runs.sort("seed", "timesteps")
    ends = np.flatnonzero(np.diff(runs["seed"])) + 1
    lines = np.split(runs.select("timesteps", column).to_numpy(), ends)
    # A single artist, as thousands of them would be slow to draw.
    drawn = LineCollection(lines, colors=color, linewidths=0.7, alpha=alpha, capstyle="projecting")
    axes.add_collection(drawn)
    for point in (line for line in lines if len(line) == 1):
        axes.plot(*point.T, ".", color=color, alpha=alpha)


def _draw_center(axes: Axes, points: pl.DataFrame, column: str, color: str) -> bool:
    """Draw a center, dotted where some runs are missing, and return whether any are."""
    steps, values, runs = (style.to_floats(points[name]) for name in ("timesteps", column, "runs"))
    fewer = runs < runs.max(initial=0)
    if fewer.any():
        axes.plot(steps, values, ":", color=color, linewidth=2)
    values[fewer] = np.nan
    axes.plot(steps, values, "o-" if len(points) == 1 else "-", color=color, linewidth=2)
    return bool(fewer.any())


def _draw_level(axes: Axes, y: float, text: str) -> None:
    axes.axhline(y, color=style.MUTED, linewidth=1, linestyle="--", zorder=1)
    axes.text(1.008, y, text, transform=axes.get_yaxis_transform(), va="center", color=style.MUTED)


OUTCOME_LABEL = "share of all final episodes: a mean over runs, not an interquartile mean"


@style.styled
def plot_outcomes(table: pl.DataFrame, *, title: str) -> Figure:
    """Draw one bar of outcomes per arm, successes on the left.

    The table has arm, outcome, share (0 to 1 of the arm's episodes) and good (true for a success,
    false for a failure, null for neither).
    """
    if table.is_empty():
        return style.create_empty_figure(title, "no episodes yet")
    arms = list(dict.fromkeys(table["arm"]))
    palette = outcome_colors(table)
    figure = style.create_figure(
        title, 0.9 + len(arms) * max(0.42, 0.17 * style.max_lines(arms, 24))
    )
    [body] = style.split_rows(figure, [1])
    axes = body.subplots()
    ends = dict.fromkeys(arms, 0.0)
    for outcome, color in palette.items():
        for arm, share in table.filter(outcome=outcome).select("arm", "share").iter_rows():
            axes.barh(arms.index(arm), share, left=ends[arm], color=color, height=0.7)
            percent, x = style.format_percent(share), ends[arm] + share / 2
            texts = (f"{humanize(outcome)} {percent}", percent)
            text = next((text for text in texts if share > 0.0125 * len(text)), "")  # if it fits
            ink = style.text_color(color)
            axes.text(x, arms.index(arm), text, ha="center", va="center", color=ink, fontsize=8)
            ends[arm] += share
    style.label_bars(axes, arms, len(arms))
    axes.set(xlim=(0, 1), xlabel=OUTCOME_LABEL)
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    occurred = occurred_outcomes(table)
    patches = [Patch(color=color) for color in occurred.values()]
    names = [humanize(outcome) for outcome in occurred]
    body.legend(patches, names, loc="outside upper left", ncols=style.count_columns(names))
    return figure


def occurred_outcomes(table: pl.DataFrame) -> dict[str, str]:
    """Return the colors of the outcomes with a share, in drawing order."""
    names = set(table.filter(pl.col("share") > 0)["outcome"])
    return {name: color for name, color in outcome_colors(table).items() if name in names}


def outcome_colors(table: pl.DataFrame) -> dict[str, str]:
    """Return the colors of outcomes in drawing order: successes, neutral ones, failures."""
    palette = {}
    for good, shades in _OUTCOMES.items():
        rows = table.filter(pl.col("good").eq_missing(pl.lit(good, dtype=pl.Boolean)))
        for index, outcome in enumerate(dict.fromkeys(rows["outcome"])):
            palette[outcome] = shades[index % len(shades)]
    return palette


@style.styled
def plot_contributions(
    table: pl.DataFrame,
    *,
    title: str,
    arms: Sequence[str] | None = None,
    notes: Mapping[str, str] | None = None,
) -> Figure:
    """Draw the contribution of each term, one panel per arm, each on its own scale.

    The table has arm, term and contribution (mean over episodes of the sum over an episode of the
    term's weighted value); the term `environment` is the environment's reward. `notes` are shown
    below the panels of their arms.
    """
    palette, notes = style.assign_colors(arms or table["arm"].to_list()), notes or {}
    bars = max((len(table.filter(arm=arm)) for arm in palette), default=1)
    bar = max(0.2, 0.17 * style.max_lines(map(humanize, table["term"]), 24))
    panel = bar * bars + (0.55 if notes else 0.2)
    figure = style.create_figure(title, 0.3 + style.figure_height(palette, 2, panel))
    for axes, arm in style.iter_panels(figure, palette, 2):
        rows = table.filter(arm=arm)
        if rows.is_empty():
            style.annotate_center(axes, "no weighted terms")
        else:
            _draw_contributions(axes, rows, palette[arm], bars)
        note = style.wrap(notes.get(arm, ""), 48)
        axes.text(0, 0, note, transform=axes.transAxes, va="top", color=style.MUTED, fontsize=8)
    figure.supxlabel(
        "contribution per final episode: mean over runs, not interquartile mean; scale per panel"
    )
    return figure


def _draw_contributions(axes: Axes, rows: pl.DataFrame, color: str, bars: int) -> None:
    terms, values = rows["term"].to_list(), style.to_floats(rows["contribution"])
    shades = [style.GRAY if term == "environment" else color for term in terms]
    drawn = axes.barh(range(len(terms)), values, color=shades, height=0.7)
    axes.bar_label(drawn, [format_number(value) for value in values], padding=3, fontsize=8)
    axes.vlines(0, -0.5, len(terms) - 0.5, color=style.MUTED, linewidth=0.8)
    style.label_bars(axes, list(map(humanize, terms)), bars)
    axes.margins(x=0.35)
    axes.xaxis.set_visible(False)
    axes.spines["bottom"].set_visible(False)
