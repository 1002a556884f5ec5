"""Runs that are killed by faults and resumed."""

from __future__ import annotations

import os

import pytest

from benchmarks.crashes.comparison import (
    find_differences,
    find_leftovers,
)
from benchmarks.crashes.fork_server import ForkServer
from benchmarks.crashes.studies import tiny_run
from shaperun.runs.run_folder import RunFolder

UNPRIVILEGED_USER = 65534
AFTER_CHECKPOINT = "die 1 after replace */checkpoint-2.bin"
as_root = pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root")


def kill_run(fork_server: ForkServer, folder: RunFolder, fault: str) -> None:
    assert fork_server.train(folder.path, tiny_run(), fault=fault).killed


def resume_run(fork_server: ForkServer, folder: RunFolder, expected: dict[str, bytes]) -> None:
    """Finish a run, and check that its outcome is as expected, without leftover files."""
    ended = fork_server.train(folder.path, tiny_run())
    assert ended.status == 0, ended.error
    assert find_differences(folder, expected) == []
    assert find_leftovers(folder) == []
