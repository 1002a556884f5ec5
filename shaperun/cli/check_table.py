"""Results of `check` in the terminal: findings, rankings of behaviors, distances of rewards."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from rich.console import Console, Group
from rich.padding import Padding
from rich.style import Style
from rich.table import Table
from rich.text import Text

from shaperun.check.check import Check
from shaperun.check.distances import Matrix
from shaperun.check.ranking import BehaviourReturn, best_by_environment, inversions
from shaperun.check.rule import Finding
from shaperun.common.text import format_number, humanize

MAX_ARMS, MAX_REWARDS = 12, 12
HEADLINES = (
    "inverted-ranking",
    "every-step-costs",
    "every-step-pays",
    "goal-lost",
    "repeats-environment",
)
"""Rules that `train` reports before it starts."""


def print_check(check: Check, console: Console) -> None:
    """Print all results of a check."""
    console.print(
        Text.assemble(("Returns of scripted behaviors", "bold"), _describe_conditions(check))
    )
    shown = check.select_arms(MAX_ARMS)
    for arm in shown:
        console.print()
        console.print(build_ranking_table(arm, check.returns[arm], check))
    if len(shown) < len(check.returns):
        hidden = len(check.returns) - len(shown)
        console.print(
            f"\n{hidden} more arms are not shown; use --arms to pick, or --json for all",
            style="dim",
        )
    console.print(
        "\n◆ ranked highest by the environment   ▲ paid more than that, but ranked clearly lower",
        style="dim",
    )
    if 1 < len(check.distances.names) <= MAX_REWARDS:
        console.print()
        console.print(build_distance_tables(check))
    for line in format_invariance(check):
        console.print(line)
    console.print()
    print_findings(check.findings, console)


def _describe_conditions(check: Check) -> str:
    episodes = max(len(behaviour.episodes) for behaviour in check.behaviours)
    return (
        f"   {check.study.study} on {check.study.environment.id}, γ = "
        f"{check.study.training.gamma:g}, up to {episodes} episodes per behavior, no training"
    )


def build_ranking_table(arm: str, paid: Sequence[BehaviourReturn], check: Check) -> Table:
    """Return a table of the returns that an arm pays each behavior, the highest first."""
    config = check.study.arms.get(arm)
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    title = Text.assemble((arm, "bold"), (f"  {config.mode}" if config else "", "dim"))
    table.add_column(title, min_width=16, no_wrap=True)
    for name in ("discounted", "undiscounted", "environment", "steps"):
        table.add_column(name, justify="right")
    table.add_column("outcome")
    right, wrong = best_by_environment(paid), inversions(paid)
    for payment in sorted(paid, key=lambda p: -p.discounted_return):
        style = "green" if payment is right else "red" if payment in wrong else ""
        mark = "◆ " if payment is right else "▲ " if payment in wrong else "  "
        behaviour = payment.behaviour
        table.add_row(
            Text(mark + humanize(behaviour.name), style=style),
            Text(format_number(payment.discounted_return), style=style),
            format_number(payment.shaped_return),
            format_number(payment.environment_return),
            format_number(behaviour.length),
            _format_outcome(payment),
        )
    return table


def _format_outcome(payment: BehaviourReturn) -> str:
    behaviour = payment.behaviour
    outcome, count = behaviour.outcomes.most_common(1)[0]
    share = count / len(behaviour.episodes)
    return outcome.replace("_", " ") + (f" {share:.0%}" if share < 1 else "")


def build_distance_tables(check: Check) -> Group:
    """Return shaded matrices of both distances between the rewards."""
    distances = check.distances
    return Group(
        Text("Distances between rewards: 0 equivalent, 1 opposite", style="bold"),
        _build_matrix("EPIC", distances.names, distances.epic),
        _build_matrix("Pearson", distances.names, distances.pearson),
        Text(distances.note, style="dim"),
    )


def _build_matrix(title: str, names: Sequence[str], matrix: Matrix) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 1, 0, 0))
    table.add_column(Text(title, style="bold"), no_wrap=True)
    for name in names:
        table.add_column(name, justify="right", overflow="ellipsis", no_wrap=True, max_width=14)
    for name, row in zip(names, matrix, strict=True):
        table.add_row(name, *(_shade_cell(value) for value in row))
    return table


def _shade_cell(distance: float) -> Text:
    if math.isnan(distance):
        return Text("–", style="dim")
    # Numbers stay legible from light text without background to dark text on amber.
    shade = round(255 * min(1.0, distance))
    style = Style(bgcolor=f"#{shade:02x}{round(shade * 0.62):02x}00") if distance > 0.2 else None
    return Text(f" {distance:.2f}", style=style or "")


def format_invariance(check: Check) -> Iterable[Text]:
    """Yield the result of the invariance test of each potential, with the largest deviation."""
    for arm, result in check.invariance.items():
        verdict = "as the theorem states" if result.holds else "which exceeds rounding error"
        yield Text(
            f"{arm} changes no ranking: over {result.episodes} episodes the discounted shaped "
            f"return minus the environment's equals −Φ(s₀), plus γᴺΦ(s_N) where truncated, up to "
            f"{result.deviation:.1g}, {verdict}.",
            style="green" if result.holds else "red",
        )


def print_findings(findings: Sequence[Finding], console: Console) -> None:
    """Print the findings; arms with the same one share a line."""
    if not findings:
        console.print(Text("No findings.", style="green"))
        return
    grouped: dict[tuple[str, str], list[str]] = {}
    for finding in findings:
        grouped.setdefault((finding.rule, finding.message), []).append(finding.arm or "study")
    for (rule, message), arms in grouped.items():
        names = ", ".join(arms[:4]) + (f" and {len(arms) - 4} more" if len(arms) > 4 else "")
        style = "bold red" if rule == "inverted-ranking" else "bold yellow"
        console.print(Text.assemble((rule, style), (f"  {names}", "bold")))
        console.print(Padding(Text(f"{message}."), (0, 0, 0, 2)))


def print_headlines(findings: Sequence[Finding], command: str, console: Console) -> None:
    """Print the main findings about a study's rewards, and the command that shows all of them."""
    headlines = [finding for finding in findings if finding.rule in HEADLINES]
    for finding in headlines:
        console.print(Text(f"{finding.rule}: {finding.message}", style="yellow"))
    if headlines:
        console.print(f"For details: {command}", style="dim", soft_wrap=True)
