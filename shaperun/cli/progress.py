"""Progress of runs in the terminal: a live table, or plain lines if stderr is no terminal."""

from __future__ import annotations

import math
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from shaperun.common.text import escape_control_chars, format_fixed
from shaperun.runs.plan import Run
from shaperun.runs.run_folder import State
from shaperun.runs.status import ELSEWHERE, RunStatus
from shaperun.runs.study_folder import StudyFolder
from shaperun.study.models import Study

STYLES = {
    "waiting": "dim",
    "running": "cyan",
    "interrupted": "yellow",
    "pruned": "dim yellow",
    "failed": "bold red",
    "done": "green",
}
BAR_WIDTH = 12
MAX_ROWS = 30
PLAIN_SECONDS = 10.0  # between lines of progress without a terminal


def follow_progress(states: Iterable[list[RunStatus]], console: Console) -> list[RunStatus]:
    """Show the progress of a batch, and return its last states."""
    last: list[RunStatus] = []
    if not console.is_terminal:
        lines = _LineLogger(console)
        for last in states:
            lines.log_changes(last)
        return last
    with Live(console=console, refresh_per_second=4) as live:
        for last in states:
            live.update(build_run_table(last))
    return last


def build_run_table(runs: Sequence[RunStatus]) -> Group:
    """Return a table with one row per run, and a summary."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("arm", overflow="ellipsis", no_wrap=True, max_width=32)
    table.add_column("seed", justify="right", no_wrap=True)
    for name in ("state", "progress"):
        table.add_column(name, no_wrap=True)
    for name in ("steps/s", "left", "return"):
        table.add_column(name, justify="right", no_wrap=True)
    shown = _select_rows(runs)
    for run in shown:
        table.add_row(
            run.arm,
            str(run.seed),
            Text(_format_state(run), style=STYLES[run.state]),
            _build_bar(run),
            f"{run.steps_per_second:,.0f}" if run.seconds else "",
            format_duration(run.seconds_left) if run.state == "running" else "",
            _format_return(run),
        )
    return Group(table, _build_summary(runs, hidden=len(runs) - len(shown)))


def build_plan_table(study: Study, folder: StudyFolder, runs: Sequence[Run]) -> Group:
    """Return a table of the runs that a command would train, with their current state.

    It has the first `MAX_ROWS` runs, and a summary of all of them.
    """
    engines = dict.fromkeys(
        f"{run.config.training.algorithm} (engine {run.config.training.engine})" for run in runs
    )
    title = f"{study.study}: {' and '.join(engines)}, {len(runs):,} runs of {describe_length(runs)}"
    table = Table(box=None, pad_edge=False, header_style="bold", title=title, title_justify="left")
    table.add_column("arm", overflow="ellipsis", no_wrap=True, max_width=32)
    table.add_column("seed", justify="right", no_wrap=True)
    for name in ("mode", "state"):
        table.add_column(name, no_wrap=True)
    table.add_column("folder", overflow="fold")
    started = {arm for arm in dict.fromkeys(run.arm for run in runs) if folder.has_runs(arm)}
    states: list[State] = [
        folder.run(run.arm, run.seed).read_state() if run.arm in started else "waiting"
        for run in runs
    ]
    for run, state in zip(runs[:MAX_ROWS], states, strict=False):
        run_folder = folder.run(run.arm, run.seed)
        cells = (run.config.reward.mode, Text(state, style=STYLES[state]), str(run_folder.path))
        table.add_row(run.arm, str(run.seed), *cells)
    hidden = len(runs) - MAX_ROWS
    more = f"  ·  {hidden:,} more runs not shown" if hidden > 0 else ""
    return Group(table, Text(f"\n{_count_states(states)}{more}", style="dim"))


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
        f"{study.study}: {' and '.join(algorithms)} on {study.environment.id}, {len(arms)} arms × "
        f"{len({run.seed for run in runs})} seeds × {describe_length(runs)}"
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
    confirm = f"; the best trial confirmed with {fresh} fresh seeds" if fresh else ""
    pruning = ", the worse half stopped at 25% and again at 50%" if sweep.pruning else ""
    console.print(
        f"{study.study}: {sweep.method} search of {', '.join(sweep.weights)} for "
        f"{sweep.describe_objectives()}; "
        f"{samples} trials × {len(study.seeds)} seeds × {study.training.total_timesteps:,} steps"
        f"{pruning}{confirm}"
    )


def print_interrupted(folder: StudyFolder, runs: Sequence[Run], command: str) -> None:
    """Print what is finished, and how to resume."""
    done = sum(folder.run(run.arm, run.seed).is_done() for run in runs)
    print(f"\ninterrupted: {done} of {len(runs)} runs are finished", file=sys.stderr)
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
        console.print(f"{done} of {len(runs)} runs finished{others}, in {folder.path}")
    return len(runs) - done - pruned


def _extract_reason(failure: str | None) -> str:
    """Return the last line of a traceback, without the class for errors of shaperun."""
    last = (failure or "unknown").strip().splitlines()[-1]
    return last.split(": ", 1)[-1] if last.startswith("shaperun.") else last


def format_duration(seconds: float | None) -> str:
    """Format seconds as 0:42, 12:05 or 3:10:00; empty if unknown."""
    if seconds is None:
        return ""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _select_rows(runs: Sequence[RunStatus]) -> list[RunStatus]:
    if len(runs) <= MAX_ROWS:
        return list(runs)
    order = ["running", "failed", "interrupted", "waiting", "done", "pruned"]
    chosen = sorted(runs, key=lambda run: order.index(run.state))[:MAX_ROWS]
    return [run for run in runs if run in chosen]


def _format_state(run: RunStatus) -> str:
    if run.state == "running" and run.phase == ELSEWHERE:
        return "running elsewhere"
    return "evaluating" if run.state == "running" and run.phase == "evaluating" else run.state


def _completed_share(run: RunStatus) -> float:
    # A learner finishes its current rollout, so it may exceed the total.
    return min(1.0, run.timesteps / run.total_timesteps) if run.total_timesteps else 0.0


def _build_bar(run: RunStatus) -> Text:
    share = 1.0 if run.state == "done" else _completed_share(run)
    full = round(share * BAR_WIDTH)
    return Text.assemble(
        ("━" * full, STYLES[run.state]), ("━" * (BAR_WIDTH - full), "grey30"), f" {share:4.0%}"
    )


def _format_return(run: RunStatus) -> str:
    latest = run.training_return if run.evaluated_return is None else run.evaluated_return
    return "" if latest is None else format_fixed(latest, 1)


def _count_states(states: Iterable[str]) -> str:
    counts = Counter(states)
    return ", ".join(f"{counts[state]:,} {state}" for state in STYLES if counts[state])


def _build_summary(runs: Sequence[RunStatus], hidden: int) -> Text:
    text = _count_states(run.state for run in runs)
    running = [run for run in runs if run.state == "running"]
    pace = sum(run.steps_per_second for run in running)
    text += f"  ·  {pace:,.0f} steps/s in total" if running else ""
    text += f"  ·  {hidden} more runs not shown" if hidden else ""
    return Text(f"\n{text}\nreturn: mean environment return of the latest evaluation", style="dim")


class _LineLogger:
    """Prints one line when a run starts, ends or fails, and sometimes in between."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._logged: dict[tuple[str, int], str] = {}
        self._last_print = time.monotonic()

    def log_changes(self, runs: Sequence[RunStatus]) -> None:
        for run in runs:
            key = (run.arm, run.seed)
            if run.state != "waiting" and self._logged.get(key) != run.state:
                skipped = key not in self._logged and run.state == "done"
                self._logged[key] = run.state
                self._print(f"{self._format_change(run)}{' (already finished)' if skipped else ''}")
        if time.monotonic() - self._last_print > PLAIN_SECONDS:
            for line in self._format_progress(runs):
                self._print(line)

    def _print(self, line: str) -> None:
        self._last_print = time.monotonic()
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def _format_change(self, run: RunStatus) -> str:
        latest = _format_return(run)
        text = f"{run.arm}/{run.seed}: {run.state}"
        if run.state == "done":
            text += f" after {format_duration(run.seconds)}, environment return {latest}"
        if run.state == "failed" and run.failure:
            text += f": {_extract_reason(run.failure)}"
        return text

    def _format_progress(self, runs: Sequence[RunStatus]) -> Iterator[str]:
        for run in runs:
            if run.state == "running":
                share, left = _completed_share(run), format_duration(run.seconds_left)
                yield (
                    f"{run.arm}/{run.seed}: {share:.0%}, {run.steps_per_second:,.0f} steps/s, "
                    f"{left} left, return {_format_return(run)}"
                )
