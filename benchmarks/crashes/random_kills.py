"""Trains a study by its real command while workers and drivers are killed at random."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.crashes import processes
from benchmarks.crashes.comparison import differences, leftovers, outcome
from shaperun.common.fault_injection import CHECKPOINT_SECONDS
from shaperun.common.files import is_temporary
from shaperun.runs.run_folder import RunFolder
from shaperun.runs.study_folder import StudyFolder

WORKERS = 2
STUDY = {
    "study": "storm",
    "environment": {"id": "CartPole-v1"},
    "training": {
        "total_timesteps": 5_000,
        "n_envs": 4,
        "normalize": {"observations": True},
        "hyperparameters": {"n_steps": 100, "batch_size": 100, "n_epochs": 4},
    },
    "seeds": 3,
    "evaluation": {"every": 1_000, "episodes": 3, "final_episodes": 10},
    "arms": {
        "default": {},
        "guided": {"mode": "potential", "weights": {"upright": 1, "centred": 1}},
    },
}
RUNS = [(arm, seed) for arm in ("default", "guided") for seed in range(3)]

KILLS = 3  # on average, in the time that the study takes undisturbed
DRIVERS = 0.2  # the share of kills that hit the driver
CHECKPOINTS = 0.3  # seconds between them: more of them, more chances to hit one
GRACE = 10.0  # seconds in which whatever belongs to a killed driver must have ended
GIVEN_UP = 300.0  # seconds after which a round is not waited for any longer


@dataclass
class Tally:
    """What happened in one round or in many, and what came of it."""

    rounds: int = 0
    runs: int = 0
    killed_workers: int = 0
    killed_drivers: int = 0
    commands: int = 0
    lost_runs: int = 0
    differing: int = 0
    processes: int = 0
    left_behind: int = 0
    seconds: float = 0.0

    def add(self, other: Tally) -> None:
        """Count another one in."""
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)

    @property
    def rows(self) -> list[list[object]]:
        """What was counted, in words."""
        return [
            ["rounds: studies trained to their end", self.rounds],
            ["runs", self.runs],
            ["commands given", self.commands],
            ["workers killed", self.killed_workers],
            ["drivers killed", self.killed_drivers],
            ["runs lost", self.lost_runs],
            ["files that differ", self.differing],
            ["processes that outlived their driver", self.processes],
            ["files left behind", self.left_behind],
        ]

    @property
    def harmless(self) -> bool:
        """Whether the kills did nothing but take time."""
        return not (self.lost_runs or self.differing or self.processes or self.left_behind)


class Storm:
    """One study, again and again, each time in a fresh folder."""

    def __init__(self, folder: Path, seed: int) -> None:
        self._folder, self._rng = folder, np.random.default_rng(seed)
        self._study = folder / "storm.yaml"
        self._study.write_text(json.dumps(STUDY), encoding="utf-8")  # JSON is YAML
        calm = folder / "calm"
        began = time.monotonic()
        status = self._command(calm, {}).wait()
        if status:
            raise RuntimeError(f"undisturbed, the study ended with {status}")
        self.undisturbed = time.monotonic() - began
        self._expected = {run: outcome(_run(calm, *run)) for run in RUNS}

    def round(self, number: int) -> Tally:
        """Train the study to its end, whatever it takes, and compare it with the calm one."""
        results = self._folder / str(number)
        began, tally = time.monotonic(), Tally(rounds=1, runs=len(RUNS))
        status = 1
        while status and time.monotonic() - began < GIVEN_UP:
            tally.commands += 1
            status = self._under_fire(results, tally)
        for run in RUNS:
            folder = _run(results, *run)
            tally.lost_runs += not folder.is_done()
            tally.differing += len(differences(folder, self._expected[run]))
        tally.left_behind = _left_behind(results)
        tally.seconds = time.monotonic() - began
        if tally.harmless:
            shutil.rmtree(results)
        return tally

    def _command(self, results: Path, environment: dict[str, str]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [
                *(sys.executable, "-m", "shaperun", "train", self._study, "--quiet"),
                *("--results", results, "--workers", str(WORKERS)),
            ],
            env=os.environ | environment,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def _under_fire(self, results: Path, tally: Tally) -> int:
        """One command; its exit status, which is not 0 where it was killed or runs failed."""
        with self._command(results, {CHECKPOINT_SECONDS: str(CHECKPOINTS)}) as driver:
            while driver.poll() is None:
                try:
                    driver.wait(float(self._rng.exponential(self.undisturbed / KILLS)))
                except subprocess.TimeoutExpired:
                    self._strike(driver.pid, tally)
        tally.processes += processes.survivors(driver.pid, GRACE)
        return driver.returncode

    def _strike(self, driver: int, tally: Tally) -> None:
        """Kill the driver or one of its workers, if there are any yet."""
        if self._rng.random() < DRIVERS:
            tally.killed_drivers += processes.kill(driver)
            return
        workers = processes.workers(driver)
        if workers:
            tally.killed_workers += processes.kill(int(self._rng.choice(workers)))


def _run(results: Path, arm: str, seed: int) -> RunFolder:
    return StudyFolder(results / str(STUDY["study"])).run(arm, seed)


def _left_behind(results: Path) -> int:
    """Files that a finished study has no use for, wherever they are in it."""
    found = {path for path in results.rglob("*") if is_temporary(path)}
    for run in RUNS:
        folder = _run(results, *run)
        found |= {folder.path / name for name in leftovers(folder)}
    return len(found)
