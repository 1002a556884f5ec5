"""Comparisons and sweep rankings in the terminal: tables, and one sentence per verdict."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from shaperun.analysis import training_differences
from shaperun.analysis.comparison import StudyComparison
from shaperun.analysis.learning_speed import AUC, STEPS_TO_SOLVED
from shaperun.analysis.summary import (
    AGGREGATES,
    NEVER_SOLVED,
    ArmComparison,
    Summary,
    describe_estimates,
    format_difference,
    format_estimates,
    format_metrics,
)
from shaperun.cli.console import Column, number_column, print_tables
from shaperun.common.text import format_exact, humanize, pluralize
from shaperun.search.ranking import ConfirmedTrial, SweepResults, format_objectives
from shaperun.study.sweep import Sweep

VERDICT_STYLES = {"better": "green", "worse": "red"}


def print_comparison(comparison: StudyComparison, console: Console) -> None:
    """Print the table, the verdicts, and what is missing."""
    summary = comparison.summary
    if summary.arms:
        print_arms(summary, console)
        episodes = pluralize(comparison.study.evaluation.final_episodes, "held-out episode")
        console.print(
            f"\n{describe_estimates(summary.arms)}. Every run is "
            f"evaluated by the environment's reward on the same {episodes}.\n",
            style="dim",
        )
    for compared in summary.compared_in(summary.by).values():
        console.print(format_verdict(compared, summary))
    grid = training_differences.training_grid(comparison.study)
    if grid and summary.arms:
        print_grid(grid, summary, console)
        console.print()
    for note in comparison.notes:
        console.print(Text(note, style="dim"))
    if comparison.unfinished:
        console.print(format_unfinished(comparison))


def print_arms(summary: Summary, console: Console) -> None:
    """Print a table of arms × metrics, with the number of runs and intervals.

    A metric other than the return by which arms are ranked comes first, with its verdicts.
    """
    styles = ["bold" if arm.arm == summary.baseline else "" for arm in summary.arms]
    names = [Text(arm.arm, style=style) for arm, style in zip(summary.arms, styles, strict=True)]
    columns = [
        Column("arm", names, is_label=True),
        Column("runs", [str(arm.runs) for arm in summary.arms], "right", is_label=True),
    ]
    for name in sorted(summary.arms[0].metrics, key=lambda name: name != summary.by):
        estimates = format_estimates(name, [arm.metrics[name] for arm in summary.arms])
        columns.append(number_column(humanize(name), [_build_cell(*text) for text in estimates]))
        if name == summary.by != "return":
            columns += _make_verdict_columns(summary)
    print_tables(columns, console)


def _make_verdict_columns(summary: Summary) -> list[Column]:
    """Return the differences from the baseline in the metric of the ranking, and the verdicts."""
    compared = summary.compared_in(summary.by)
    found = [compared.get(arm.arm) for arm in summary.arms]
    differences = [_build_cell(*format_difference(c.result)) if c else Text("–") for c in found]
    verdicts = [
        Text(c.result.verdict, VERDICT_STYLES.get(c.result.verdict, "yellow")).append(
            f"\np = {c.p_adjusted:.2g}", style="dim"
        )
        if c
        else Text("–")
        for c in found
    ]
    return [number_column("difference", differences), number_column("verdict", verdicts)]


def print_grid(grid: training_differences.TrainingGrid, summary: Summary, console: Console) -> None:
    """Print a table of the metric that ranks arms, by reward and learner."""
    texts = format_estimates(summary.by, [arm.metrics[summary.by] for arm in summary.arms])
    values = {arm.arm: text for arm, text in zip(summary.arms, texts, strict=True)}
    title = f"{humanize(summary.by)} by reward and learner"
    columns = [Column(title, list(grid.rewards), is_label=True)]
    for learner in grid.learners:
        arms = [grid.arms.get((reward, learner), "") for reward in grid.rewards]
        cells = [_build_cell(*values.get(arm, ("–", ""))) for arm in arms]
        columns.append(number_column(learner, cells))
    print_tables(columns, console)


def format_verdict(comparison: ArmComparison, summary: Summary) -> Text:
    """Return the verdict on an arm against the baseline in one metric.

    For the environment return it is that at the end and over training.
    """
    result, metric = comparison.result, humanize(comparison.metric)
    metric = "Environment return" if metric == "return" else metric[0].upper() + metric[1:]
    runs = {arm.arm: arm.runs for arm in summary.arms}
    text = Text.assemble(
        (comparison.arm, "bold"),
        " against ",
        (comparison.baseline, "bold"),
        ": ",
        (result.verdict, VERDICT_STYLES.get(result.verdict, "yellow")),
        f". {metric} {' '.join(filter(None, format_difference(result)))}",
    )
    count = f"{runs[comparison.arm]} against {pluralize(runs[comparison.baseline], 'run')}"
    if comparison.is_tested:
        paired = " paired by seed" if comparison.paired else ""
        test = f"permutation test{paired}{_format_correction(comparison)}"
        text.append(f", p = {result.p_value:.2g} ({test}), {count}.")
    else:
        text.append(f"; {count} are too few for an interval or a test.")
    text.append(f" {comparison.advice}" if comparison.advice else "")
    learning = [
        _format_learning(words, other)
        for name, words in ((AUC, "mean return"), (STEPS_TO_SOLVED, "steps to solved"))
        for other in summary.comparisons
        if comparison.metric == "return" and other.arm == comparison.arm and other.metric == name
    ]
    return text.append(f" Over training: {', '.join(learning)}." if learning else "", style="dim")


def _format_learning(name: str, comparison: ArmComparison) -> str:
    if comparison.result.verdict == NEVER_SOLVED:
        return f"{NEVER_SOLVED} by either arm"
    p = [f"p = {comparison.p_adjusted:.2g}"] if comparison.is_tested else []
    notes = "; ".join([*p, *comparison.never_notes])
    difference = " ".join(filter(None, format_difference(comparison.result)))
    return f"{name} {difference}{f' ({notes})' if notes else ''}"


def _format_correction(comparison: ArmComparison) -> str:
    if comparison.p_adjusted == comparison.result.p_value:
        return ""
    return f"; {comparison.p_adjusted:.2g} after Holm's correction for several arms"


def print_ranking(results: SweepResults, console: Console, max_rows: int = 20) -> None:
    """Print the ranking of a sweep, its confirmed best trials, and which trials are excluded."""
    sweep = results.study.sweep
    if sweep is None:
        return
    print_tables(_make_ranking_columns(results, sweep, max_rows), console)
    hidden = len(results.ranking) - max_rows
    more = f"{pluralize(hidden, 'more arm')} in ranking.csv. " if hidden > 0 else ""
    console.print(
        f"\n{more}Ranked by {humanize(sweep.metrics[0])}, "
        f"{AGGREGATES[sweep.aggregate]} over {pluralize(len(results.study.seeds), 'run')}; returns "
        "are interquartile means of the environment return.\n",
        style="dim",
    )
    for winner in results.best:
        console.print(format_confirmation(winner, results))
    excluded = {
        "stopped early and not ranked": results.count("pruned"),
        "failed": results.count("failed"),
        "not finished": results.count("unfinished"),
    }
    parts = [f"{count} {what}" for what, count in excluded.items() if count]
    if parts:
        console.print(f"Trials: {', '.join(parts)}.", style="yellow")


def _make_ranking_columns(results: SweepResults, sweep: Sweep, max_rows: int) -> list[Column]:
    """Return the swept values, the objectives with their intervals, and return and success rate."""
    rows = list(results.ranking.head(max_rows).iter_rows(named=True))
    others = [n for n in ("return", "success_rate") if n in rows[0] and n not in sweep.metrics]
    ranks = [str(rank) for rank in range(1, len(rows) + 1)]
    columns = [
        Column("", ranks, "right", is_label=True),
        *(
            number_column(humanize(name), [format_exact(row[name]) for row in rows])
            for name in sweep.weights
        ),
        number_column("runs", [str(row["runs"]) for row in rows]),
    ]
    for name in (*sweep.metrics, *others):
        values = format_metrics(name, [row[name] for row in rows])
        columns.append(number_column(humanize(name), values))
        if name in sweep.metrics:
            columns.append(number_column("interval", _format_intervals(name, rows)))
    return columns


def _format_intervals(name: str, rows: Sequence[Mapping[str, Any]]) -> list[Text]:
    ends = [(row[f"{name}_low"], row[f"{name}_high"]) for row in rows]
    known = [end for pair in ends for end in pair if end is not None]
    texts = iter(format_metrics(name, known)) if known else iter(())
    return [
        Text(
            ("one run" if row["runs"] == 1 else "–")
            if low is None
            else f"[{next(texts)}, {next(texts)}]",
            style="dim",
        )
        for row, (low, _) in zip(rows, ends, strict=True)
    ]


def format_confirmation(winner: ConfirmedTrial, results: SweepResults) -> Text:
    """Return the values of the best trial in the search, and with fresh seeds."""
    sweep = results.study.sweep
    assert sweep  # noqa: S101 (its best trials are confirmed)
    text = Text.assemble((winner.result.trial.arm, "bold"), ": ")
    found, *again = format_objectives(sweep, *winner.known_values)
    text.append(f"{found} in the search")
    if not winner.seeds:
        return text.append(", not confirmed: the best of many is partly noise.", style="yellow")
    seeds = pluralize(len(winner.seeds), "fresh seed")
    if not again:
        return text.append(f", not yet confirmed with {seeds}.", style="yellow")
    text.append(f", {again[0]} with {seeds}", style="bold")
    return text.append(". Trust the latter: the former is the best of many, which is partly noise.")


def format_unfinished(comparison: StudyComparison) -> Text:
    """Return which runs the comparison of final policies lacks."""
    missing = comparison.unfinished
    states = Counter("diverged" if run.diverged else run.state for run in missing)
    counts = ", ".join(f"{count} {state}" for state, count in states.items())
    runs = ", ".join(f"{run.arm}/{run.seed}" for run in missing[:8])
    more = " …" if len(missing) > 8 else ""
    return Text(
        f"Not finished: {len(missing)} of {pluralize(comparison.planned, 'run')} ({counts}): "
        f"{runs}{more}. Curves include their evaluations so far; the table excludes them.",
        style="yellow",
    )


def _build_cell(value: str, interval: str) -> Text:
    return Text(value).append(f"\n{interval}" if interval else "", style="dim")
