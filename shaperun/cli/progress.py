"""Progress of runs in the terminal: a live table, or plain lines if stderr is not a terminal."""

from __future__ import annotations

import math
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from statistics import fmean
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from shaperun.cli.console import Column, build_tables, number_column, print_tables
from shaperun.common.text import escape_control_chars, format_column, format_number, pluralize
from shaperun.runs.plan import Run
from shaperun.runs.run_folder import State
from shaperun.runs.status import ELSEWHERE, STARTING, RunStatus, estimate_seconds_left
from shaperun.runs.study_folder import StudyFolder
from shaperun.study.models import Study

STYLES = {
    "starting": "cyan",
    "waiting": "dim",
    "running": "cyan",
    "interrupted": "yellow",
    "pruned": "dim yellow",
    "failed": "bold red",
    "done": "green",
}
BAR_WIDTH = 12
MAX_ROWS = 30
LEGEND = (
    "return: mean environment return of the latest evaluation; steps/s: of training, without "
    "evaluations"
)


def follow_progress(
    states: Iterable[list[RunStatus]], console: Console, workers: int = 0, scope: str = ""
) -> list[RunStatus]:
    """Show the progress of a batch on so many workers (0: unknown), and return its last states.

    The `scope` says what the time left is about, if not all runs are known yet.
    """
    last: list[RunStatus] = []
    if not console.is_terminal:
        lines = _LineLogger(console, workers, scope)
        for last in states:
            lines.log_changes(last)
        return last
    with Live(console=console, refresh_per_second=4) as live:
        for last in states:
            shown = _select_rows(last, min(MAX_ROWS, max(1, console.height - 6)))
            table, *_ = build_tables(_make_run_columns(shown), console.width)
            hidden = len(last) - len(shown)
            live.update(Group(table, _build_summary(last, hidden, workers, scope)))
    return last


def print_runs(runs: Sequence[RunStatus], console: Console) -> None:
    """Print a table with one row per run, and a summary."""
    shown = _select_rows(runs, MAX_ROWS)
    print_tables(_make_run_columns(shown), console)
    console.print(_build_summary(runs, len(runs) - len(shown)))


def _make_run_columns(runs: Sequence[RunStatus]) -> list[Column]:
    speeds = [f"{run.steps_per_second:,.0f}" if run.steps_per_second else "" for run in runs]
    left = [format_duration(r.seconds_left) if r.state == "running" else "" for r in runs]
    states = [Text(_format_state(run), style=STYLES[_label(run)]) for run in runs]
    return [
        *_name_runs((run.arm, run.seed) for run in runs),
        Column("state", states),
        Column("progress", [_build_bar(run) for run in runs]),
        number_column("left", left),
        number_column("return", _format_returns(runs)),
        number_column("training steps/s", speeds),
    ]


def _name_runs(runs: Iterable[tuple[str, int]]) -> list[Column]:
    arms, seeds = zip(*runs, strict=True)
    return [
        Column("arm", arms, is_label=True),
        Column("seed", [str(seed) for seed in seeds], "right", is_label=True),
    ]


def print_dry_run(study: Study, folder: StudyFolder, runs: Sequence[Run], console: Console) -> None:
    """Print the first runs that a command would train, with their state, and a summary of all."""
    if not runs:
        console.print("No trial has been drawn yet.")
        return
    engines = dict.fromkeys(
        f"{run.config.training.algorithm} (engine {run.config.training.engine})" for run in runs
    )
    console.print(
        f"{study.study}: {' and '.join(engines)}, {pluralize(len(runs), 'run')} of "
        f"{describe_length(runs)}"
    )
    started = {arm for arm in dict.fromkeys(run.arm for run in runs) if folder.has_runs(arm)}
    states: list[State] = [
        folder.run(run.arm, run.seed).read_state() if run.arm in started else "waiting"
        for run in runs
    ]
    shown, hidden = runs[:MAX_ROWS], len(runs) - MAX_ROWS
    columns = [
        *_name_runs((run.arm, run.seed) for run in shown),
        Column("mode", [run.config.reward.mode for run in shown]),
        Column("state", [Text(s, style=STYLES[s]) for s in states[:MAX_ROWS]]),
        Column("folder", [str(folder.run(run.arm, run.seed).path) for run in shown]),
    ]
    print_tables(columns, console)
    more = f"  ·  {pluralize(hidden, 'more run')} not shown" if hidden > 0 else ""
    console.print(f"\n{_count_states(states)}{more}", style="dim")


