"""Jobs for tests of executors, imported and called by workers."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path


def write(path: str, text: str) -> None:
    Path(path).write_text(f"{text} {os.getpid()} {os.environ['OMP_NUM_THREADS']}")


def fail(message: str) -> None:
    raise ValueError(message)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_repeatedly(path: str, times: int) -> None:
    with Path(path).open("a") as file:
        file.write("x")
    if len(Path(path).read_text()) <= times:
        die()


def wait_forever(path: str) -> None:
    Path(path).write_text(str(os.getpid()))
    while True:
        time.sleep(0.05)
