"""Figures of `check`: rankings of behaviors by each reward, and distances between rewards."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from shaperun.check.check import Check
from shaperun.check.distances import Matrix
from shaperun.check.ranking import BehaviorReturn, best_by_environment, inversions
from shaperun.common.text import format_number, humanize
from shaperun.report.plots import style

MAX_ARMS, MAX_REWARDS = 12, 30
RED, GREEN = "#C0392B", "#00805A"


def write_figures(check: Check, target: Path) -> list[Path]:
    """Write the figures (PNG and SVG) to a folder and return their paths."""
    paths = style.save(plot_rankings(check), target / "rankings")
    if 1 < len(check.distances.names) <= MAX_REWARDS:
        paths += style.save(plot_distances(check), target / "distances")
    return paths


@style.styled
def plot_rankings(check: Check) -> Figure:
    """Draw the ranking of the behaviors by the environment and by the arm, one panel per arm."""
    arms = check.select_arms(MAX_ARMS)
    title = f"{check.study.study}: return of each behavior, before training"
    rows = max(len(check.behaviors), 4)
    figure = style.create_figure(title, style.figure_height(arms, 2, 0.5 + 0.24 * rows))
    for axes, arm in style.iter_panels(figure, arms, 2):
        _draw_ranking(axes, check.returns[arm])
    return figure


def _draw_ranking(axes: Axes, returns: Sequence[BehaviorReturn]) -> None:
    """Draw lines from the environment's ranking (left) to the arm's (right)."""
    left = sorted(returns, key=lambda item: -item.environment_return)
    right = sorted(returns, key=lambda item: -item.discounted_return)
    best, wrong = best_by_environment(returns), inversions(returns)
    for item in returns:
        color = GREEN if item is best else RED if item in wrong else style.GRAY
        y_left, y_right = left.index(item), right.index(item)
        axes.plot([0, 1], [y_left, y_right], "-o", color=color, linewidth=2, markersize=5)
        name = humanize(item.behavior.name)
        ink = style.MUTED if color == style.GRAY else color
        text = f"{name}  {format_number(item.environment_return)}"
        _label(axes, -0.06, y_left, text, "right", ink)
        text = f"{format_number(item.discounted_return)}  {name}"
        _label(axes, 1.06, y_right, text, "left", ink)
    axes.set_xlim(-1.25, 2.25)
    axes.set_ylim(len(returns) - 0.5, -1.2)
    axes.set_axis_off()
    _label(axes, -0.06, -0.9, "environment return", "right", style.MUTED)
    _label(axes, 1.06, -0.9, "discounted return", "left", style.MUTED)


def _label(axes: Axes, x: float, y: float, text: str, side: str, color: str) -> None:
    axes.text(x, y, text, ha=side, va="center", color=color, fontsize=8)


@style.styled
def plot_distances(check: Check) -> Figure:
    """Draw the EPIC and Pearson distances between the rewards as two heatmaps."""
    names = [style.wrap(name, 16) for name in check.distances.names]
    title = f"{check.study.study}: distances between rewards (0: identical, 1: opposite)"
    figure = style.create_figure(title, 1.2 + 0.42 * len(names))
    matrices = {
        "EPIC, invariant to potentials": check.distances.epic,
        "Pearson": check.distances.pearson,
    }
    for index, (heading, matrix) in enumerate(matrices.items(), start=1):
        _draw_heatmap(figure.add_subplot(1, 2, index), heading, names, matrix)
    return figure


def _draw_heatmap(axes: Axes, heading: str, names: Sequence[str], matrix: Matrix) -> None:
    axes.set_title(heading)
    if np.isnan(matrix).all():
        style.annotate_center(axes, "undefined for all of these rewards")
        return
    image = axes.imshow(matrix, cmap="YlOrBr", vmin=0, vmax=1, aspect="auto")
    axes.set_xticks(range(len(names)), names, rotation=40, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(names)), names)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    if len(names) > 12:  # too small to read
        return
    for (row, column), value in np.ndenumerate(matrix):
        known = not np.isnan(value)
        ink = style.text_color(image.cmap(value)) if known else style.MUTED
        text = f"{value:.2f}" if known else "–"
        axes.text(column, row, text, ha="center", va="center", color=ink, fontsize=8)
