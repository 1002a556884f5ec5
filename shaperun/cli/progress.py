"""What the terminal shows of runs: a live table, or plain lines where there is no terminal."""

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

from shaperun.common.text import escape_control_chars
from shaperun.runs.plan import Run
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
PLAIN_SECONDS = 10.0  # between progress lines where there is no terminal


def follow(states: Iterable[list[RunStatus]], console: Console) -> list[RunStatus]:
    """Show a batch until its end, and return how it ended."""
    last: list[RunStatus] = []
    if not console.is_terminal:
        lines = _LineLogger(console)
        for last in states:
            lines.show(last)
        return last
    with Live(console=console, refresh_per_second=4) as live:
        for last in states:
            live.update(run_table(last))
    return last


def run_table(runs: Sequence[RunStatus]) -> Group:
    """A row a run: state, progress, pace, time left, latest environment return."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("arm", overflow="ellipsis", no_wrap=True, max_width=32)
    table.add_column("seed", justify="right")
    table.add_column("state")
    table.add_column("progress", no_wrap=True)
    table.add_column("steps/s", justify="right")
    table.add_column("left", justify="right")
    table.add_column("return", justify="right")
    shown = _most_relevant(runs)
    for run in shown:
        table.add_row(
            run.arm,
            str(run.seed),
            Text(_state(run), style=STYLES[run.state]),
            _bar(run),
            f"{run.steps_per_second:,.0f}" if run.seconds else "",
            duration(run.seconds_left) if run.state == "running" else "",
            _return(run),
        )
    return Group(table, _summary(runs, hidden=len(runs) - len(shown)))


def plan_table(study: Study, folder: StudyFolder, runs: Sequence[Run]) -> Table:
    """The runs that a command would train, and what has become of them so far."""
    title = f"{study.study}: {len(runs)} runs of {study.training.total_timesteps:,} steps"
    table = Table(box=None, pad_edge=False, header_style="bold", title=title, title_justify="left")
    for column in ("arm", "seed", "mode", "state", "folder"):
        table.add_column(column, justify="right" if column == "seed" else "left", no_wrap=True)
    for run in runs:
        run_folder = folder.run(run.arm, run.seed)
        state = run_folder.state()
        seen = (Text(state, style=STYLES[state]), str(run_folder.path))
        table.add_row(run.arm, str(run.seed), run.config.reward.mode, *seen)
    return table


def status_document(study: Study, runs: Sequence[RunStatus]) -> dict[str, Any]:
    """The states of a study's runs, as `status --json` prints them."""
    keys = ("arm", "seed", "state", "timesteps", "total_timesteps")
    return {"study": study.study, "runs": [{key: getattr(r, key) for key in keys} for r in runs]}


def introduce(study: Study, runs: Sequence[Run], console: Console) -> None:
    """Say what is about to be trained, and what one should know about its rewards."""
    arms = {run.arm: run.config.reward for run in runs}
    algorithms = dict.fromkeys(run.config.training.algorithm for run in runs)
    console.print(
        f"{study.study}: {' and '.join(algorithms)} on {study.environment.id}, {len(arms)} arms × "
        f"{len({run.seed for run in runs})} seeds × {study.training.total_timesteps:,} steps"
    )
    for reference in study.code:
        console.print(Text(f"runs code that is not installed: {reference}", style="yellow"))


def introduce_sweep(study: Study, console: Console) -> None:
    """Say how the weights of an arm are about to be searched."""
    sweep = study.sweep
    if sweep is None:
        return
    samples = (
        math.prod(map(len, sweep.weights.values())) if sweep.method == "grid" else sweep.samples
    )
    sought = " and ".join(
        f"{'less' if n[0] == '-' else 'more'} {n.lstrip('-')}" for n in sweep.objective
    )
    fresh = len(study.seeds) if sweep.confirm is None else sweep.confirm
    again = f"; the best again with {fresh} fresh seeds" if fresh else ""
    pruning = ", the worse half stopped at a quarter and at half of it" if sweep.pruning else ""
    console.print(
        f"{study.study}: {sweep.method} search of {', '.join(sweep.weights)} for {sought}; "
        f"{samples} trials × {len(study.seeds)} seeds × {study.training.total_timesteps:,} steps"
        f"{pruning}{again}",
        highlight=False,
    )


def print_interrupted(folder: StudyFolder, runs: Sequence[Run], command: str) -> None:
    """Say what was kept, and how to go on."""
    done = sum(folder.run(run.arm, run.seed).is_done() for run in runs)
    print(f"\ninterrupted: {done} of {len(runs)} runs are finished and kept.", file=sys.stderr)
    print(f"The same command goes on where they stopped: {command}", file=sys.stderr)


