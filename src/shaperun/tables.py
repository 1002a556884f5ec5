"""The comparison of a study as the terminal shows it: a table and a sentence a verdict."""

from __future__ import annotations

from collections import Counter

from rich.console import Console
from rich.table import Table
from rich.text import Text

from shaperun.comparison import StudyResults
from shaperun.summary import ArmComparison, Estimate, Summary
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
        cells = [_cell(name, arm.metrics[name]) for name in names]
        table.add_row(label, str(arm.runs), *cells)
    return table


def verdict(comparison: ArmComparison, summary: Summary) -> Text:
    """One sentence on the environment return of an arm against the baseline."""
    result = comparison.result
    runs = {arm.arm: arm.runs for arm in summary.arms}
    count = f"{runs[comparison.arm]} against {runs[summary.baseline]} runs"
    text = Text.assemble(
        (comparison.arm, "bold"),
        " against ",
        (summary.baseline, "bold"),
        ": ",
        (result.verdict, VERDICT_STYLES.get(result.verdict, "yellow")),
        f". Mean environment return {result.difference:+,.0f}",
    )
    if result.low == result.low:  # not NaN: there is an interval
        level = "" if abs(result.level - 0.95) < 1e-9 else f" ({result.level:.0%} interval)"
        text.append(f" [{result.low:+,.0f}, {result.high:+,.0f}]{level}")
    test = f"permutation test{' paired by seed' if comparison.paired else ''}{_holm(comparison)}"
    text.append(f", p = {result.p_value:.2g} ({test}), {count}.")
    if result.seeds_needed:
        text.append(f" No outcome of so few could show more: take {result.seeds_needed} seeds.")
    return text


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
    states = Counter(run.state for run in found.missing)
    what = ", ".join(f"{count} {state}" for state, count in states.items())
    runs = ", ".join(f"{run.arm}/{run.seed}" for run in found.missing[:8])
    more = " …" if len(found.missing) > 8 else ""
    total = len(found.study.arms) * len(found.study.seeds)
    return Text(
        f"Missing: {len(found.missing)} of {total} runs are not finished ({what}): {runs}{more}. "
        "They are in the curves as far as they got, and in no figure of the table.",
        style="yellow",
    )


def _cell(name: str, estimate: Estimate) -> Text:
    percent = name.endswith("_rate")
    whole = percent or abs(estimate.iqm) >= 100
    text = Text(_format(estimate.iqm, percent=percent, whole=whole))
    if estimate.low is None or estimate.high is None:
        return text  # a single run has no interval
    low, high = estimate.low, estimate.high
    if percent:  # an interval for a share cannot leave 0 to 1
        low, high = max(0.0, low), min(1.0, high)
    ends = (_format(end, percent=percent, whole=whole) for end in (low, high))
    return text.append(f"\n{'…'.join(ends)}", style="dim")


def _format(value: float, *, percent: bool, whole: bool) -> str:
    if percent:
        return f"{value:.0%}"
    return f"{value:,.0f}" if whole else f"{value:,.1f}"
