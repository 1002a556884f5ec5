"""Results of `check` in the terminal: findings, rankings of behaviors, distances of rewards."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
from rich.console import Console
from rich.padding import Padding
from rich.style import Style
from rich.text import Text

from shaperun.check.behaviors import Behavior
from shaperun.check.check import Check
from shaperun.check.ranking import BehaviorReturn, best_by_environment, inversions
from shaperun.check.rule import Finding
from shaperun.cli.console import Column, number_column, print_tables
from shaperun.common.text import format_column, humanize, pluralize

MAX_ARMS, MAX_REWARDS = 12, 12
SMALL = 0.5  # an EPIC distance; unrelated rewards have 0.71
HEADLINES = (
    "endless-episodes",
    "inverted-ranking",
    "every-step-costs",
    "every-step-pays",
    "goal-lost",
    "repeats-environment",
    "too-few-updates",
)
"""Rules that `train` reports before it starts."""


def print_check(check: Check, console: Console) -> None:
    """Print all results of a check."""
    console.print(
        Text.assemble(("Returns of scripted behaviors", "bold"), _describe_conditions(check))
    )
    if not check.study.environment.describe().controllers:
        console.print(
            "Only the action 0 and random actions were played: "
            f"{check.study.environment.id} has no controllers. Better policies may be paid "
            "differently.",
            style="yellow",
        )
    if check.behaviors[0].metrics:
        console.print()
        print_metrics(check.behaviors, console)
    shown = check.select_arms(MAX_ARMS)
    for arm in shown:
        console.print()
        print_ranking(arm, check.returns[arm], check, console)
    if len(shown) < len(check.returns):
        hidden = len(check.returns) - len(shown)
        console.print(
            f"\n{pluralize(hidden, 'more arm')} not shown; use --arms to pick, or --json for all",
            style="dim",
        )
    console.print(
        "\n◆ ranked highest by the environment   ▲ paid more than that, but ranked clearly lower",
        style="dim",
    )
    console.print()
    print_findings(check.findings, console)
    for line in format_invariance(check):
        console.print(line)
    if 1 < len(check.distances.names) <= MAX_REWARDS:
        console.print()
        print_distances(check, console)


def _describe_conditions(check: Check) -> str:
    episodes = max(len(behavior.episodes) for behavior in check.behaviors)
    return (
        f"   {check.study.study} on {check.study.environment.id}, γ = "
        f"{check.study.training.gamma:g}, up to {episodes} episodes per behavior, no training"
    )


def print_ranking(arm: str, paid: Sequence[BehaviorReturn], check: Check, console: Console) -> None:
    """Print the returns that an arm pays each behavior, the highest first."""
    config = check.study.arms.get(arm)
    mode = f"  {config.mode}" if config else ""
    mode += ", at start" if config and config.schedule else ""
    title = Text.assemble((arm, "bold"), (mode, "dim"))
    right, wrong = best_by_environment(paid), inversions(paid)
    ordered = sorted(paid, key=lambda payment: -payment.discounted_return)
    styles = ["green" if p is right else "red" if p in wrong else "" for p in ordered]
    marks = ["◆ " if p is right else "▲ " if p in wrong else "  " for p in ordered]
    names = [mark + humanize(p.behavior.name) for mark, p in zip(marks, ordered, strict=True)]
    discounted = format_column([payment.discounted_return for payment in ordered])
    columns = [
        Column(title, [Text(*cell) for cell in zip(names, styles, strict=True)], is_label=True),
        number_column("discounted", [Text(*c) for c in zip(discounted, styles, strict=True)]),
        number_column("undiscounted", format_column([p.shaped_return for p in ordered])),
        number_column("environment", format_column([p.environment_return for p in ordered])),
        number_column("steps", format_column([p.behavior.length for p in ordered])),
        Column("outcome", [_format_outcome(payment) for payment in ordered]),
    ]
    print_tables(columns, console, header_style="dim")


def print_metrics(behaviors: Sequence[Behavior], console: Console) -> None:
    """Print the means of the environment's own metrics per behavior."""
    columns = [
        Column("metric", [humanize(b.name) for b in behaviors], is_label=True),
        *(
            number_column(humanize(name), format_column([b.metrics[name] for b in behaviors]))
            for name in behaviors[0].metrics
        ),
    ]
    print_tables(columns, console, header_style="dim")


def _format_outcome(payment: BehaviorReturn) -> str:
    behavior = payment.behavior
    outcome, count = behavior.outcomes.most_common(1)[0]
    share = count / len(behavior.episodes)
    return outcome.replace("_", " ") + (f" {share:.0%}" if share < 1 else "")


def print_distances(check: Check, console: Console) -> None:
    """Print shaded matrices of both distances between the rewards."""
    distances = check.distances
    console.print(Text("Distances between rewards: 0 equivalent, 1 opposite", style="bold"))
    for title, matrix in (("EPIC", distances.epic), ("Pearson", distances.pearson)):
        if np.isnan(matrix).all():
            console.print(f"{title} is undefined for all of these rewards.\n")
            continue
        cells = [[_shade_cell(value) for value in column] for column in zip(*matrix, strict=True)]
        columns = [
            Column(Text(title, style="bold"), distances.names, is_label=True),
            *(number_column(*column) for column in zip(distances.names, cells, strict=True)),
        ]
        print_tables(columns, console, header_style="dim")
        console.print()
    console.print(Text(distances.note, style="dim"))
    note = _explain_small_distances(check)
    if note:
        console.print(Text(note, style="dim"))


def _explain_small_distances(check: Check) -> str:
    """Return why EPIC finds rewards close to the environment's that rank behaviors otherwise."""
    to_environment = dict(zip(check.distances.names, check.distances.epic[0], strict=True))
    inverted = {finding.arm for finding in check.findings if finding.rule == "inverted-ranking"}
    arms = [arm for arm in to_environment if arm in inverted and to_environment[arm] < SMALL]
    if not arms:
        return ""
    return (
        f"EPIC finds {', '.join(arms)} close to the environment's reward although the ranking is "
        "inverted: it compares rewards over the transitions of a sample, and ignores "
        "potential-based shaping. It does not compare which behavior is optimal, which the chance "
        "to end an episode early can change."
    )


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
            f"return less the environment's equals −Φ(s₀) up to {result.deviation:.1g}, {verdict}.",
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