def describe_length(runs: Sequence[Run]) -> str:
    """Return the steps of each run, and its updates where their number is known."""
    trainings = [run.config.training for run in runs]
    steps = " or ".join(dict.fromkeys(f"{t.total_timesteps:,}" for t in trainings))
    updates = dict.fromkeys(f"{t.algorithm} {t.updates:,}" for t in trainings if t.updates)
    return f"{steps} steps" + (f" (updates: {', '.join(updates)})" if updates else "")


def status_document(study: Study, runs: Sequence[RunStatus]) -> dict[str, Any]:
    """Return the states of a study's runs for `status --json`."""
    keys = ("arm", "seed", "state", "timesteps", "total_timesteps")
    return {"study": study.study, "runs": [{key: getattr(r, key) for key in keys} for r in runs]}


def print_plan(study: Study, runs: Sequence[Run], console: Console) -> None:
    """Print what is about to be trained."""
    arms = {run.arm: run.config.reward for run in runs}
    algorithms = dict.fromkeys(run.config.training.algorithm for run in runs)
    console.print(
        f"{study.study}: {' and '.join(algorithms)} on {study.setting}, "
        f"{pluralize(len(arms), 'arm')} × {pluralize(len({run.seed for run in runs}), 'seed')} × "
        f"{describe_length(runs)}"
    )
    for reference in study.code_references:
        console.print(Text(f"runs code that is not installed: {reference}", style="yellow"))


def print_sweep_plan(study: Study, console: Console) -> None:
    """Print how the weights of an arm are about to be searched."""
    sweep = study.sweep
    if sweep is None:
        return
    samples = (
        math.prod(map(len, sweep.weights.values())) if sweep.method == "grid" else sweep.samples
    )
    fresh = len(study.seeds) if sweep.confirm is None else sweep.confirm
    confirm = f"; the best trial confirmed with {pluralize(fresh, 'fresh seed')}" if fresh else ""
    pruning = ", the worse half stopped at 25% and again at 50%" if sweep.pruning else ""
    console.print(
        f"{study.study}: {sweep.method} search of {', '.join(sweep.weights)} for "
        f"{sweep.describe_objectives()}; "
        f"{pluralize(samples, 'trial')} × {pluralize(len(study.seeds), 'seed')} × "
        f"{study.training.total_timesteps:,} steps"
        f"{pruning}{confirm}"
    )


def print_interrupted(folder: StudyFolder, runs: Sequence[Run], command: str) -> None:
    """Print what is finished, and how to resume."""
    done = sum(folder.run(run.arm, run.seed).is_done() for run in runs)
    print(f"\ninterrupted: {done} of {pluralize(len(runs), 'run')} finished", file=sys.stderr)
    print(f"To resume: {command}", file=sys.stderr)


def print_outcome(folder: StudyFolder, runs: Sequence[RunStatus], console: Console) -> int:
    """Print how a batch ended, with the reasons of failures; return the number of runs undone.

    Pruned runs count as done.
    """
    failed = [run for run in runs if run.state == "failed"]
    for run in failed:
        error_file = folder.run(run.arm, run.seed).error
        reason = _extract_reason(run.failure)
        message = f"{run.arm}/{run.seed} failed: {reason}"
        if error_file.exists():
            message += f" (full traceback: {error_file})"
        print(escape_control_chars(message), file=sys.stderr)
    done, pruned = (sum(run.state == state for run in runs) for state in ("done", "pruned"))
    if done:
        others = f", {pruned} pruned" if pruned else ""
        console.print(f"{done} of {pluralize(len(runs), 'run')} finished{others}, in {folder.path}")
    return len(runs) - done - pruned


def _extract_reason(failure: str | None) -> str:
    """Return the last line of a failure, which describes it.

    Earlier versions wrote tracebacks, whose last line has the class of an error of shaperun.
    """
    last = (failure or "unknown").strip().splitlines()[-1]
    return last.split(": ", 1)[-1] if last.startswith("shaperun.") else last


def format_duration(seconds: float | None) -> str:
    """Format seconds as 0:42, 12:05 or 3:10:00; empty if unknown."""
    if seconds is None:
        return ""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _select_rows(runs: Sequence[RunStatus], count: int) -> list[RunStatus]:
    if len(runs) <= count:
        return list(runs)
    order = ["running", "starting", "failed", "interrupted", "waiting", "done", "pruned"]
    chosen = sorted(runs, key=lambda run: order.index(_label(run)))[:count]
    return [run for run in runs if run in chosen]


