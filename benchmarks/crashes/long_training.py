"""Memory and open files of the processes of a command that trains for minutes."""

from __future__ import annotations

import re
import signal
import subprocess
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np

from benchmarks.crashes import processes

# Nothing in it ends by itself; evaluations and checkpoints are as frequent as they can be.
STUDY = """
study: long
environment: {id: CartPole-v1}
training:
  total_timesteps: 1000000000
  n_envs: 4
  normalize: {observations: true}
  hyperparameters: {n_steps: 100, batch_size: 100, n_epochs: 4}
seeds: 1
evaluation: {every: 2000, episodes: 3, final_episodes: 10}
arms:
  default: {}
  guided: {mode: potential, weights: {upright: 1, centred: 1}}
"""
WORKERS = 2
MINUTES = 10.0
SAMPLE_SECONDS = 5.0
WARM_UP = 0.2  # share of the time in which memory may grow: imports, the longest episodes

Samples = Mapping[str, list[tuple[float, float, int]]]
"""Process -> minutes since the start, resident memory in MB, open files; of each sample."""


def watch_training(folder: Path, minutes: float) -> Samples:
    """Train for so many minutes, interrupt the command, and return the samples until then."""
    (folder / "study.yaml").write_text(STUDY, encoding="utf-8")
    arguments = ("train", "study.yaml", "--workers", str(WORKERS))
    samples = defaultdict[str, list[tuple[float, float, int]]](list)
    with processes.start_command(folder, *arguments) as driver:
        began = time.monotonic()
        while (now := (time.monotonic() - began) / 60) < minutes and driver.poll() is None:
            for name, process in _name_processes(driver.pid):
                with suppress(OSError):  # it has ended
                    samples[name].append((now, *_measure(process)))
            with suppress(subprocess.TimeoutExpired):
                driver.wait(SAMPLE_SECONDS)
        driver.send_signal(signal.SIGTERM)
    if driver.returncode != 130:
        raise RuntimeError(f"the interrupted training exited with status {driver.returncode}")
    return samples


def _name_processes(driver: int) -> Iterator[tuple[str, int]]:
    yield "driver", driver
    for number, worker in enumerate(processes.list_workers(driver), start=1):
        yield f"worker {number}", worker


def _measure(process: int) -> tuple[float, int]:
    """Return resident memory in MB and the number of open files of a process."""
    folder = Path(f"/proc/{process}")
    kilobytes = re.search(r"VmRSS:\s+(\d+)", (folder / "status").read_text(encoding="utf-8"))
    assert kilobytes
    return int(kilobytes[1]) * 1024 / 1e6, len(list((folder / "fd").iterdir()))


def fit_slope(samples: list[tuple[float, float, int]]) -> tuple[float, float, float]:
    """Return memory at the end of the warm-up and of the training in MB, and MB per minute."""
    minutes, megabytes, _ = np.array(samples).T
    late = minutes >= WARM_UP * minutes[-1]
    slope, start = np.polyfit(minutes[late], megabytes[late], 1)
    first, last = start + slope * minutes[late][[0, -1]]
    return float(first), float(last), float(slope)


def make_table(samples: Samples) -> list[list[object]]:
    """Return memory and open files by process."""
    header = ["process", "samples", "MB after the warm-up", "MB at the end", "MB per minute"]
    table: list[list[object]] = [[*header, "open files"]]
    for name, measured in samples.items():
        late = [files for minute, _, files in measured if minute >= WARM_UP * measured[-1][0]]
        first, last, slope = fit_slope(measured)
        files = f"{min(late)} – {max(late)}" if min(late) < max(late) else f"{late[0]}"
        row = [f"{first:.1f}", f"{last:.1f}", f"{slope:.2f}", files]
        table.append([name, len(measured), *row])
    return table


def describe(samples: Samples) -> str:
    """Return for how long the processes were watched, in words."""
    minutes = max(measured[-1][0] for measured in samples.values())
    return (
        f"{minutes:.0f} minutes, of which the first {WARM_UP * minutes:.0f} are the warm-up; a "
        "line is fitted to the rest."
    )
