"""The comparison of studies as the terminal shows it: a table and a sentence a verdict."""

from __future__ import annotations

from collections import Counter

from rich.console import Console
from rich.table import Table
from rich.text import Text

from shaperun.analysis import training_differences
from shaperun.analysis.comparison import StudyComparison
from shaperun.analysis.learning_speed import AUC, STEPS_TO_SOLVED
from shaperun.analysis.summary import (
    AGGREGATES,
    ArmComparison,
    Summary,
    format_estimate,
    format_metric,
)
from shaperun.search.ranking import Confirmed, SweepResults

VERDICT_STYLES = {"better": "green", "worse": "red"}


def print_comparison(found: StudyComparison, console: Console) -> None:
    """Print the table, the verdicts, and what is missing."""
    if found.summary.arms:
        console.print(arm_table(found.summary))
        episodes = found.study.evaluation.final_episodes
        console.print(
            f"\nInterquartile means over runs, and {_intervals(found.summary)}. Every run is "
            f"judged by the environment's own reward on the same {episodes} held-out episodes.\n",
            style="dim",
        )
    for comparison in found.summary.comparisons:
        if comparison.metric == "return":
            console.print(verdict(comparison, found.summary))
    grid = training_differences.training_grid(found.study)
    if grid and found.summary.arms:
        console.print(grid_table(grid, found.summary), "\n")
    for note in found.notes:
        console.print(Text(note, style="dim"))
    if found.unfinished:
        console.print(unfinished_note(found))


def _intervals(summary: Summary) -> str:
    """What the intervals of a table are."""
    runs = min((arm.runs for arm in summary.arms if arm.runs > 1), default=0)
    if runs > 2:
        return "their 95% intervals"
    return "from the lower to the higher of two runs" if runs else "no interval, which takes 2 runs"


def arm_table(summary: Summary) -> Table:
    """Arms × metrics, with the number of runs and an interval for each."""
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("arm", no_wrap=True)
    table.add_column("runs", justify="right")
    names = list(summary.arms[0].metrics)
    for name in names:
        table.add_column(name.removesuffix("_rate").replace("_", " "), justify="right")
    for arm in summary.arms:
        label = Text(arm.arm, style="bold" if arm.arm == summary.baseline else "")
        cells = [_cell(*format_estimate(name, arm.metrics[name])) for name in names]
        table.add_row(label, str(arm.runs), *cells)
    return table


def grid_table(grid: training_differences.Grid, summary: Summary) -> Table:
    """Environment return by reward and learner."""
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("return by reward and learner")
    for learner in grid.learners:
        table.add_column(learner, justify="right")
    returns = {arm.arm: format_estimate("return", arm.metrics["return"]) for arm in summary.arms}
    for reward in grid.rewards:
        arms = [grid.arms.get((reward, learner), "") for learner in grid.learners]
        table.add_row(Text(reward), *(_cell(*returns.get(arm, ("–", ""))) for arm in arms))
    return table


def verdict(comparison: ArmComparison, summary: Summary) -> Text:
    """What is said of an arm against the baseline: at the end, and over training."""
    result = comparison.result
    runs = {arm.arm: arm.runs for arm in summary.arms}
    text = Text.assemble(
        (comparison.arm, "bold"),
        " against ",
        (comparison.baseline, "bold"),
        ": ",
        (result.verdict, VERDICT_STYLES.get(result.verdict, "yellow")),
        f". Environment return {_difference(comparison)}",
    )
    test = f"permutation test{' paired by seed' if comparison.paired else ''}{_holm(comparison)}"
    text.append(f", p = {result.p_value:.2g} ({test}), ")
    text.append(f"{runs[comparison.arm]} against {runs[comparison.baseline]} runs.")
    if result.seeds_needed:
        text.append(f" About {result.seeds_needed} seeds an arm would settle such a difference.")
    learning = [
        f"{name} {_difference(other)} (p = {other.p_adjusted:.2g})"
        for metric, name in ((AUC, "mean return"), (STEPS_TO_SOLVED, "steps to solve it"))
        for other in summary.comparisons
        if (other.arm, other.metric) == (comparison.arm, metric)
    ]
    return text.append(f" Over training: {', '.join(learning)}." if learning else "", style="dim")


