"""Training throughput beside rl_zoo3's, at the same tuned hyperparameters."""

from __future__ import annotations

import json
import sys
import tempfile
from itertools import count
from pathlib import Path
from venv import EnvBuilder

from benchmarks.measure import ROOT, Command, Row, alternate, on_cores, ratios, run, tell
from benchmarks.study import HYPERPARAMETERS, N_ENVS, ROLLOUT, write_study

RL_ZOO3 = "rl_zoo3==2.9.2"
VENV = ROOT / "benchmarks" / ".venvs" / "rl_zoo3"
# What is run while the clock runs has our versions there; the rest takes what rl_zoo3 asks for
# (one of its dependencies refuses our python-dateutil).
SHARED = ("torch", "numpy", "gymnasium", "stable_baselines3", "sb3_contrib", "Box2D", "cloudpickle")


def rows(*, quick: bool) -> list[Row]:
    """Steps a second while learning, as a ratio to rl_zoo3's."""
    rounds, rollouts = (1, 2) if quick else (5, 4)
    python = rl_zoo3()
    with tempfile.TemporaryDirectory() as name, on_cores(1):
        folder, ours, theirs = Path(name), count(), count()
        pairs = alternate(
            lambda: shaperun(folder, rollouts, next(ours)),
            lambda: zoo(python, folder, rollouts, next(theirs)),
            rounds,
            "steps/s",
        )
    return [
        Row("training, shaperun / rl_zoo3", ratios(pairs), at_least=1.0),
        Row("training, shaperun", [a for a, _ in pairs], "{:,.0f}", "steps/s"),
        Row("training, rl_zoo3", [b for _, b in pairs], "{:,.0f}", "steps/s"),
    ]


def shaperun(folder: Path, rollouts: int, seed: int) -> float:
    """Steps a second of one run by the `train` command."""
    study = write_study(folder, rollouts=rollouts, seeds=[seed])
    options: Command = ["--results", folder / "results", "--executor", "inline", "--quiet"]
    return steps_per_second(Path(sys.executable), folder, ["shaperun", "train", study, *options])


def zoo(python: Path, folder: Path, rollouts: int, seed: int) -> float:
    """Steps a second of one run by rl_zoo3's `train`, with evaluation off."""
    hyperparameters = {"n_envs": N_ENVS, **HYPERPARAMETERS}
    command = ["rl_zoo3.train", "--algo", "ppo", "--env", "LunarLander-v3", "--eval-freq", "-1"]
    command += ["--n-timesteps", str(int(rollouts * ROLLOUT)), "--seed", str(seed)]
    command += ["--num-threads", "1", "--device", "cpu", "--log-folder", str(folder / "rl_zoo3")]
    command += ["--hyperparams", *(f"{key}:{value}" for key, value in hyperparameters.items())]
    return steps_per_second(python, folder, command)


def steps_per_second(python: Path, folder: Path, command: Command) -> float:
    """What the clock says of one program."""
    out = folder / "clock.json"
    run([python, "-m", "benchmarks.clock", out, *command])
    noted = json.loads(out.read_text(encoding="utf-8"))
    out.unlink()  # a program that does not learn must not pass with the time of the last one
    return float(noted["steps"] / noted["seconds"])


def rl_zoo3() -> Path:
    """The Python of rl_zoo3's own environment, which is made if it is not there."""
    python, stamp = VENV / "bin" / "python", VENV / "installed"
    shared = pins()
    wanted = "\n".join([RL_ZOO3, *shared])
    if stamp.exists() and stamp.read_text(encoding="utf-8") == wanted:
        return python
    tell(f"installing {RL_ZOO3} into {VENV.relative_to(ROOT)}, once")
    EnvBuilder(clear=True, with_pip=True).create(VENV)
    quiet = ["--quiet", "--disable-pip-version-check"]
    run([python, "-m", "pip", "install", *quiet, RL_ZOO3, "gymnasium[box2d]", *shared])
    stamp.write_text(wanted, encoding="utf-8")  # last, so a broken installation is tried again
    return python


def pins() -> list[str]:
    """Our versions of what both sides share."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line.partition("==")[0] in SHARED]
