"""What a forger would put into a results folder, and what must come of it."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from shaperun.cli.main import main
from shaperun.common.text import escape_control_chars


class Evil:
    """Creates a file when it is unpickled."""

    def __init__(self, sentinel: Path) -> None:
        self.sentinel = sentinel

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.sentinel,)


class Commands:
    """The command line in this process, in a folder of its own."""

    def __init__(
        self, folder: Path, patch: pytest.MonkeyPatch, captured: pytest.CaptureFixture[str]
    ) -> None:
        self._folder, self._patch, self._captured = folder, patch, captured

    def __call__(self, *arguments: str) -> tuple[int, str]:
        """The exit status, and all that was printed; it is never what steers a terminal."""
        self._patch.chdir(self._folder)
        self._patch.setattr(sys, "argv", ["shaperun", *arguments])
        self._captured.readouterr()
        with pytest.raises(SystemExit) as end:
            main()
        out, err = self._captured.readouterr()
        assert escape_control_chars(out + err) == out + err
        assert "Traceback" not in err or "--debug" in arguments
        return int(end.value.code or 0), " ".join((out + err).split())


def tree(folder: Path) -> dict[str, tuple[int, str]]:
    """Every file below a folder, with when it was changed and its hash."""
    return {
        str(path.relative_to(folder)): (path.lstat().st_mtime_ns, _hash(path))
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@contextmanager
def memory_within(megabytes: int) -> Iterator[None]:
    """Let this process take no more memory than it has and some; a bomb is a MemoryError."""
    import resource

    with Path("/proc/self/statm").open() as file:
        used = int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + megabytes * 2**20, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
