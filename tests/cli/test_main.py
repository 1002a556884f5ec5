"""The entry point: output that cannot be written."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

TERMS = [sys.executable, "-m", "shaperun", "terms"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_full_device_is_the_users_problem() -> None:
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        done = subprocess.run(TERMS, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.startswith("cannot write the output: ")


def test_reader_of_a_pipe_may_leave() -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(TERMS, stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (0, "")
