"""Inject faults into file writes, for tests: kill the process or fail a system call at a point.

The environment variable SHAPERUN_FAULT has the form `KIND NUMBER [PATTERN]`. A point is a step and
the path it concerns, such as `replaced results/tiny/study.yaml`. The pattern (`*` as in a shell)
selects points; without one, all points count. At the NUMBER-th selected point

- `die` kills the process as SIGKILL from outside does;
- an error name such as `ENOSPC` raises this OSError, there and at all later selected points.

Without the variable, this module does nothing.
"""

from __future__ import annotations

import errno
import os
import signal
from fnmatch import fnmatchcase
from pathlib import Path

FAULT = "SHAPERUN_FAULT"
CHECKPOINT_SECONDS = "SHAPERUN_KEEP_SECONDS"
_CHUNK_SIZE = 48  # bytes; less than a row, so that a fault can hit the middle of one


class Fault:
    """Fault that occurs once enough selected points have been reached."""

    def __init__(self, text: str) -> None:
        self._kind, number, *pattern = text.split(maxsplit=2)
        self._remaining = int(number)
        self._pattern = pattern[0] if pattern else "*"

    def trigger(self, point: str) -> None:
        """Count the point if it is selected, and cause the fault when the count is reached.

        Raises:
            OSError: the configured error.
        """
        if not fnmatchcase(point, self._pattern):
            return
        self._remaining -= 1
        if self._remaining > 0:
            return
        if self._kind == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        number = getattr(errno, self._kind)
        raise OSError(number, os.strerror(number))


active_fault = Fault(os.environ[FAULT]) if os.environ.get(FAULT) else None


def fail_point(step: str, path: Path) -> None:
    """Cause the active fault, if any, when it is set for this step of writing `path`.

    Raises:
        OSError: the configured error.
    """
    if active_fault:
        active_fault.trigger(f"{step} {path}")


def chunk_size() -> int | None:
    """Return the largest number of bytes to write between two points; None without a fault."""
    return _CHUNK_SIZE if active_fault else None


def checkpoint_seconds(default: float) -> float:
    """Return the seconds between checkpoints: SHAPERUN_KEEP_SECONDS if set, else the default."""
    return float(os.environ.get(CHECKPOINT_SECONDS, default))
