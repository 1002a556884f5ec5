"""From what a user types for a study to the study and its folder."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from shaperun.common.errors import UserError
from shaperun.runs.study_folder import StudyFolder, study_folders
from shaperun.study.loader import load_study
from shaperun.study.models import Study


def open_study(
    name: str, results: Path, overrides: Sequence[str] = (), *, allow_code: bool = False
) -> tuple[Study, StudyFolder]:
    """A study by its file, or by its name under the results folder.

    Raises:
        UserError: there is no such study, or its file is wrong.
    """
    if allow_code and "" not in sys.path:
        sys.path.insert(0, str(Path.cwd()))  # where people keep the code of a study
    path = Path(name)
    trained = StudyFolder(results / name).study
    if not path.is_file() and len(path.parts) == 1 and trained.is_file():
        path = trained
    if not path.is_file():
        raise UserError(f"{name}: there is no such file{_known_studies(results)}")
    study = load_study(path, overrides, allow_code=allow_code)
    return study, StudyFolder(results / study.study)


def latest_study(results: Path) -> str:
    """The name of the study that was trained last.

    Raises:
        UserError: there is none.
    """
    for folder in study_folders(results):
        return folder.path.name
    raise UserError(f"nothing has been trained into {results} yet; name a study file")


def _known_studies(results: Path) -> str:
    names = [folder.path.name for folder in study_folders(results)]
    return f", and no study of that name in {results} (there: {', '.join(names) or 'none'})"
