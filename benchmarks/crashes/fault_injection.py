"""Inject faults into the system calls that write: kill the process at one, or refuse it.

A point is before or after a call, and names its path, such as `after replace runs/arm/1/run.json`;
a temporary file goes by the name of the file that it is to replace. A fault has the form
`KIND NUMBER [PATTERN]`. The pattern (`*` as in a shell) selects points; without one, all points
count. At the NUMBER-th selected point

- `die` kills the process as SIGKILL from outside does;
- an error name such as `ENOSPC` refuses this call and all later selected ones.
"""

from __future__ import annotations

import errno
import io
import os
import re
import signal
from collections.abc import Callable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from filelock import BaseFileLock, FileLock

CALLS: dict[str, tuple[Any, str]] = {
    "create": (Path, "touch"),
    "replace": (Path, "replace"),
    "remove": (Path, "unlink"),
    "truncate": (os, "truncate"),
    "sync": (os, "fsync"),
    "lock": (FileLock, "acquire"),
    "unlock": (FileLock, "release"),
}
CHUNK_SIZE = 48  # bytes; less than a row, so that a fault can hit the middle of one

OnPoint = Callable[[str], None]


class Fault:
    """Fault that occurs once enough selected points have been reached."""

    def __init__(self, text: str) -> None:
        self._kind, number, *pattern = text.split(maxsplit=2)
        self._remaining = int(number)
        self._pattern = pattern[0] if pattern else "*"

    def __call__(self, point: str) -> None:
        """Count the point if it is selected, and cause the fault when the count is reached.

        Raises:
            OSError: the call at this point is refused.
        """
        if not fnmatchcase(point, self._pattern):
            return
        self._remaining -= 1
        if self._remaining > 0:
            return
        if self._kind == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if is_refusable(point):
            number = getattr(errno, self._kind)
            raise OSError(number, os.strerror(number), point.split(" ", 2)[2])


def is_refusable(point: str) -> bool:
    """Return whether the system may refuse the call at a point."""
    return point.startswith("before ") and not point.startswith("before unlock ")


def install(on_point: OnPoint, replace: Callable[[Any, str, Any], None] = setattr) -> None:
    """Call `on_point` before and after each call; `replace` is setattr, or one that is undone."""
    for call, (owner, name) in CALLS.items():
        replace(owner, name, _report(getattr(owner, name), call, on_point))
    replace(Path, "open", _report_appends(Path.open, on_point))


def _report(function: Callable[..., Any], call: str, on_point: OnPoint) -> Callable[..., Any]:
    def reported(target: Any, *args: Any, **options: Any) -> Any:
        path = _find_path(target)
        on_point(f"before {call} {path}")
        result = function(target, *args, **options)
        on_point(f"after {call} {path}")
        return result

    return reported


def _report_appends(function: Callable[..., Any], on_point: OnPoint) -> Callable[..., Any]:
    def opened(path: Path, mode: str = "r", *args: Any, **options: Any) -> Any:
        if mode != "ab":
            return function(path, mode, *args, **options)
        file = _report(function, "open", on_point)(path, mode, *args, **options)
        return _AppendedFile(file, on_point)

    return opened


class _AppendedFile:
    """An unbuffered file that accepts a few bytes at a time."""

    def __init__(self, file: Any, on_point: OnPoint) -> None:
        self._file = file
        self._write = _report(lambda file, data: file.write(data), "append", on_point)

    def write(self, data: bytes) -> int:
        return int(self._write(self._file, data[:CHUNK_SIZE]))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def _find_path(target: Any) -> str:
    if isinstance(target, int):
        target = Path(f"/proc/self/fd/{target}").readlink()
    elif isinstance(target, BaseFileLock):
        target = target.lock_file
    elif isinstance(target, io.IOBase):
        target = target.name  # type: ignore[attr-defined]
    return re.sub(r"\.([^/]+)\.[0-9a-f]{8}\.tmp$", r"\1", str(target))
