"""A study trained by its real command, while workers and drivers are killed at random."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
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
GRACE_SECONDS = 30.0  # within which all processes of a killed driver must end, on a busy machine
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
            start = partial(self._start_command, results, processes.FREQUENT_CHECKPOINTS)
            status = run_under_kills(start, self.undisturbed, self._rng, counts)
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
        arguments = ("train", self._study.name, "--quiet", "--results", results.name)
        return processes.start_command(
            self._folder, *arguments, "--workers", str(WORKERS), module=module
        )


def run_under_kills(
    start: Callable[[], subprocess.Popen[bytes]],
    undisturbed: float,
    rng: np.random.Generator,
    counts: Counter[str],
    driver_share: float = DRIVER_SHARE,
) -> int:
    """Return the exit status of one command; not 0 if it was killed or runs failed.

    Its processes are killed at random, on average `KILLS` times per undisturbed duration.
    """
    with start() as driver:
        while driver.poll() is None:
            try:
                driver.wait(float(rng.exponential(undisturbed / KILLS)))
            except subprocess.TimeoutExpired:
                if rng.random() < driver_share:
                    counts["drivers killed"] += processes.kill(driver.pid)
                elif workers := processes.list_workers(driver.pid):
                    counts["workers killed"] += processes.kill(int(rng.choice(workers)))
    counts[SURVIVORS] += processes.kill_survivors(driver.pid, GRACE_SECONDS)
    return driver.returncode


def _run_folder(results: Path, arm: str, seed: int) -> RunFolder:
    return StudyFolder(results / "random-kills").run(arm, seed)


def _count_leftovers(results: Path) -> int:
    """Return the number of files in a study's folder that do not belong to finished runs."""
    leftovers = {path for path in results.rglob("*") if is_temporary(path)}
    for run in RUNS:
        folder = _run_folder(results, *run)
        leftovers |= {folder.path / name for name in find_leftovers(folder)}
    return len(leftovers)
