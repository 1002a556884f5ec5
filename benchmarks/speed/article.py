"""The whole of the article's study, run by run as it once was and in lockstep as it is now."""

from __future__ import annotations

import tempfile

from benchmarks.speed.measure import (
    ROOT,
    SHAPERUN,
    Command,
    Row,
    alternate,
    on_cores,
    ratios,
    run,
    seconds,
)

ARTICLE = ROOT / "experiments" / "article.yaml"
WORKERS = 2
TINY = ["--set", "training.total_timesteps=8_192", "--set", "evaluation.every=8_192"]


def rows(*, quick: bool) -> list[Row]:
    """Wall times of whole commands with two workers, evaluations included."""
    rounds, changes = (1, TINY) if quick else (2, [])
    with on_cores(WORKERS):
        pairs = alternate(
            lambda: _train([*changes, "--set", "training.engine=sb3"]),
            lambda: _train(changes),
            rounds,
            "s",
        )
    study = "article, tiny" if quick else "article"
    return [
        Row(f"{study}, sb3 / lockstep", ratios(pairs)),
        Row(f"{study}, sb3", [a for a, _ in pairs], "{:.1f}", "s"),
        Row(f"{study}, lockstep", [b for _, b in pairs], "{:.1f}", "s"),
    ]


def _train(changes: list[str]) -> float:
    with tempfile.TemporaryDirectory() as results:
        command: Command = [SHAPERUN, "train", ARTICLE, "--results", results, "--quiet", *changes]
        return seconds(lambda: run([*command, "--workers", str(WORKERS)]))
