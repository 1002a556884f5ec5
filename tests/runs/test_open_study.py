"""Studies are found by file, or by the name of their results."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from shaperun.common.errors import UserError
from shaperun.runs.open_study import open_study


def test_renamed_results_are_named_as_such(trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained / "results" / "tiny", tmp_path / "small")
    with pytest.raises(UserError, match=r"small has the results of tiny; rename it back to tiny$"):
        open_study("small", tmp_path)
    (tmp_path / "small").rename(tmp_path / "tiny")
    assert open_study("tiny", tmp_path)[0].study == "tiny"
