"""A study trained by its real command, while workers and drivers are killed at random."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np

from benchmarks.crashes import processes
from benchmarks.crashes.comparison import (
    SURVIVORS,
    find_differences,
    find_leftovers,
    is_harmless,
    read_outcome,
)
from benchmarks.doc_tables import ROOT
from shaperun.common.files import is_temporary
from shaperun.runs.run_folder import RunFolder
from shaperun.runs.study_folder import StudyFolder

WORKERS = 2
STUDY = """
study: random-kills
environment: {id: CartPole-v1}
training:
  total_timesteps: 5000
  n_envs: 4
  normalize: {observations: true}
  hyperparameters: {n_steps: 100, batch_size: 100, n_epochs: 4}
seeds: 3
evaluation: {every: 1000, episodes: 3, final_episodes: 10}
arms:
  default: {}
  guided: {mode: potential, weights: {upright: 1, centred: 1}}
"""
RUNS = [(arm, seed) for arm in ("default", "guided") for seed in range(3)]
COUNTS = (
    *("rounds", "runs", "commands", "workers killed", "drivers killed"),
    *("runs not finished", "files that differ", SURVIVORS, "files left behind"),
)

KILLS = 3  # on average, within the time of the uninterrupted study
DRIVER_SHARE = 0.2  # of the kills; the others hit workers
FREQUENT_CHECKPOINTS = "benchmarks.crashes.frequent_checkpoints"
GRACE_SECONDS = 10.0  # within which all processes of a killed driver must end
MAX_ROUND_SECONDS = 300.0


class RandomKills:
    """One study that is trained again and again; `undisturbed` is its duration without kills."""

    def __init__(self, folder: Path, seed: int) -> None:
        self._folder, self._rng = folder, np.random.default_rng(seed)
        self._study = folder / "study.yaml"
        self._study.write_text(STUDY, encoding="utf-8")
        results = folder / "undisturbed"
        started = time.monotonic()
        status = self._start_command(results, "shaperun").wait()
        if status:
            raise RuntimeError(f"without kills, the study exited with status {status}")
        self.undisturbed = time.monotonic() - started
        self._expected = {run: read_outcome(_run_folder(results, *run)) for run in RUNS}

    def play_round(self, number: int) -> Counter[str]:
        """Repeat the command under kills until the study is trained; return the counts."""
        results = self._folder / str(number)
        started, counts = time.monotonic(), Counter({"rounds": 1, "runs": len(RUNS)})
        status = 1
        while status and time.monotonic() - started < MAX_ROUND_SECONDS:
            counts["commands"] += 1
            status = self._run_under_kills(results, counts)
        counts["seconds"] = round(time.monotonic() - started)
        for run in RUNS:
            folder = _run_folder(results, *run)
            counts["runs not finished"] += not folder.is_done()
            counts["files that differ"] += len(find_differences(folder, self._expected[run]))
        counts["files left behind"] = _count_leftovers(results)
        if is_harmless(counts):
            shutil.rmtree(results)
        return counts

    def _start_command(self, results: Path, module: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [
                *(sys.executable, "-m", module, "train", self._study, "--quiet"),
                *("--results", results, "--workers", str(WORKERS)),
            ],
            cwd=ROOT,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def _run_under_kills(self, results: Path, counts: Counter[str]) -> int:
        """Return the exit status of one command; not 0 if it was killed or runs failed."""
        with self._start_command(results, FREQUENT_CHECKPOINTS) as driver:
            while driver.poll() is None:
                try:
                    driver.wait(float(self._rng.exponential(self.undisturbed / KILLS)))
                except subprocess.TimeoutExpired:
                    self._kill_one(driver.pid, counts)
        counts[SURVIVORS] += processes.kill_survivors(driver.pid, GRACE_SECONDS)
        return driver.returncode

    def _kill_one(self, driver: int, counts: Counter[str]) -> None:
        """Kill the driver or one of its workers, if it has any yet."""
        if self._rng.random() < DRIVER_SHARE:
            counts["drivers killed"] += processes.kill(driver)
        elif workers := processes.list_workers(driver):
            counts["workers killed"] += processes.kill(int(self._rng.choice(workers)))


def _run_folder(results: Path, arm: str, seed: int) -> RunFolder:
    return StudyFolder(results / "random-kills").run(arm, seed)


def _count_leftovers(results: Path) -> int:
    """Return the number of files in a study's folder that do not belong to finished runs."""
    leftovers = {path for path in results.rglob("*") if is_temporary(path)}
    for run in RUNS:
        folder = _run_folder(results, *run)
        leftovers |= {folder.path / name for name in find_leftovers(folder)}
    return len(leftovers)
