from __future__ import annotations

import io
import re
from dataclasses import replace

import pytest
from rich.console import Console

from shaperun.cli.progress import MAX_ROWS, follow_progress, format_duration, print_runs
from shaperun.runs.status import STARTING, RunStatus, estimate_seconds_left

RUN = RunStatus(
    "article",
    3,
    "running",
    50_000,
    200_000,
    10.0,
    10.0,
    phase="training",
    training_return=-123.4,
)


def render(runs: list[RunStatus], *, terminal: bool) -> str:
    console = Console(file=io.StringIO(), width=100, force_terminal=terminal, color_system=None)
    print_runs(runs, console)
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def test_a_row_shows_a_run() -> None:
    text = render([RUN], terminal=True)
    for part in ("article", "3", "running", "25%", "5,000", "0:30", "−123", "1 running"):
        assert part in text


def test_small_returns_keep_their_digits() -> None:
    tiny = [replace(RUN, training_return=value) for value in (0.000236, -0.000031)]
    assert re.findall(r"−?0\.\d+", render(tiny, terminal=True)) == ["0.000236", "−0.000031"]
    console = Console(file=io.StringIO(), force_terminal=False)
    follow_progress([[replace(tiny[0], state="done")]], console)
    assert "environment return 0.000236" in console.file.getvalue()  # type: ignore[attr-defined]


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


def test_a_run_without_progress_yet_is_starting() -> None:
    runs = [
        RunStatus("a", seed, "waiting", phase=STARTING if seed < 2 else "") for seed in range(9)
    ]
    assert "2 starting, 7 waiting" in render(runs, terminal=True)


def test_a_terminal_shows_the_columns_that_fit() -> None:
    console = Console(
        file=io.StringIO(), width=50, height=24, force_terminal=True, color_system=None
    )
    follow_progress([[RUN]], console)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "0:30" in text
    assert "…" not in text


def test_without_a_terminal_progress_is_plain_lines() -> None:
    console = Console(file=io.StringIO(), force_terminal=False, width=40)
    old = RunStatus("default", 0, "done", seconds=12, evaluated_return=200.0)
    half = RunStatus("article", 3, "running", 55, 100, 11.0, evaluated_return=-1.0)
    done = RunStatus("article", 3, "done", 100, 100, seconds=12, evaluated_return=-100.0)
    failed = RunStatus("article", 3, "failed", failure="Traceback\nValueError: no")
    runs = [RUN, RUN, half, done, failed]
    last = follow_progress([[old, run] for run in runs], console, workers=1)
    assert last == [old, failed]
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert [tuple(line.split("  ·  ")) for line in lines] == [
        (
            "default/0: done after 0:12, environment return 200",
            "1 of 2 runs ended, 62%, 0:30 left",
        ),
        ("article/3: started", "1 of 2 runs ended, 62%, 0:30 left"),
        (
            "article/3: 55%, 5 steps/s, 0:09 left, return −1",
            "1 of 2 runs ended, 77%, 0:09 left",
        ),
        (
            "article/3: done after 0:12, environment return −100",
            "2 of 2 runs ended, 100%, 0:00 left",
        ),
        ("article/3: failed: ValueError: no", "2 of 2 runs ended, 100%"),
    ]


def test_evaluations_to_come_are_part_of_the_time_left() -> None:
    trained = replace(
        RUN, timesteps=200_000, seconds=50.0, evaluation_seconds=10.0, evaluation_seconds_left=50.0
    )
    assert trained.steps_per_second == 5_000
    assert (trained.seconds_left, trained.completed_share) == (50.0, 0.5)
    late = replace(trained, unreported_seconds=20.0)
    assert (late.seconds_left, late.completed_share) == (30.0, 0.7)
    assert replace(trained, unreported_seconds=99.0).completed_share < 1
    assert replace(RUN, timesteps=1_999).seconds_left is None  # too early to tell


@pytest.mark.parametrize(("waiting", "workers", "seconds"), [(0, 2, 30), (1, 1, 70), (3, 2, 80)])
def test_the_time_left_is_of_all_runs(waiting: int, workers: int, seconds: float) -> None:
    """A run takes 40 seconds, of which 30 are left of the one that is running."""
    runs = [RUN, *(RunStatus("article", seed, "waiting") for seed in range(waiting))]
    assert estimate_seconds_left(runs, workers) == seconds


def test_a_run_that_just_started_takes_as_long_as_others() -> None:
    started = RunStatus("article", 7, "running", timesteps=10, total_timesteps=4_000)
    assert started.seconds_left is None
    assert estimate_seconds_left([replace(RUN, state="done"), started], 1) == 40


def test_runs_in_lockstep_share_a_worker() -> None:
    cohort = [replace(RUN, seed=seed, core_seconds=2.5) for seed in range(4)]
    waiting = [RunStatus("article", seed, "waiting") for seed in range(4, 8)]
    assert estimate_seconds_left(cohort) == estimate_seconds_left(cohort, 1) == 30
    assert estimate_seconds_left([*cohort, *waiting]) == 70
    assert estimate_seconds_left(waiting, 2) is None
