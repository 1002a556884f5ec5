"""Figures of what happened in training: returns that part, terms, and health.

As in `plots`, every function only draws tables whose numbers are final.
"""

from collections.abc import Mapping, Sequence

import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, NullFormatter

from shaperun.analysis.diagnostics import Measure
from shaperun.analysis.exploitation import Drift
from shaperun.common.text import humanize
from shaperun.envs.base import OWN_REWARD
from shaperun.report.plots.style import (
    GREY,
    MUTED,
    PALETTE,
    add_heading,
    colours,
    figure_height,
    figure_without_data,
    floats,
    label_axes,
    legend_columns,
    new_figure,
    panels,
    split_rows,
    styled,
)

Place = tuple[str, int]


@styled
def drifts(
    curves: pl.DataFrame, found: Sequence[Drift], *, title: str, arms: Sequence[str]
) -> Figure:
    """Environment return over shaped return, run by run, with each run's best moment marked.

    Args:
        curves: arm, seed, timesteps, return, shaped_return (means over one evaluation's episodes).
        found: what is known of each run; those that parted are drawn strong.
        title: what the figure shows.
        arms: all arms, in their order, for their colours.
    """
    shown = list(dict.fromkeys(drift.arm for drift in found))
    if not shown:
        return figure_without_data(title, "every arm learns from the environment's own reward")
    figure = new_figure(title, 2 * figure_height(shown, 4, 1.3))
    upper, lower = split_rows(figure, [1, 1])
    palette, runs = colours(arms), {(d.arm, d.seed): d for d in found}
    rows = ((upper, "return", "Environment return"), (lower, "shaped_return", "Shaped return"))
    for part, column, text in rows:
        add_heading(part, f"{text} per episode; dot: best environment return of the run")
        for axes, arm in panels(part, shown, 4):
            _draw_drifts(axes, curves.filter(arm=arm), column, runs, palette[arm])
    lower.supxlabel("environment steps")
    return figure


def _draw_drifts(
    axes: Axes, curves: pl.DataFrame, column: str, runs: Mapping[Place, Drift], colour: str
) -> None:
    for (arm, seed), run in curves.group_by("arm", "seed", maintain_order=True):
        drift = runs[str(arm), int(str(seed))]
        strength = 0.95 if drift.diverged else 0.45
        axes.plot(
            run["timesteps"],
            run[column],
            color=colour,
            linewidth=1.6 if drift.diverged else 0.8,
            alpha=strength,
        )
        best = run.filter(timesteps=drift.best_at)
        axes.plot(best["timesteps"], best[column], "o", color=colour, markersize=3, alpha=strength)
    label_axes(axes, "", "")
    _few_ticks(axes)


@styled
def terms(table: pl.DataFrame, *, title: str, arms: Sequence[str]) -> Figure:
    """What each term paid over training, a panel an arm, each on its own scale.

    Args:
        table: arm, timesteps, term and contribution (mean over runs and episodes).
        title: what the figure shows.
        arms: the arms to draw, in order.
    """
    if table.is_empty():
        return figure_without_data(title, "no evaluations yet")
    names = [t for t in dict.fromkeys(table["term"]) if t != OWN_REWARD]
    shades = {n: PALETTE[1 + k % (len(PALETTE) - 1)] for k, n in enumerate(names)}
    if OWN_REWARD in table["term"]:
        shades[OWN_REWARD] = GREY
    figure = new_figure(title, figure_height(arms, 3, 1.7) + 0.5)
    body = split_rows(figure, [1])[0]
    for axes, arm in panels(body, arms, 3):
        for term in dict.fromkeys(table.filter(arm=arm)["term"]):
            line = table.filter(arm=arm, term=term)
            axes.plot(line["timesteps"], line["contribution"], color=shades[term], linewidth=1.6)
        axes.axhline(0, color=MUTED, linewidth=0.6)
        label_axes(axes, "", "")
        _few_ticks(axes)
    handles = [Line2D([], [], color=shade, linewidth=2) for shade in shades.values()]
    labels = [humanize(name) for name in shades]
    body.legend(handles, labels, loc="outside upper left", ncols=legend_columns(labels))
    body.supxlabel("environment steps; contribution per episode, each panel on its own scale")
    return figure


@styled
def health(
    updates: pl.DataFrame, measures: Sequence[Measure], *, title: str, arms: Sequence[str]
) -> Figure:
    """What the learners reported of their updates, run by run, with the usual bounds.

    Args:
        updates: arm, seed, timesteps, and a column a measure.
        measures: what to draw.
        title: what the figure shows.
        arms: all arms, in their order, for their colours.
    """
    if updates.is_empty() or not measures:
        return figure_without_data(title, "the learner reported no updates")
    palette = {a: c for a, c in colours(arms).items() if a in updates["arm"]}
    by_title = {measure.title: measure for measure in measures}
    figure = new_figure(title, figure_height(by_title, 2, 1.6) + 0.2 * len(palette) / 4 + 0.3)
    body = split_rows(figure, [1])[0]
    for axes, name in panels(body, by_title, 2):
        _draw_measure(axes, updates, by_title[name], palette)
    handles = [Line2D([], [], color=colour, linewidth=2) for colour in palette.values()]
    body.legend(handles, palette, loc="outside upper left", ncols=legend_columns(palette))
    body.supxlabel("environment steps; dashed: rule of thumb or target")
    return figure


def _draw_measure(
    axes: Axes, updates: pl.DataFrame, measure: Measure, palette: Mapping[str, str]
) -> None:
    faint = min(0.8, 8 / len(palette))
    for (arm, _seed), run in updates.group_by("arm", "seed", maintain_order=True):
        values = floats(run[measure.column])
        axes.plot(run["timesteps"], values, color=palette[str(arm)], linewidth=0.8, alpha=faint)
    if measure.bound is not None:
        axes.axhline(measure.bound, color=MUTED, linewidth=1, linestyle="--")
    if measure.logarithmic:
        axes.set_yscale("log")
    label_axes(axes, "", "")
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))


def _few_ticks(axes: Axes) -> None:
    axes.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_locator(MaxNLocator(4))
