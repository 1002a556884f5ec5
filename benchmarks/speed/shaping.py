"""What shaping and recording cost: training with both beside the same training without either."""

from __future__ import annotations

import json
import sys
import tempfile
from itertools import count
from pathlib import Path

from benchmarks.speed.measure import Command, Row, alternate, on_cores, run
from benchmarks.speed.study import N_ENVS, write_study


def rows(*, quick: bool) -> list[Row]:
    """The share of a training step: as a difference of two trainings, and by a stopwatch."""
    rounds, rollouts = (1, 2) if quick else (5, 4)
    share: list[float] = []
    micros: list[float] = []
    with tempfile.TemporaryDirectory() as name, on_cores(1):
        folder, shaped, bare = Path(name), count(), count()

        def with_shaping() -> float:
            whole, inside, total = train(folder, "timed", rollouts, next(shaped))
            share.append(100 * inside / whole)
            micros.append(1e6 * inside / (total / N_ENVS))
            return whole

        def without() -> float:
            return train(folder, "bare", rollouts, next(bare))[0]

        pairs = alternate(with_shaping, without, rounds, "s")
    difference = [100 * (1 - b / a) for a, b in pairs]
    return [
        Row("shaping's share, by stopwatch", share, "{:.1f}", "%", at_most=5.0),
        Row("shaping's share, by difference", difference, "{:.1f}", "%", at_most=5.0),
        Row(f"shaping, {N_ENVS} copies, a step", micros, "{:.0f}", "µs"),
    ]


def train(folder: Path, kind: str, rollouts: int, seed: int) -> tuple[float, float, int]:
    """Seconds of learning, seconds of shaping and recording in it, environment steps."""
    study = write_study(folder, rollouts=rollouts, seeds=[seed], engine="sb3")
    clock, stopwatch = folder / "clock.json", folder / "stopwatch.json"
    options: Command = ["--results", folder / kind, "--executor", "inline", "--quiet"]
    variant: Command = ["benchmarks.speed.plain_envs", kind, stopwatch, "train", study, *options]
    run([sys.executable, "-m", "benchmarks.speed.ppo_clock", clock, *variant])
    noted = json.loads(clock.read_text(encoding="utf-8"))
    clock.unlink()
    return noted["seconds"], json.loads(stopwatch.read_text(encoding="utf-8")), noted["steps"]
