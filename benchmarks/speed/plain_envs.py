"""shaperun as it is but for its training environments.

python -m benchmarks.speed.plain_envs bare  OUT ARGUMENTS…    neither kernel nor recorder
python -m benchmarks.speed.plain_envs timed OUT ARGUMENTS…    both, timed; seconds go to OUT

`bare` leaves everything between gymnasium and stable-baselines3 as it is but the shaping, recording
included: that and nothing else is missing.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from time import perf_counter

import numpy as np

from shaperun.cli.main import main as shaperun
from shaperun.envs.base import Array
from shaperun.training import run
from shaperun.training.envs import TrainingEnvs


class BareEnvs(TrainingEnvs):
    """Training environments without kernel and recorder."""

    def shaped(self) -> Array:
        """The environment's own rewards (T, N)."""
        taken, self._taken = self._taken, []
        return np.stack([step.env_reward for _, step in taken])


class TimedEnvs(TrainingEnvs):
    """Training environments that note what shaping and recording take."""

    spent = 0.0

    def shaped(self) -> Array:
        """Shape and record with a stopwatch."""
        start = perf_counter()
        rewards = super().shaped()
        TimedEnvs.spent += perf_counter() - start
        return rewards


def main() -> None:
    """Run shaperun's command line with the environments exchanged."""
    kind, out, *arguments = sys.argv[1:]
    exchanged = {"bare": BareEnvs, "timed": TimedEnvs}[kind]
    assert run.TrainingEnvs is TrainingEnvs  # type: ignore[attr-defined]  # noqa: S101
    setattr(run, "TrainingEnvs", exchanged)  # noqa: B010 (mypy refuses the plain assignment)
    sys.argv = ["shaperun", *arguments]
    try:
        shaperun()
    finally:
        Path(out).write_text(json.dumps(TimedEnvs.spent), encoding="utf-8")


if __name__ == "__main__":
    main()
