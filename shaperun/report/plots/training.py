"""Figures over training: environment and shaped return, contributions, update statistics."""

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
from shaperun.report.plots import style


@style.styled
def plot_drifts(
    curves: pl.DataFrame, runs: Sequence[Drift], *, title: str, arms: Sequence[str]
) -> Figure:
    """Draw environment return above shaped return, per run, with each run's best step marked.

    The curves have arm, seed, timesteps, return and shaped_return (means over the episodes of one
    evaluation); runs that diverged are emphasized. `arms` are all arms in order, for their colors.
    """
    shown = list(dict.fromkeys(drift.arm for drift in runs))
    if not shown:
        return style.create_empty_figure(title, "every arm learns from the environment's reward")
    figure = style.create_figure(title, 2 * style.figure_height(shown, 4, 1.3))
    upper, lower = style.split_rows(figure, [1, 1])
    palette, by_run = style.assign_colors(arms), {(d.arm, d.seed): d for d in runs}
    rows = ((upper, "return", "Environment return"), (lower, "shaped_return", "Shaped return"))
    for part, column, text in rows:
        style.add_heading(part, f"{text} per episode, single runs; dot: best environment return")
        for axes, arm in style.iter_panels(part, shown, 4):
            _draw_drifts(axes, curves.filter(arm=arm), column, by_run, palette[arm])
    lower.supxlabel("environment steps")
    return figure


def _draw_drifts(
    axes: Axes,
    curves: pl.DataFrame,
    column: str,
    drifts: Mapping[tuple[str, int], Drift],
    color: str,
) -> None:
    for (arm, seed), run in curves.group_by("arm", "seed", maintain_order=True):
        drift = drifts[str(arm), int(str(seed))]
        width, alpha = (1.6, 0.95) if drift.diverged else (0.8, 0.45)
        axes.plot(run["timesteps"], run[column], color=color, linewidth=width, alpha=alpha)
        best = run.filter(timesteps=drift.best_at)
        axes.plot(best["timesteps"], best[column], "o", color=color, markersize=3, alpha=alpha)
    style.label_axes(axes, "", "")
    _few_ticks(axes)


@style.styled
def plot_terms(table: pl.DataFrame, *, title: str, arms: Sequence[str]) -> Figure:
    """Draw the contribution of each term over training, one panel per arm.

    The table has arm, timesteps, term and contribution (mean over runs and episodes).
    """
    if table.is_empty():
        return style.create_empty_figure(title, "no evaluations yet")
    names = [t for t in dict.fromkeys(table["term"]) if t != OWN_REWARD]
    shades = {n: style.PALETTE[1 + k % (len(style.PALETTE) - 1)] for k, n in enumerate(names)}
    if OWN_REWARD in table["term"]:
        shades[OWN_REWARD] = style.GRAY
    figure = style.create_figure(title, style.figure_height(arms, 3, 1.7) + 0.5)
    body = style.split_rows(figure, [1])[0]
    for axes, arm in style.iter_panels(body, arms, 3):
        for term in dict.fromkeys(table.filter(arm=arm)["term"]):
            line = table.filter(arm=arm, term=term)
            axes.plot(line["timesteps"], line["contribution"], color=shades[term], linewidth=1.6)
        axes.axhline(0, color=style.MUTED, linewidth=0.6)
        style.label_axes(axes, "", "")
        _few_ticks(axes)
    handles = [Line2D([], [], color=shade, linewidth=2) for shade in shades.values()]
    labels = [humanize(name) for name in shades]
    body.legend(handles, labels, loc="outside upper left", ncols=style.count_columns(labels))
    body.supxlabel("environment steps; contribution per episode, mean over runs, scale per panel")
    return figure


@style.styled
def plot_health(
    updates: pl.DataFrame, measures: Sequence[Measure], *, title: str, arms: Sequence[str]
) -> Figure:
    """Draw the update statistics of every run, one panel per measure, with their usual bounds.

    The table has arm, seed, timesteps, and one column per measure. `arms` are all arms in order,
    for their colors.
    """
    if updates.is_empty() or not measures:
        return style.create_empty_figure(title, "the learner reported no updates")
    palette = {a: c for a, c in style.assign_colors(arms).items() if a in updates["arm"]}
    by_title = {measure.title: measure for measure in measures}
    figure = style.create_figure(
        title, style.figure_height(by_title, 2, 1.6) + 0.2 * len(palette) / 4 + 0.3
    )
    body = style.split_rows(figure, [1])[0]
    for axes, name in style.iter_panels(body, by_title, 2):
        _draw_measure(axes, updates, by_title[name], palette)
    handles = [Line2D([], [], color=color, linewidth=2) for color in palette.values()]
    body.legend(handles, palette, loc="outside upper left", ncols=style.count_columns(palette))
    body.supxlabel("environment steps; lines: single runs; dashed: rule of thumb or target")
    return figure


def _draw_measure(
    axes: Axes, updates: pl.DataFrame, measure: Measure, palette: Mapping[str, str]
) -> None:
    faint = min(0.8, 8 / len(palette))
    for (arm, _seed), run in updates.group_by("arm", "seed", maintain_order=True):
        values = style.to_floats(run[measure.column])
        axes.plot(run["timesteps"], values, color=palette[str(arm)], linewidth=0.8, alpha=faint)
    if measure.bound is not None:
        axes.axhline(measure.bound, color=style.MUTED, linewidth=1, linestyle="--")
    if measure.logarithmic:
        axes.set_yscale("log")
    style.label_axes(axes, "", "")
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))


def _few_ticks(axes: Axes) -> None:
    axes.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_locator(MaxNLocator(4))
