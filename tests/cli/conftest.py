"""A trained study that a test may change."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest


@pytest.fixture
def copy(trained: Path, tmp_path: Path) -> Path:
    """A copy of the trained study that a test may change."""
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    return tmp_path
