"""Faults on demand, for tests only: a process that dies, a disk that is full, at a chosen moment.

The environment variable SHAPERUN_FAULT says `KIND NUMBER [PATTERN]`. A point is a step and the path
that it is about, as in `replaced results/tiny/study.yaml`; a pattern (`*` as in a shell) chooses
among them, and without one every point counts. At the passing of that number

- `die` kills the process, as SIGKILL from outside does;
- the name of an error, as in `ENOSPC`, is what the system answers from then on.

Without the variable nothing here does anything.
"""

from __future__ import annotations

import errno
import os
import signal
from fnmatch import fnmatchcase
from pathlib import Path

FAULT = "SHAPERUN_FAULT"
CHECKPOINT_SECONDS = "SHAPERUN_KEEP_SECONDS"

_CHUNK_SIZE = 48  # bytes: less than a row, so that a fault may come in the middle of one


class Fault:
    """One fault that is waited for; it counts what passes."""

    def __init__(self, text: str) -> None:
        self._kind, number, *pattern = text.split(maxsplit=2)
        self._left = int(number)
        self._pattern = pattern[0] if pattern else "*"

    def trigger(self, point: str) -> None:
        """Count a passing; the fault happens if it is the one.

        Raises:
            OSError: the error that was asked for.
        """
        if not fnmatchcase(point, self._pattern):
            return
        self._left -= 1
        if self._left > 0:
            return
        if self._kind == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        number = getattr(errno, self._kind)
        raise OSError(number, os.strerror(number))


active_fault = Fault(os.environ[FAULT]) if os.environ.get(FAULT) else None


def reached(step: str, path: Path) -> None:
    """Say which step of writing has been reached; a fault may wait there.

    Raises:
        OSError: one does.
    """
    if active_fault:
        active_fault.trigger(f"{step} {path}")


def chunk_size() -> int | None:
    """How many bytes to write between two passings at most; None for all of them."""
    return _CHUNK_SIZE if active_fault else None


def checkpoint_seconds(normal: float) -> float:
    """How often to keep a checkpoint: as is normal, unless SHAPERUN_KEEP_SECONDS says otherwise."""
    return float(os.environ.get(CHECKPOINT_SECONDS, normal))
