"""What `check` says in the terminal: what was found, what each reward pays, how far they differ."""

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
"""The rules that `train` speaks of before it starts."""


def print_check(check: Check, console: Console) -> None:
    """Print everything that a check found."""
    console.print(Text.assemble(("What these rewards pay", "bold"), _how(check)))
    shown = check.shown(MAX_ARMS)
    for arm in shown:
        console.print()
        console.print(ranking_table(arm, check.paid[arm], check))
    if len(shown) < len(check.paid):
        hidden = len(check.paid) - len(shown)
        console.print(
            f"\n{hidden} more arms are not shown; --arms picks, --json has all", style="dim"
        )
    console.print(
        "\n◆ what the environment ranks highest   ▲ paid more than that, and ranked clearly lower",
        style="dim",
    )
    if 1 < len(check.distances.names) <= MAX_REWARDS:
        console.print()
        console.print(distance_tables(check))
    for line in invariance(check):
        console.print(line)
    console.print()
    print_findings(check.findings, console)


def _how(check: Check) -> str:
    episodes = max(len(behaviour.episodes) for behaviour in check.behaviours)
    return (
        f"   {check.study.study} on {check.study.environment.id}, γ = "
        f"{check.study.training.gamma:g}, up to {episodes} episodes a behaviour, no training"
    )


def ranking_table(arm: str, paid: Sequence[BehaviourReturn], check: Check) -> Table:
    """What one arm pays every behaviour, the best paid first."""
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
            _outcomes(payment),
        )
    return table


def _outcomes(payment: BehaviourReturn) -> str:
    behaviour = payment.behaviour
    outcome, count = behaviour.outcomes.most_common(1)[0]
    share = count / len(behaviour.episodes)
    return outcome.replace("_", " ") + (f" {share:.0%}" if share < 1 else "")


def distance_tables(check: Check) -> Group:
    """Both distances between the rewards, shaded: the darker, the further apart."""
    found = check.distances
    return Group(
        Text("How far apart the rewards are: 0 the same, 1 opposite", style="bold"),
        _matrix("EPIC", found.names, found.epic),
        _matrix("Pearson", found.names, found.pearson),
        Text(found.note, style="dim"),
    )


def _matrix(title: str, names: Sequence[str], matrix: Matrix) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 1, 0, 0))
    table.add_column(Text(title, style="bold"), no_wrap=True)
    for name in names:
        table.add_column(name, justify="right", overflow="ellipsis", no_wrap=True, max_width=14)
    for name, row in zip(names, matrix, strict=True):
        table.add_row(name, *(_cell(value) for value in row))
    return table


def _cell(distance: float) -> Text:
    if math.isnan(distance):
        return Text("–", style="dim")
    # From white on nothing to black on amber, so that figures stay legible throughout.
    shade = round(255 * min(1.0, distance))
    style = Style(bgcolor=f"#{shade:02x}{round(shade * 0.62):02x}00") if distance > 0.2 else None
    return Text(f" {distance:.2f}", style=style or "")


def invariance(check: Check) -> Iterable[Text]:
    """That the potentials change no ranking, with the largest deviation found."""
    for arm, proof in check.invariance.items():
        verdict = "as the theorem says" if proof.holds else "which is more than rounding"
        yield Text(
            f"{arm} changes no ranking: over {proof.episodes} episodes the discounted shaped "
            f"return less the environment's is −Φ(s₀), plus γᴺΦ(s_N) where truncated, to within "
            f"{proof.deviation:.1g}, {verdict}.",
            style="green" if proof.holds else "red",
        )


def print_findings(findings: Sequence[Finding], console: Console) -> None:
    """Print the findings, one for several arms where it is the same."""
    if not findings:
        console.print(Text("Nothing found that would go wrong.", style="green"))
        return
    together: dict[tuple[str, str], list[str]] = {}
    for finding in findings:
        together.setdefault((finding.rule, finding.message), []).append(finding.arm or "study")
    for (rule, message), arms in together.items():
        who = ", ".join(arms[:4]) + (f" and {len(arms) - 4} more" if len(arms) > 4 else "")
        style = "bold red" if rule == "inverted-ranking" else "bold yellow"
        console.print(Text.assemble((rule, style), (f"  {who}", "bold")))
        console.print(Padding(Text(f"{message}."), (0, 0, 0, 2)))


def print_headlines(findings: Sequence[Finding], study: str, console: Console) -> None:
    """Print what a study's rewards will probably do, before they are trained on."""
    found = [finding for finding in findings if finding.rule in HEADLINES]
    for finding in found:
        console.print(Text(f"{finding.rule}: {finding.message}", style="yellow"))
    if found:
        console.print(Text(f"More about these rewards: shaperun check {study}", style="dim"))
