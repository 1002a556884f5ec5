"""What `fit` says in the terminal: the weights, how far they are to be believed, and the arm."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from shaperun.common.text import format_number
from shaperun.preferences.answers import AnswerSheet
from shaperun.preferences.arm import arm_yaml
from shaperun.preferences.fit import NEGLIGIBLE, Fit, NetworkFit


def print_fit(
    fit: Fit,
    network: NetworkFit | None,
    sheet: AnswerSheet,
    name: str,
    arm: dict[str, Any],
    console: Console,
) -> None:
    """Print everything that a fit came to."""
    unsure = sheet.counts()["unsure"]
    beside = [f"{fit.equal} call both equal"] if fit.equal else []
    beside += [f"{unsure} cannot say and tell nothing"] if unsure else []
    counts = "; ".join([f"{fit.decided} prefer one of two episodes", *beside])
    console.print(Text.assemble(("What the answers say", "bold"), f"   {sheet.study}: {counts}"))
    console.print()
    console.print(weight_table(fit))
    console.print(
        f"\nOf answers that the weights did not know, they foresaw {fit.predicted:.0%}; "
        f"a coin foresees 50%.   ridge {fit.ridge:g}",
    )
    if network:
        console.print(_beside(network, fit))
    for note in notes(fit, sheet):
        console.print(Text(note, style="yellow"))
    console.print(Text.assemble(("\nThe arm", "bold")))
    console.print(Text(arm_yaml(name, arm).rstrip()), soft_wrap=True)


def _beside(network: NetworkFit, fit: Fit) -> Text:
    """Whether it was worth it."""
    if network.term is None:
        return Text(
            "A network of the state has nothing to add: answers that were left out are likeliest "
            "without it. The arm goes without.",
            style="yellow",
        )
    shape = "–".join(map(str, network.term.sizes))
    text = f"With a network of the state beside them ({shape}), {network.predicted:.0%}."
    if network.predicted > fit.predicted:
        return Text(text)
    return Text(f"{text} That is no more than they do by themselves.", style="yellow")


def weight_table(fit: Fit) -> Table:
    """Weights with their intervals; those that may be 0 are faint."""
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    table.add_column("term", min_width=16)
    table.add_column("weight", justify="right")
    table.add_column("95% interval", justify="right")
    table.add_column("")
    for name, weight in fit.weights.items():
        low, high = fit.low[name], fit.high[name]
        open_ = low <= 0 <= high
        table.add_row(
            name,
            format_number(weight),
            f"{format_number(low)} to {format_number(high)}",
            "may be for or against" if open_ else "",
            style="dim" if open_ else "",
        )
    return table


def notes(fit: Fit, sheet: AnswerSheet) -> list[str]:
    """What the answers cannot say."""
    said = [
        f"{one} and {other} {'rise together' if alike > 0 else 'rise against each other'} in these "
        f"episodes (correlation {alike:.2f}): the answers hardly tell how to share a weight "
        "between them."
        for one, other, alike in fit.collinear
    ]
    if fit.constant:
        said.append(
            f"{', '.join(fit.constant)}: the same in both episodes of every pair, so nothing was "
            "learned of it, and it has no weight."
        )
    if fit.negligible:
        said.append(
            f"{', '.join(fit.negligible)}: γ = {sheet.subject.gamma:g} leaves less than {NEGLIGIBLE:.0%} of "
            "how it differs between these episodes. Any weight, a huge one too, goes with the "
            "answers, so it has none."
        )
    return said
