"""Results of `fit` in the terminal: the weights, their reliability, and the arm."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from shaperun.common.text import format_fixed, format_number
from shaperun.preferences.answers import AnswerSheet
from shaperun.preferences.arm import format_arm
from shaperun.preferences.fit import NEGLIGIBLE, Fit, NetworkFit


def print_fit(
    fit: Fit,
    network: NetworkFit | None,
    sheet: AnswerSheet,
    name: str,
    arm: dict[str, Any],
    console: Console,
) -> None:
    """Print all results of a fit."""
    unsure = sheet.count_answers()["unsure"]
    others = [f"{fit.equal} call both equal"] if fit.equal else []
    others += [f"{unsure} not sure (ignored)"] if unsure else []
    counts = "; ".join([f"{fit.decided} prefer one of two episodes", *others])
    console.print(Text.assemble(("Fit of the answers", "bold"), f"   {sheet.study}: {counts}"))
    console.print()
    console.print(build_weight_table(fit))
    console.print(f"\nheld-out accuracy {fit.accuracy:.0%} (chance 50%)   ridge {fit.ridge:g}")
    if network:
        console.print(_format_network(network, fit))
    for note in list_caveats(fit, sheet):
        console.print(Text(note, style="yellow"))
    console.print(Text.assemble(("\nThe arm", "bold")))
    console.print(Text(format_arm(name, arm).rstrip()), soft_wrap=True)


def _format_network(network: NetworkFit, fit: Fit) -> Text:
    if network.term is None:
        return Text(
            "A network of the state does not improve the held-out likelihood, so the arm has none.",
            style="yellow",
        )
    shape = "–".join(map(str, network.term.sizes))
    text = f"held-out accuracy with a network of the state ({shape}): {network.accuracy:.0%}"
    if network.accuracy > fit.accuracy:
        return Text(text)
    return Text(f"{text}, no higher than without it.", style="yellow")


def build_weight_table(fit: Fit) -> Table:
    """Return a table of weights with intervals; those that may be 0 are dimmed."""
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    table.add_column("term", min_width=16)
    table.add_column("weight", justify="right")
    table.add_column("95% interval", justify="right")
    table.add_column("")
    for name, weight in fit.weights.items():
        low, high = fit.low[name], fit.high[name]
        is_open = low <= 0 <= high
        table.add_row(
            name,
            format_number(weight),
            f"[{format_number(low)}, {format_number(high)}]",
            "sign unknown" if is_open else "",
            style="dim" if is_open else "",
        )
    return table


def list_caveats(fit: Fit, sheet: AnswerSheet) -> list[str]:
    """Return what the answers leave open, one sentence each."""
    caveats = [
        f"{one} and {other} are {'' if correlation > 0 else 'negatively '}correlated in these "
        f"episodes ({format_fixed(correlation, 2)}): the answers hardly determine how they share a "
        "weight."
        for one, other, correlation in fit.collinear
    ]
    if fit.constant:
        caveats.append(
            f"{', '.join(fit.constant)}: equal in both episodes of every pair, so without a weight."
        )
    if fit.negligible:
        caveats.append(
            f"{', '.join(fit.negligible)}: γ = {sheet.subject.gamma:g} leaves less than "
            f"{NEGLIGIBLE:.0%} of the variation between these episodes. Any weight, however large, "
            "explains the answers equally well, so without a weight."
        )
    return caveats
