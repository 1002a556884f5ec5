"""Results of `fit` in the terminal: the weights, their reliability, and the arm."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.text import Text

from shaperun.cli.console import Column, number_column, print_tables
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
    print_weights(fit, console)
    console.print(
        f"\nheld-out accuracy {fit.accuracy:.0%} (chance 50%, p = {fit.p_chance:.2g})   "
        f"ridge {fit.ridge:g}"
    )
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


def print_weights(fit: Fit, console: Console) -> None:
    """Print the weights with intervals; those that may be 0 are dimmed."""
    is_open = [fit.low[name] <= 0 <= fit.high[name] for name in fit.weights]
    styles = ["dim" if unknown else "" for unknown in is_open]

    def style(cells: Iterable[str]) -> list[Text]:
        return [Text(cell, style=style) for cell, style in zip(cells, styles, strict=True)]

    weights = [format_number(weight) for weight in fit.weights.values()]
    bounds = [(format_number(fit.low[n]), format_number(fit.high[n])) for n in fit.weights]
    columns = [
        Column("term", style(fit.weights), is_label=True),
        number_column("weight", style(weights)),
        number_column("95% interval", style(f"[{low}, {high}]" for low, high in bounds)),
        Column("", style("sign unknown" if unknown else "" for unknown in is_open)),
    ]
    print_tables(columns, console, header_style="dim")


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
