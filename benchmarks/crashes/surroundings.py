"""A study trained while its surroundings change: the clock jumps, a node of the cluster is lost."""

from __future__ import annotations

import importlib
import os
import secrets
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from benchmarks.crashes import processes
from benchmarks.crashes.commands import compare_trees, read_tree
from benchmarks.crashes.comparison import SURVIVORS
from benchmarks.crashes.random_kills import GRACE_SECONDS, STUDY

HOUR = 3600
JUMPS = {
    "three hours forward": 3 * HOUR,
    "three hours back": -3 * HOUR,
    "ten days forward": 240 * HOUR,
    "ten days back": -240 * HOUR,
}
PROGRESS, UNFINISHED = "without progress", "without a good end"
HARM = (UNFINISHED, PROGRESS, "files that differ", "files left behind", SURVIVORS)
MAX_SECONDS = 600.0
CLOCK = Path(__file__).parent / "clock"  # its sitecustomize is what Python imports first
TRAIN = ("train", "study.yaml", "--workers", "2")


class Surroundings:
    """One study, and what it is without disturbances."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        undisturbed, began = self._new_folder("undisturbed"), time.monotonic()
        if status := processes.start_command(undisturbed, *TRAIN).wait():
            raise RuntimeError(f"undisturbed, the study exited with status {status}")
        self.undisturbed = time.monotonic() - began
        self._expected = read_tree(undisturbed)

    def jump(self, name: str) -> Counter[str]:
        """Train by two commands at once; return the counts.

        The clock of one jumps after the first checkpoint, that of the other is as wrong in the
        other direction from the start.
        """
        folder = self._new_folder(name.replace(" ", "-"))
        signal = self._folder / f"{name}, now"
        outputs, commands = [self._folder / "output-1", self._folder / "output-2"], []
        clocks = f"{JUMPS[name]} {signal}", f"{-JUMPS[name]} {folder}"
        for output, jump in zip(outputs, clocks, strict=True):
            clock = {"PYTHONPATH": str(CLOCK), "CLOCK_JUMP": jump}
            with output.open("wb") as file:
                commands.append(
                    processes.start_command(folder, *TRAIN, environment=clock, output=file)
                )
        _wait_for_checkpoints(folder, 1)
        signal.touch()
        counts = self._finish(folder, commands)
        counts[PROGRESS] = sum("steps/s" not in output.read_text("utf-8") for output in outputs)
        return counts

    def lose_nodes(self, rounds: int) -> Iterator[Counter[str]]:
        """Train on a cluster of two nodes, and lose one after two checkpoints; yield the counts."""
        with start_cluster() as (cluster, environment):
            for number in range(rounds):
                node, folder = cluster.add_node(num_cpus=1), self._new_folder(f"node-{number}")
                arguments = (*TRAIN, "--executor", "ray")
                command = processes.start_command(folder, *arguments, environment=environment)
                _wait_for_checkpoints(folder, 2)
                assert command.poll() is None, "it ended before a node was lost"
                cluster.remove_node(node, allow_graceful=False)
                yield self._finish(folder, [command])

    def _finish(self, folder: Path, commands: list[subprocess.Popen[bytes]]) -> Counter[str]:
        """Wait for the commands; return the counts."""
        deadline, counts = time.monotonic() + MAX_SECONDS, Counter({"rounds": 1})
        for command in commands:
            with suppress(subprocess.TimeoutExpired):
                command.wait(max(0.0, deadline - time.monotonic()))
            counts[UNFINISHED] += command.poll() != 0
            counts[SURVIVORS] += processes.kill_survivors(command.pid, GRACE_SECONDS)
        return counts + compare_trees(self._expected, read_tree(folder))

    def _new_folder(self, name: str) -> Path:
        folder = self._folder / name
        folder.mkdir()
        (folder / "study.yaml").write_text(STUDY, encoding="utf-8")
        return folder


def _wait_for_checkpoints(folder: Path, count: int) -> None:
    deadline = time.monotonic() + MAX_SECONDS
    while len(list(folder.rglob("checkpoint-*.bin"))) < count:
        assert time.monotonic() < deadline, "no checkpoint"
        time.sleep(0.02)


@contextmanager
def start_cluster() -> Iterator[tuple[Any, dict[str, str]]]:
    """Start a Ray cluster of one node with one core; yield it and the variables to reach it."""
    # In /tmp, because the paths of sockets must be short.
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp") as folder:
        settings = {
            "RAY_TMPDIR": folder,
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
        }
        os.environ.update(settings)
        head = {"num_cpus": 1, "include_dashboard": False}
        cluster = importlib.import_module("ray.cluster_utils").Cluster(True, head_node_args=head)
        try:
            yield cluster, settings | {"RAY_ADDRESS": cluster.address}
        finally:
            importlib.import_module("ray").shutdown()
            cluster.shutdown()
