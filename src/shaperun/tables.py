"""The comparison of studies as the terminal shows it: a table and a sentence a verdict."""

from __future__ import annotations

from collections import Counter

from rich.console import Console
from rich.table import Table
from rich.text import Text

from shaperun.comparison import StudyResults
from shaperun.sample_efficiency import AUC, STEPS_TO_SOLVED
from shaperun.summary import ArmComparison, Summary, in_words
from shaperun.sweep_results import SweepResults

VERDICT_STYLES = {"better": "green", "worse": "red"}


def show(found: StudyResults, console: Console) -> None:
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
    for note in found.pool.notes if found.pool else ():
        console.print(Text(note, style="dim"))
    if found.missing:
        console.print(missing(found))


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
        cells = [_cell(*in_words(name, arm.metrics[name])) for name in names]
        table.add_row(label, str(arm.runs), *cells)
    return table


def verdict(comparison: ArmComparison, summary: Summary) -> Text:
    """What is said of an arm against the baseline: at the end, and over training."""
    result = comparison.result
    runs = {arm.arm: arm.runs for arm in summary.arms}
    text = Text.assemble(
        (comparison.arm, "bold"),
        " against ",
        (summary.baseline, "bold"),
        ": ",
        (result.verdict, VERDICT_STYLES.get(result.verdict, "yellow")),
        f". Environment return {_difference(comparison)}",
    )
    test = f"permutation test{' paired by seed' if comparison.paired else ''}{_holm(comparison)}"
    text.append(f", p = {result.p_value:.2g} ({test}), ")
    text.append(f"{runs[comparison.arm]} against {runs[summary.baseline]} runs.")
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


def show_ranking(found: SweepResults, console: Console, most: int = 20) -> None:
    """Print the best arms of a sweep, and what is missing."""
    weights = list(found.study.sweep.weights) if found.study.sweep else []
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for name in ("", *weights, "runs", "return", "interval", "success"):
        table.add_column(name, justify="right")
    for place, row in enumerate(found.ranking.head(most).iter_rows(named=True), start=1):
        low, high = row["return_low"], row["return_high"]
        table.add_row(
            str(place),
            *(f"{row[name]:g}" for name in weights),
            str(row["runs"]),
            f"{row['return']:,.1f}",
            Text("one run" if low is None else f"{low:,.0f}…{high:,.0f}", style="dim"),
            f"{row['success_rate']:.0%}",
        )
    console.print(table)
    hidden = len(found.ranking) - most
    more = f"{hidden} more arms are in ranking.csv. " if hidden > 0 else ""
    console.print(
        f"\n{more}Ranked by the interquartile mean of the environment return; the best of many is "
        "partly luck: confirm it on fresh seeds.",
        style="dim",
    )
    if found.finished < found.planned:
        lacking = found.planned - found.finished
        console.print(
            f"Missing: {lacking} of {found.planned} runs are not finished.", style="yellow"
        )


def missing(found: StudyResults) -> Text:
    """What a comparison of the final policies had to do without."""
    states = Counter("diverged" if run.diverged else run.state for run in found.missing)
    what = ", ".join(f"{count} {state}" for state, count in states.items())
    runs = ", ".join(f"{run.arm}/{run.seed}" for run in found.missing[:8])
    more = " …" if len(found.missing) > 8 else ""
    return Text(
        f"Missing: {len(found.missing)} of {found.planned} runs are not finished ({what}): "
        f"{runs}{more}. They are in the curves as far as they got, and in no figure of the table.",
        style="yellow",
    )


def _cell(value: str, interval: str) -> Text:
    return Text(value).append(f"\n{interval}" if interval else "", style="dim")
