"""What `shaperun compare` takes for 1,000 finished runs, as a whole process on one core."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path
from time import perf_counter

from benchmarks.speed import fake_runs
from benchmarks.speed.measure import ONE_THREAD, SHAPERUN, Command, Row, on_cores, tell

EPISODES = 5


def rows(*, quick: bool) -> list[Row]:
    """Wall time and peak memory. Making the runs takes longer than comparing them."""
    seeds = 5 if quick else fake_runs.SEEDS
    count = f"{fake_runs.ARMS * seeds:,} runs"
    with tempfile.TemporaryDirectory() as folder, on_cores(1):
        results = Path(folder)
        tell(f"  making {count}")
        study = fake_runs.make(results, EPISODES, seeds=seeds).path.name
        found = [_compare(study, results) for _ in range(1 if quick else 3)]
    most = None if quick else 5.0  # fewer runs than the target is about
    answers, ends, memory = zip(*found, strict=True)
    return [
        Row(f"compare, {count}: to the answer", [*answers], "{:.1f}", "s", at_most=most),
        Row(f"compare, {count}: to the last file", [*ends], "{:.1f}", "s"),
        Row("compare, peak memory", [*memory], "{:,.0f}", "MB", at_most=1000.0),
    ]


def _compare(study: str, results: Path) -> tuple[float, float, float]:
    """Seconds to the answer and to the end, and the most memory that was resident, in MB.

    Raises:
        RuntimeError: the command failed.
    """
    command: Command = [SHAPERUN, "compare", study, "--json", "--results", results]
    environment = os.environ | ONE_THREAD | {"POLARS_MAX_THREADS": "1"}  # which has its own threads
    start = perf_counter()
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE)
    assert process.stdout  # noqa: S101 (for the type checker)
    process.stdout.read(1)
    answer = perf_counter() - start
    process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    took = perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)  # nobody can wait for it again
    if process.returncode:
        raise RuntimeError(f"compare ended with {process.returncode}")
    return answer, took, usage.ru_maxrss / 1000  # Linux counts in kilobytes