def print_outcome(folder: StudyFolder, runs: Sequence[RunStatus], console: Console) -> int:
    """Say how a batch ended, failures with their reasons; returns how many runs failed."""
    failed = [run for run in runs if run.state == "failed"]
    for run in failed:
        where = folder.run(run.arm, run.seed).error
        reason = _reason(run.failure)
        told = f"{run.arm}/{run.seed} failed: {reason} (whole story: {where})"
        print(escape_control_chars(told), file=sys.stderr)
    done = sum(run.state == "done" for run in runs)
    if done:
        pruned = sum(run.state == "pruned" for run in runs)
        beside = f", {pruned} pruned" if pruned else ""
        console.print(f"{done} of {len(runs)} runs finished{beside}, in {folder.path}")
    return len(failed)


def _reason(failure: str | None) -> str:
    """The last line of a traceback; an error of our own speaks for itself, without its class."""
    last = (failure or "unknown").strip().splitlines()[-1]
    return last.split(": ", 1)[-1] if last.startswith("shaperun.") else last


def duration(seconds: float | None) -> str:
    """Seconds as 0:42, 12:05 or 3:10:00; empty where they are not known."""
    if seconds is None:
        return ""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _most_relevant(runs: Sequence[RunStatus]) -> list[RunStatus]:
    if len(runs) <= MAX_ROWS:
        return list(runs)
    order = ["running", "failed", "interrupted", "waiting", "done", "pruned"]
    chosen = sorted(runs, key=lambda run: order.index(run.state))[:MAX_ROWS]
    return [run for run in runs if run in chosen]


def _state(run: RunStatus) -> str:
    if run.state == "running" and run.phase == ELSEWHERE:
        return "another command's"
    return "evaluating" if run.state == "running" and run.phase == "evaluating" else run.state


def _share(run: RunStatus) -> float:
    # A learner finishes the rollout it has begun, so it may pass its total.
    return min(1.0, run.timesteps / run.total_timesteps) if run.total_timesteps else 0.0


def _bar(run: RunStatus) -> Text:
    share = 1.0 if run.state == "done" else _share(run)
    full = round(share * BAR_WIDTH)
    return Text.assemble(
        ("━" * full, STYLES[run.state]), ("━" * (BAR_WIDTH - full), "grey30"), f" {share:4.0%}"
    )


def _return(run: RunStatus) -> str:
    latest = run.training_return if run.evaluated_return is None else run.evaluated_return
    return "" if latest is None else f"{latest:,.1f}"


def _summary(runs: Sequence[RunStatus], hidden: int) -> Text:
    counts = Counter[str](run.state for run in runs)
    text = ", ".join(f"{counts[state]} {state}" for state in STYLES if counts[state])
    running = [run for run in runs if run.state == "running"]
    pace = sum(run.steps_per_second for run in running)
    text += f"  ·  {pace:,.0f} steps/s together" if running else ""
    text += f"  ·  {hidden} more runs not shown" if hidden else ""
    return Text(f"\n{text}\nreturn: mean environment return of the latest evaluation", style="dim")


class _LineLogger:
    """A line when a run starts, ends or fails, and now and then in between."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._said: dict[tuple[str, int], str] = {}
        self._spoke = time.monotonic()

    def show(self, runs: Sequence[RunStatus]) -> None:
        for run in runs:
            key = (run.arm, run.seed)
            if run.state != "waiting" and self._said.get(key) != run.state:
                skipped = key not in self._said and run.state == "done"
                self._said[key] = run.state
                self._say(f"{self._line(run)}{' (already finished)' if skipped else ''}")
        if time.monotonic() - self._spoke > PLAIN_SECONDS:
            for line in self._progress(runs):
                self._say(line)

    def _say(self, line: str) -> None:
        self._spoke = time.monotonic()
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def _line(self, run: RunStatus) -> str:
        latest = _return(run)
        text = f"{run.arm}/{run.seed}: {run.state}"
        if run.state == "done":
            text += f" after {duration(run.seconds)}, environment return {latest}"
        if run.state == "failed" and run.failure:
            text += f": {_reason(run.failure)}"
        return text

    def _progress(self, runs: Sequence[RunStatus]) -> Iterator[str]:
        for run in runs:
            if run.state == "running":
                left = duration(run.seconds_left)
                yield (
                    f"{run.arm}/{run.seed}: {_share(run):.0%}, "
                    f"{run.steps_per_second:,.0f} steps/s, {left} left, return {_return(run)}"
                )
