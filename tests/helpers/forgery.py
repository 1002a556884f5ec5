"""Forged files for results folders, and checks of their effects."""

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
from shaperun.runs.open_study import open_study
from shaperun.runs.plan import Run, plan_runs
from shaperun.runs.run_folder import RunFolder
from shaperun.runs.study_folder import StudyFolder


class Evil:
    """Creates a file when it is unpickled."""

    def __init__(self, sentinel: Path) -> None:
        self.sentinel = sentinel

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.sentinel,)


class Commands:
    """The command line in this process, in a separate folder."""

    def __init__(
        self, folder: Path, patch: pytest.MonkeyPatch, captured: pytest.CaptureFixture[str]
    ) -> None:
        self._folder, self._patch, self._captured = folder, patch, captured

    def __call__(self, *arguments: str) -> tuple[int, str]:
        """Return the exit status and the output, which must never control a terminal."""
        self._patch.chdir(self._folder)
        self._patch.setattr(sys, "argv", ["shaperun", *arguments])
        self._captured.readouterr()
        with pytest.raises(SystemExit) as end:
            main()
        out, err = self._captured.readouterr()
        assert escape_control_chars(out + err) == out + err
        assert "Traceback" not in err or "--debug" in arguments
        return int(end.value.code or 0), " ".join((out + err).split())


def runs_of(folder: StudyFolder) -> list[Run]:
    study, _ = open_study("tiny", folder.path.parent)
    return plan_runs(study, study.arms)


def one_of(folder: StudyFolder) -> tuple[Run, RunFolder]:
    """The run guided/1."""
    run = next(run for run in runs_of(folder) if (run.arm, run.seed) == ("guided", 1))
    return run, folder.run("guided", 1)


def tree(folder: Path) -> dict[str, tuple[int, str]]:
    """Return every file below a folder, with its modification time and hash."""
    return {
        str(path.relative_to(folder)): (path.lstat().st_mtime_ns, _hash(path))
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@contextmanager
def memory_within(megabytes: int) -> Iterator[None]:
    """Limit the memory of this process; a bomb raises MemoryError."""
    import resource

    with Path("/proc/self/statm").open() as file:
        used = int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + megabytes * 2**20, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
