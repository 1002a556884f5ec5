"""A trained study to forge, the command line beside it, and a server of runs to kill."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.crashes.comparison import (
    read_outcome,
)
from benchmarks.crashes.fork_server import NEVER, ForkServer
from benchmarks.crashes.studies import tiny_run
from shaperun.runs.run_folder import RunFolder
from shaperun.runs.study_folder import StudyFolder
from tests.helpers.forgery import Commands


@pytest.fixture
def folder(trained: Path, tmp_path: Path) -> StudyFolder:
    """The trained study, which a test may forge."""
    shutil.copytree(trained, tmp_path / "work")
    return StudyFolder(tmp_path / "work" / "results" / "tiny")


@pytest.fixture
def sentinel(tmp_path: Path) -> Path:
    """A file that must never be created."""
    return tmp_path / "sentinel"


@pytest.fixture
def command(
    folder: StudyFolder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Commands:
    return Commands(folder.path.parent.parent, monkeypatch, capsys)


@pytest.fixture(scope="package")
def fork_server() -> Iterator[ForkServer]:
    with ForkServer() as fork_server:
        yield fork_server


@pytest.fixture(scope="package")
def expected(fork_server: ForkServer, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Return the outcome of the uninterrupted tiny run."""
    folder = RunFolder(tmp_path_factory.mktemp("whole") / "run")
    ended = fork_server.train(folder.path, tiny_run(), checkpoint_seconds=NEVER)
    assert ended.status == 0, ended.error
    return read_outcome(folder)
