from __future__ import annotations

import io

import pytest
from rich.console import Console

from shaperun.cli.progress import MAX_ROWS, build_run_table, follow_progress, format_duration
from shaperun.runs.status import RunStatus

RUN = RunStatus(
    "article", 3, "running", 50_000, 200_000, 10.0, phase="training", training_return=-123.4
)


def render(runs: list[RunStatus], *, terminal: bool) -> str:
    console = Console(file=io.StringIO(), width=100, force_terminal=terminal, color_system=None)
    console.print(build_run_table(runs))
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def test_a_row_shows_a_run() -> None:
    text = render([RUN], terminal=True)
    for part in ("article", "3", "running", "25%", "5,000", "0:30", "−123.4", "1 running"):
        assert part in text


def test_running_runs_come_first() -> None:
    waiting = [RunStatus("w", seed, "waiting") for seed in range(100)]
    text = render([*waiting, RUN], terminal=True)
    assert "article" in text
    assert f"{101 - MAX_ROWS} more runs not shown" in text


@pytest.mark.parametrize(
    ("seconds", "text"), [(None, ""), (0, "0:00"), (59.6, "1:00"), (3600 * 3 + 60, "3:01:00")]
)
def test_durations_are_short(seconds: float | None, text: str) -> None:
    assert format_duration(seconds) == text


def test_without_a_terminal_progress_is_plain_lines() -> None:
    console = Console(file=io.StringIO(), force_terminal=False, width=40)
    old = RunStatus("default", 0, "done", seconds=12, evaluated_return=200.0)
    done = RunStatus("article", 3, "done", seconds=12, evaluated_return=-100.0)
    failed = RunStatus("article", 3, "failed", failure="Traceback\nValueError: no")
    last = follow_progress([[old, RUN], [old, RUN], [old, done], [old, failed]], console)
    assert last == [old, failed]
    assert console.file.getvalue().splitlines() == [  # type: ignore[attr-defined]
        "default/0: done after 0:12, environment return 200.0 (already finished)",
        "article/3: running",
        "article/3: done after 0:12, environment return −100.0",
        "article/3: failed: ValueError: no",
    ]
