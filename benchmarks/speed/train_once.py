"""One training of each side of a comparison, in a separate process, timed by a clock."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.speed.measure import Command, Row, run
from benchmarks.speed.study import HYPERPARAMETERS, N_ENVS, ROLLOUT, write_study
from benchmarks.speed.venvs import RL_ZOO3, SBX

PYTHON = Path(sys.executable)
INLINE: Command = ["--executor", "inline", "--quiet"]  # the clock is in the process that trains

Timing = dict[str, Any]
"""Output of a clock: `seconds` of learning, environment `steps`, and more in lockstep."""


def train_sb3(rollouts: int, seed: int) -> Timing:
    """Train one run by `shaperun train` with stable-baselines3's loop."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        study = write_study(folder, rollouts=rollouts, seeds=[seed], engine="sb3")
        train: Command = ["shaperun", "train", study, "--results", folder / "results", *INLINE]
        return read_clock(PYTHON, folder, "ppo_clock", train)


def train_cohort(
    runs: int, rollouts: int, number: int = 0, *, backend: str = "gymnasium", mode: str = "time"
) -> Timing:
    """Train a cohort by `shaperun train` in lockstep, in a mode of `lockstep_clock`.

    Each round, by number, has other seeds.
    """
    with tempfile.TemporaryDirectory() as name:
        folder, seeds = Path(name), list(range(number * runs, (number + 1) * runs))
        study = write_study(
            folder, rollouts=rollouts, seeds=seeds, engine="lockstep", backend=backend
        )
        train: Command = [mode, "train", study, "--results", folder / "results", *INLINE]
        return read_clock(PYTHON, folder, "lockstep_clock", train)


def train_rl_zoo3(rollouts: int, seed: int) -> Timing:
    """Train one run by rl_zoo3's `train`, without evaluation."""
    hyperparameters = {"n_envs": N_ENVS, **HYPERPARAMETERS}
    command = ["rl_zoo3.train", "--algo", "ppo", "--env", "LunarLander-v3", "--eval-freq", "-1"]
    command += ["--n-timesteps", str(int(rollouts * ROLLOUT)), "--seed", str(seed)]
    command += ["--num-threads", "1", "--device", "cpu"]
    command += ["--hyperparams", *(f"{key}:{value}" for key, value in hyperparameters.items())]
    with tempfile.TemporaryDirectory() as name:
        logs: Command = ["--log-folder", name]
        return read_clock(RL_ZOO3.python(), Path(name), "ppo_clock", [*command, *logs])


def train_sbx(rollouts: int, seed: int) -> Timing:
    """Train one run by SBX's PPO, without evaluation."""
    with tempfile.TemporaryDirectory() as name:
        return read_clock(SBX.python(), Path(name), "sbx_clock", [str(rollouts), str(seed)])


def read_clock(python: Path, folder: Path, clock: str, arguments: Command) -> Timing:
    """Run a clock and return its output, which is missing if the program has not learned."""
    out = folder / "timing.json"
    run([python, "-m", f"benchmarks.speed.{clock}", out, *arguments])
    timing: Timing = json.loads(out.read_text(encoding="utf-8"))
    return timing


def steps_per_second(timing: Timing) -> float:
    """Return environment steps per second of learning, of all runs together."""
    return float(timing["steps"] / timing["seconds"])


def speed_row(label: str, speeds: list[float]) -> Row:
    """Return a row of environment steps per second."""
    return Row(label, speeds, "{:,.0f}", "steps/s")