def _label(run: RunStatus) -> str:
    """Return the state of a run, or that it is starting."""
    return STARTING if run.phase == STARTING else run.state


def _format_state(run: RunStatus) -> str:
    if run.state == "running" and run.phase == ELSEWHERE:
        return "running elsewhere"
    return "evaluating" if run.state == "running" and run.phase == "evaluating" else _label(run)


def _build_bar(run: RunStatus) -> Text:
    full = int(run.completed_share * BAR_WIDTH)
    return Text.assemble(
        ("━" * full, STYLES[run.state]),
        ("━" * (BAR_WIDTH - full), "grey30"),
        f" {_format_share(run.completed_share):>4}",
    )


def _format_share(share: float) -> str:
    return f"{int(share * 100)}%"  # 100% is the end only


def _latest_return(run: RunStatus) -> float | None:
    return run.training_return if run.evaluated_return is None else run.evaluated_return


def _format_return(run: RunStatus) -> str:
    latest = _latest_return(run)
    return "" if latest is None else format_number(latest)


def _format_returns(runs: Sequence[RunStatus]) -> list[str]:
    """Return the latest returns with the same decimals, which show three digits of the largest."""
    latest = [_latest_return(run) for run in runs]
    texts = iter(format_column([value for value in latest if value is not None], 3))
    return ["" if value is None else next(texts) for value in latest]


def _count_states(states: Iterable[str]) -> str:
    counts = Counter(states)
    return ", ".join(f"{counts[state]:,} {state}" for state in STYLES if counts[state])


def _build_summary(
    runs: Sequence[RunStatus], hidden: int, workers: int = 0, scope: str = ""
) -> Text:
    parts = [_count_states(map(_label, runs))]
    running = [run for run in runs if run.state == "running"]
    if running:
        pace = sum(run.steps_per_second for run in running)
        parts += [_format_total(runs, workers, scope), f"{pace:,.0f} steps/s in total"]
    parts += [f"{pluralize(hidden, 'more run')} not shown"] if hidden else []
    return Text(f"\n{'  ·  '.join(parts)}\n{LEGEND}", style="dim")


def _format_total(runs: Sequence[RunStatus], workers: int, scope: str) -> str:
    """Return the share of all runs that has ended, and the time left."""
    shares = [1.0 if run.state == "failed" else run.completed_share for run in runs]
    share = fmean(shares) if shares else 0.0  # a sweep begins without trials
    left = estimate_seconds_left(runs, workers)
    time_left = "" if left is None else f", {format_duration(left)} left{scope}"
    return f"{_format_share(share)}{time_left}"


class _LineLogger:
    """Prints one line when a run starts, ends or fails, and at every tenth of it."""

    def __init__(self, console: Console, workers: int, scope: str) -> None:
        self._console, self._workers, self._scope = console, workers, scope
        self._states: dict[tuple[str, int], str] = {}
        self._tenths: Counter[tuple[str, int]] = Counter()

    def log_changes(self, runs: Sequence[RunStatus]) -> None:
        ended = sum(run.state in ("done", "pruned", "failed") for run in runs)
        total = f"{ended} of {pluralize(len(runs), 'run')} ended"
        total += f", {_format_total(runs, self._workers, self._scope)}"
        for run in runs:
            for text in self._describe_change(run):
                self._console.print(f"{run.arm}/{run.seed}: {text}  ·  {total}", soft_wrap=True)

    def _describe_change(self, run: RunStatus) -> Iterator[str]:
        key, tenth = (run.arm, run.seed), int(run.completed_share * 10)
        before = self._states.get(key, "waiting")
        self._states[key] = run.state
        if run.state != before:
            yield _describe_state(run)
        elif run.state == "running" and tenth > self._tenths[key]:
            yield (
                f"{_format_share(run.completed_share)}, {run.steps_per_second:,.0f} steps/s, "
                f"{format_duration(run.seconds_left)} left, return {_format_return(run)}"
            )
        self._tenths[key] = max(tenth, self._tenths[key])


def _describe_state(run: RunStatus) -> str:
    if run.state == "done":
        took = format_duration(run.seconds)
        return f"done after {took}, environment return {_format_return(run)}"
    if run.state == "failed" and run.failure:
        return f"failed: {_extract_reason(run.failure)}"
    return "started" if run.state == "running" and run.phase != ELSEWHERE else _format_state(run)
