"""Cost of shaping and recording in stable-baselines3's loop.

python -m benchmarks.speed.shaping VARIANT OUT ARGUMENTS…

runs shaperun's command line with `TrainingEnvs.shaped` changed, and writes its seconds. Variants:
`timed`, and `bare`, which neither shapes nor records; all else is the same.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from benchmarks.speed.measure import Command, Row, measure_in_turn, on_cores
from benchmarks.speed.study import N_ENVS, write_study
from benchmarks.speed.train_once import INLINE, PYTHON, Timing, read_clock


def shaping_rows(*, quick: bool) -> list[Row]:
    """Measure the share of a training step: by stopwatch, and as a difference of two trainings."""
    rounds, rollouts = (1, 2) if quick else (5, 4)
    shares: list[float] = []
    micros: list[float] = []

    def train_shaped(number: int) -> float:
        timing = train_variant("timed", rollouts, number)
        shares.append(100 * timing["shaping"] / timing["seconds"])
        micros.append(1e6 * timing["shaping"] / (timing["steps"] / N_ENVS))
        return float(timing["seconds"])

    def train_bare(number: int) -> float:
        return float(train_variant("bare", rollouts, number)["seconds"])

    with on_cores(1):
        times = measure_in_turn({"shaped": train_shaped, "bare": train_bare}, rounds, "s")
    differences = [100 * (1 - b / a) for a, b in zip(*times.values(), strict=True)]
    return [
        Row("shaping's share, by stopwatch", shares, "{:.1f}", "%", at_most=5.0),
        Row("shaping's share, by difference", differences, "{:.1f}", "%", at_most=5.0),
        Row(f"shaping, {N_ENVS} environments, per step", micros, "{:.0f}", "µs"),
    ]


def train_variant(variant: str, rollouts: int, seed: int) -> Timing:
    """Train one run; return its timing, with the seconds of `shaping` and recording."""
    with tempfile.TemporaryDirectory() as name:
        folder, stopwatch = Path(name), Path(name, "stopwatch.json")
        study = write_study(folder, rollouts=rollouts, seeds=[seed], engine="sb3")
        train: Command = ["train", study, "--results", folder / "results", *INLINE]
        program: Command = ["benchmarks.speed.shaping", variant, stopwatch, *train]
        timing = read_clock(PYTHON, folder, "ppo_clock", program)
        return {**timing, "shaping": json.loads(stopwatch.read_text(encoding="utf-8"))}


def main() -> None:
    """Run shaperun's command line with another `TrainingEnvs.shape_rewards`."""
    from shaperun.cli.main import main as shaperun
    from shaperun.training.envs import TrainingEnvs

    variant, out, *arguments = sys.argv[1:]
    shaped, seconds = TrainingEnvs.shape_rewards, 0.0

    def timed(self: TrainingEnvs) -> Any:
        nonlocal seconds
        start = perf_counter()
        rewards = shaped(self)
        seconds += perf_counter() - start
        return rewards

    def bare(self: TrainingEnvs) -> Any:
        pending, self._pending = self._pending, []
        return np.stack([step.env_reward for _, step in pending])

    setattr(TrainingEnvs, "shape_rewards", {"timed": timed, "bare": bare}[variant])  # noqa: B010 (for mypy)
    sys.argv = ["shaperun", *arguments]
    try:
        shaperun()
    finally:
        Path(out).write_text(json.dumps(seconds), encoding="utf-8")


if __name__ == "__main__":
    main()
