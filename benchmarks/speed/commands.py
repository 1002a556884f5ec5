"""Wall times of whole commands, as a user waits for them."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from time import perf_counter

import yaml

from benchmarks.doc_tables import ROOT, log
from benchmarks.speed.measure import (
    ONE_THREAD,
    SHAPERUN,
    Command,
    Row,
    measure_in_turn,
    on_cores,
    ratios,
    run,
    seconds,
)
from benchmarks.speed.study import write_study
from shaperun.runs.process_pool import count_available_cores

ARTICLE = ROOT / "experiments" / "article.yaml"
TINY = ["--set", "training.total_timesteps=8_192", "--set", "evaluation.every=8_192"]
RUNS = 4
EXTRA_ARMS = 10
# The smallest typer application with two commands.
EMPTY_APP = """
import typer
app = typer.Typer()
@app.command()
def one(option: int = 0) -> None:
    "Do nothing."
@app.command()
def other() -> None:
    "Do nothing either."
app()
"""


def article_rows(*, quick: bool) -> list[Row]:
    """Measure the article's study with two workers, evaluations included, by engine."""
    rounds, changes = (1, TINY) if quick else (2, [])
    sides = {
        "sb3": lambda _: _train(ARTICLE, 2, *changes, "--set", "training.engine=sb3"),
        "lockstep": lambda _: _train(ARTICLE, 2, *changes),
    }
    with on_cores(2):
        times = measure_in_turn(sides, rounds, "s")
    study = "article, tiny" if quick else "article"
    return [
        Row(f"{study}, sb3 / lockstep", ratios(*times.values())),
        *(Row(f"{study}, {engine}", times[engine], "{:.1f}", "s") for engine in times),
    ]


def workers_rows(*, quick: bool) -> list[Row]:
    """Measure the same study with one and with two workers, on the same two cores."""
    if count_available_cores() < 2:
        log("  skipped: needs two cores")
        return []
    rounds, rollouts = (1, 1) if quick else (2, 6)
    with tempfile.TemporaryDirectory() as folder, on_cores(2):
        seeds = list(range(RUNS))
        study = write_study(Path(folder), rollouts=rollouts, seeds=seeds, engine="sb3")
        sides = {"one": lambda _: _train(study, 1), "two": lambda _: _train(study, 2)}
        times = measure_in_turn(sides, rounds, "s")
    return [
        Row("two workers / one", ratios(*times.values()), at_least=1.8),
        Row(f"{RUNS} runs, one worker", times["one"], "{:.1f}", "s"),
        Row(f"{RUNS} runs, two workers", times["two"], "{:.1f}", "s"),
    ]


def _train(study: Path, workers: int, *options: str) -> float:
    """Return the seconds of `shaperun train` with an empty results folder."""
    with tempfile.TemporaryDirectory() as results:
        command: Command = [SHAPERUN, "train", study, "--results", results, "--quiet"]
        return seconds(lambda: run([*command, "--workers", str(workers), *options]))


def startup_rows(*, quick: bool) -> list[Row]:
    """Measure `--help` and a dry run, each in turn with the empty application."""
    rounds, empty, times, ratio_rows = 5 if quick else 21, [], [], []
    with tempfile.TemporaryDirectory() as results, on_cores(1):
        commands: dict[str, Command] = {
            "--help": [SHAPERUN, "--help"],
            "dry run": [SHAPERUN, "train", ARTICLE, "--dry-run", "--results", results],
        }
        for name, command in commands.items():
            sides = {
                "ours": partial(_milliseconds, command),
                "empty": partial(_milliseconds, [sys.executable, "-c", EMPTY_APP, "--help"]),
            }
            # The first round fills caches and does not count.
            values = [column[1:] for column in measure_in_turn(sides, rounds + 1).values()]
            ratio_rows.append(Row(f"start-up, {name} / empty app", ratios(*values), at_most=3.0))
            times.append(Row(f"start-up, {name}", values[0], "{:.0f}", "ms"))
            empty += values[1]
    return [*ratio_rows, *times, Row("start-up, empty app", empty, "{:.0f}", "ms")]


def _milliseconds(command: Command, _: int) -> float:
    return 1000 * seconds(lambda: run(command))


def check_rows(*, quick: bool) -> list[Row]:
    """Measure `shaperun check` on one core: the article's study, and with ten more arms."""
    study = yaml.safe_load(ARTICLE.read_text(encoding="utf-8"))
    arm = study["arms"]["article"]
    more = {f"more{n}": {**arm, "scale": 1 / n} for n in range(1, EXTRA_ARMS + 1)}
    with tempfile.TemporaryDirectory() as folder, on_cores(1):
        larger = Path(folder) / "larger.yaml"
        larger.write_text(yaml.safe_dump({**study, "arms": {**study["arms"], **more}}))

        def check(file: Path) -> float:
            return seconds(lambda: run([SHAPERUN, "check", file, "--json", "--results", folder]))

        sides = {"article": lambda _: check(ARTICLE), "larger": lambda _: check(larger)}
        article, longer = measure_in_turn(sides, 2 if quick else 7).values()
    per_arm = [1000 * (b - a) / EXTRA_ARMS for a, b in zip(article, longer, strict=True)]
    return [
        Row("check, the article's study", article, "{:.1f}", "s", at_most=10.0),
        Row("check, per additional arm", per_arm, "{:.0f}", "ms"),
    ]


def compare_rows(*, quick: bool) -> list[Row]:
    """Measure wall time and peak memory of `shaperun compare` on one core."""
    from benchmarks.speed import fake_runs

    seeds = 5 if quick else fake_runs.SEEDS
    runs = f"{fake_runs.ARMS * seeds:,} runs"
    with tempfile.TemporaryDirectory() as folder, on_cores(1):
        results = Path(folder)
        log(f"  writing {runs}, which takes longer than comparing them")
        study = fake_runs.write_study(results, 5, seeds=seeds).path.name
        rounds = [_compare(study, results) for _ in range(1 if quick else 3)]
    most = None if quick else 5.0  # the target is for 1,000 runs
    answers, ends, memory = map(list, zip(*rounds, strict=True))
    return [
        Row(f"compare, {runs}: to the answer", answers, "{:.1f}", "s", at_most=most),
        Row(f"compare, {runs}: to the last file", ends, "{:.1f}", "s"),
        Row("compare, peak memory", memory, "{:,.0f}", "MB", at_most=1000.0),
    ]


def _compare(study: str, results: Path) -> tuple[float, float, float]:
    """Return seconds to the answer and to the end, and peak resident memory in MB.

    Raises:
        RuntimeError: the command failed.
    """
    command: Command = [SHAPERUN, "compare", study, "--json", "--results", results]
    environment = os.environ | ONE_THREAD | {"POLARS_MAX_THREADS": "1"}
    start = perf_counter()
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE)
    assert process.stdout  # noqa: S101 (for the type checker)
    process.stdout.read(1)
    answer = perf_counter() - start
    process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    duration = perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)  # the process cannot be waited for again
    if process.returncode:
        raise RuntimeError(f"compare exited with status {process.returncode}")
    return answer, duration, usage.ru_maxrss / 1000  # kilobytes on Linux
