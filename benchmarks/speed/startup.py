"""What a user waits for before anything happens, beside an empty typer application."""

from __future__ import annotations

import sys
import tempfile

from benchmarks.speed.measure import (
    ROOT,
    SHAPERUN,
    Command,
    Pair,
    Row,
    alternate,
    on_cores,
    ratios,
    run,
    seconds,
)

EMPTY: Command = [sys.executable, ROOT / "benchmarks" / "empty_app.py", "--help"]
HELP: Command = [SHAPERUN, "--help"]
DRY_RUN: Command = [SHAPERUN, "train", ROOT / "experiments" / "article.yaml", "--dry-run"]


def rows(*, quick: bool) -> list[Row]:
    """Wall times of whole processes, as ratios to the empty application's."""
    rounds = 5 if quick else 21
    with tempfile.TemporaryDirectory() as results, on_cores(1):
        shown = against_empty(HELP, rounds)
        listed = against_empty([*DRY_RUN, "--results", results], rounds)
    return [
        Row("start-up, --help / empty app", ratios(shown), at_most=3.0),
        Row("start-up, dry run / empty app", ratios(listed), at_most=3.0),
        Row("start-up, --help", milliseconds(shown, 0), "{:.0f}", "ms"),
        Row("start-up, dry run", milliseconds(listed, 0), "{:.0f}", "ms"),
        Row("start-up, empty app", milliseconds([*shown, *listed], 1), "{:.0f}", "ms"),
    ]


def against_empty(command: Command, rounds: int) -> list[Pair]:
    """Pairs of wall times; the first, which fills caches, is dropped."""
    return alternate(
        lambda: seconds(lambda: run(command)), lambda: seconds(lambda: run(EMPTY)), rounds + 1
    )[1:]


def milliseconds(pairs: list[Pair], side: int) -> list[float]:
    """One side of the pairs."""
    return [1000 * pair[side] for pair in pairs]
