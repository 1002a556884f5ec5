"""A trained study to forge, and the command line beside it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

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
