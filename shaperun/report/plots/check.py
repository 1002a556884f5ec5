"""What `check` found, as figures: what each reward pays against what the environment pays."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from shaperun.check.check import Check
from shaperun.check.distances import Matrix
from shaperun.check.ranking import BehaviourReturn, best_by_environment, inversions
from shaperun.common.text import format_number, humanize
from shaperun.report.plots import style

MAX_ARMS, MAX_REWARDS = 12, 30
RED, GREEN = "#C0392B", "#00805A"


def write_figures(check: Check, target: Path) -> list[Path]:
    """Write the figures (PNG and SVG) into a folder; returns their paths."""
    paths = style.save(rankings(check), target / "rankings")
    if 1 < len(check.distances.names) <= MAX_REWARDS:
        paths += style.save(distances(check), target / "distances")
    return paths


@style.styled
def rankings(check: Check) -> Figure:
    """A panel an arm: the behaviours as the environment ranks them, and as the arm pays them."""
    arms = check.shown(MAX_ARMS)
    title = f"{check.study.study}: what each reward pays, before any training"
    rows = max(len(check.behaviours), 4)
    figure = style.new_figure(title, style.figure_height(arms, 2, 0.5 + 0.24 * rows))
    for axes, arm in style.panels(figure, arms, 2):
        _panel(axes, check.paid[arm])
    return figure


def _panel(axes: Axes, paid: Sequence[BehaviourReturn]) -> None:
    """Lines from the environment's ranking on the left to the arm's on the right."""
    left = sorted(paid, key=lambda p: -p.environment_return)
    right = sorted(paid, key=lambda p: -p.discounted_return)
    top, wrong = best_by_environment(paid), inversions(paid)
    for payment in paid:
        colour = GREEN if payment is top else RED if payment in wrong else style.GREY
        ends = (left.index(payment), right.index(payment))
        axes.plot([0, 1], ends, "-o", color=colour, linewidth=2, markersize=5)
        name = humanize(payment.behaviour.name)
        ink = style.MUTED if colour == style.GREY else colour
        _label(
            axes,
            -0.06,
            ends[0],
            f"{name}  {format_number(payment.environment_return)}",
            "right",
            ink,
        )
        _label(
            axes, 1.06, ends[1], f"{format_number(payment.discounted_return)}  {name}", "left", ink
        )
    axes.set_xlim(-1.25, 2.25)
    axes.set_ylim(len(paid) - 0.5, -1.2)
    axes.set_axis_off()
    _label(axes, -0.06, -0.9, "environment return", "right", style.MUTED)
    _label(axes, 1.06, -0.9, "paid, discounted", "left", style.MUTED)


def _label(axes: Axes, x: float, y: float, text: str, side: str, colour: str) -> None:
    axes.text(x, y, text, ha=side, va="center", color=colour, fontsize=8)


@style.styled
def distances(check: Check) -> Figure:
    """Two heatmaps of the distances between the rewards, the environment's own first."""
    found = check.distances
    names = [style.wrap(name, 16) for name in found.names]
    title = f"{check.study.study}: how far apart the rewards are (0 the same, 1 opposite)"
    figure = style.new_figure(title, 1.2 + 0.42 * len(names))
    both = (("EPIC, blind to potentials", found.epic), ("Pearson, as paid", found.pearson))
    for place, (heading, matrix) in enumerate(both, start=1):
        _heatmap(figure.add_subplot(1, 2, place), heading, names, matrix)
    return figure


def _heatmap(axes: Axes, heading: str, names: Sequence[str], matrix: Matrix) -> None:
    axes.set_title(heading)
    image = axes.imshow(matrix, cmap="YlOrBr", vmin=0, vmax=1, aspect="auto")
    axes.set_xticks(range(len(names)), names, rotation=40, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(names)), names)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    if len(names) > 12:  # too small to read
        return
    for (row, column), value in np.ndenumerate(matrix):
        known = not np.isnan(value)
        ink = style.text_colour(image.cmap(value)) if known else style.MUTED
        text = f"{value:.2f}" if known else "–"
        axes.text(column, row, text, ha="center", va="center", color=ink, fontsize=8)