def _difference(comparison: ArmComparison) -> str:
    """A difference and its interval, if there is one."""
    result = comparison.result
    if result.low != result.low:  # NaN
        return f"{result.difference:+,.0f}"
    level = "" if abs(result.level - 0.95) < 1e-9 else f" ({result.level:.0%} interval)"
    return f"{result.difference:+,.0f} [{result.low:+,.0f}, {result.high:+,.0f}]{level}"


def _holm(comparison: ArmComparison) -> str:
    if comparison.p_adjusted == comparison.result.p_value:
        return ""
    return f"; {comparison.p_adjusted:.2g} after Holm's correction for several arms"


def print_ranking(found: SweepResults, console: Console, most: int = 20) -> None:
    """Print the best arms of a sweep, what became of the best, and what is in no ranking."""
    sweep = found.study.sweep
    if sweep is None:
        return
    shares = [name for name in ("success_rate",) if name in found.ranking.columns]
    others = [
        name
        for name in (name.removeprefix("-") for name in sweep.objective)
        if name not in ("return", *shares)
    ]
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for name in ("", *sweep.weights, "runs", "return", "interval", *shares, *others):
        table.add_column(name.removesuffix("_rate").replace("_", " "), justify="right")
    for place, row in enumerate(found.ranking.head(most).iter_rows(named=True), start=1):
        low, high = row["return_low"], row["return_high"]
        table.add_row(
            str(place),
            *(f"{row[name]:g}" for name in sweep.weights),
            str(row["runs"]),
            f"{row['return']:,.1f}",
            Text("one run" if low is None else f"{low:,.0f}…{high:,.0f}", style="dim"),
            *(format_metric(name, row[name]) for name in (*shares, *others)),
        )
    console.print(table)
    hidden = len(found.ranking) - most
    more = f"{hidden} more arms are in ranking.csv. " if hidden > 0 else ""
    console.print(
        f"\n{more}Ranked by {sweep.objective[0].removeprefix('-').replace('_', ' ')}, "
        f"{AGGREGATES[sweep.aggregate]} over {len(found.study.seeds)} runs; returns are "
        "interquartile means of the environment's own.\n",
        style="dim",
    )
    for winner in found.best:
        console.print(confirmation(winner, found))
    beside = [
        f"{found.count('pruned')} trials were stopped early and are in no ranking",
        f"{found.count('failed')} trials failed",
        f"{found.count('unfinished')} trials are not finished",
    ]
    said = ", ".join(text for text in beside if not text.startswith("0 "))
    if said:
        console.print(f"{said}.", style="yellow")


def confirmation(winner: Confirmed, found: SweepResults) -> Text:
    """What the best came to in the search, and what with seeds that it had not seen."""
    names = (
        [name.removeprefix("-") for name in found.study.sweep.objective]
        if found.study.sweep
        else []
    )
    text = Text.assemble((winner.result.trial.arm, "bold"), ": ")
    text.append(f"{_values(names, winner.result.values)} in the search")
    if not winner.seeds:
        return text.append(", not confirmed: the best of many is partly luck.", style="yellow")
    if winner.values is None:
        return text.append(
            f", not confirmed yet on {len(winner.seeds)} fresh seeds.", style="yellow"
        )
    seeds = f"{len(winner.seeds)} fresh seed{'s' if len(winner.seeds) > 1 else ''}"
    text.append(f", {_values(names, winner.values)} with {seeds}", style="bold")
    return text.append(
        ". Believe the latter: the former is the best of many, which is partly luck."
    )


def _values(names: list[str], values: tuple[float, ...] | None) -> str:
    pairs = zip(names, values or (), strict=True)
    return " and ".join(
        f"{name.removesuffix('_rate').replace('_', ' ')} {format_metric(name, value)}"
        for name, value in pairs
    )


def unfinished_note(found: StudyComparison) -> Text:
    """What a comparison of the final policies had to do without."""
    states = Counter("diverged" if run.diverged else run.state for run in found.unfinished)
    what = ", ".join(f"{count} {state}" for state, count in states.items())
    runs = ", ".join(f"{run.arm}/{run.seed}" for run in found.unfinished[:8])
    more = " …" if len(found.unfinished) > 8 else ""
    return Text(
        f"Missing: {len(found.unfinished)} of {found.planned} runs are not finished ({what}): "
        f"{runs}{more}. They are in the curves as far as they got, and in no figure of the table.",
        style="yellow",
    )


def _cell(value: str, interval: str) -> Text:
    return Text(value).append(f"\n{interval}" if interval else "", style="dim")
