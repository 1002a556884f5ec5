"""The data of a report on the study that the whole suite shares."""

from __future__ import annotations

from pathlib import Path

import pytest

from shaperun.report import data
from shaperun.report.data import ReportData, load_report_data
from shaperun.runs.open_study import open_study


@pytest.fixture(scope="package")
def report(trained: Path) -> ReportData:
    study, folder = open_study("tiny", trained / "results")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data, "_record_gif", lambda *_: None)
        return load_report_data(study, folder, print)
