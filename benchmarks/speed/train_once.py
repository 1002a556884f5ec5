"""Each side of a comparison trains once, in a process of its own, and says what its clock saw."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.speed.measure import Command, run
from benchmarks.speed.study import HYPERPARAMETERS, N_ENVS, ROLLOUT, write_study
from benchmarks.speed.venvs import RL_ZOO3, SBX

OURS = Path(sys.executable)
INLINE: Command = ["--executor", "inline", "--quiet"]  # the clock is in the process that trains
LOCKSTEP_CLOCK = "benchmarks.speed.lockstep_clock"

Noted = dict[str, Any]


def single(rollouts: int, seed: int) -> Noted:
    """One run by `shaperun train` with stable-baselines3's own loop."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        study = write_study(folder, rollouts=rollouts, seeds=[seed], engine="sb3")
        train: Command = ["shaperun", "train", study, "--results", folder / "results", *INLINE]
        return note(OURS, folder, "benchmarks.speed.ppo_clock", train)


def cohort(
    runs: int,
    rollouts: int,
    number: int = 0,
    *,
    backend: str = "gymnasium",
    clock: str = LOCKSTEP_CLOCK,
) -> Noted:
    """So many runs by `shaperun train` in lockstep.

    Args:
        runs: the size of the cohort.
        rollouts: of each run.
        number: of the round; each has other seeds.
        backend: whose environments.
        clock: a module that runs shaperun's command line, and notes what it saw.
    """
    with tempfile.TemporaryDirectory() as name:
        folder, seeds = Path(name), list(range(number * runs, (number + 1) * runs))
        study = write_study(
            folder, rollouts=rollouts, seeds=seeds, engine="lockstep", backend=backend
        )
        train: Command = ["train", study, "--results", folder / "results", *INLINE]
        return note(OURS, folder, clock, train)


def zoo(rollouts: int, seed: int) -> Noted:
    """One run by rl_zoo3's own `train`, with evaluation off."""
    hyperparameters = {"n_envs": N_ENVS, **HYPERPARAMETERS}
    command = ["rl_zoo3.train", "--algo", "ppo", "--env", "LunarLander-v3", "--eval-freq", "-1"]
    command += ["--n-timesteps", str(int(rollouts * ROLLOUT)), "--seed", str(seed)]
    command += ["--num-threads", "1", "--device", "cpu"]
    command += ["--hyperparams", *(f"{key}:{value}" for key, value in hyperparameters.items())]
    with tempfile.TemporaryDirectory() as name:
        logs: Command = ["--log-folder", name]
        return note(RL_ZOO3.python(), Path(name), "benchmarks.speed.ppo_clock", [*command, *logs])


def sbx(rollouts: int, seed: int) -> Noted:
    """One run of SBX's PPO, with evaluation off."""
    with tempfile.TemporaryDirectory() as name:
        arguments = [str(rollouts), str(seed)]
        return note(SBX.python(), Path(name), "benchmarks.speed.sbx_clock", arguments)


def note(python: Path, folder: Path, clock: str, arguments: Command) -> Noted:
    """What a clock notes of one program; one that does not learn leaves nothing behind."""
    out = folder / "noted.json"
    run([python, "-m", clock, out, *arguments])
    noted: Noted = json.loads(out.read_text(encoding="utf-8"))
    return noted


def steps_per_second(noted: Noted) -> float:
    """Environment steps a second while learning, of all runs together."""
    return float(noted["steps"] / noted["seconds"])
