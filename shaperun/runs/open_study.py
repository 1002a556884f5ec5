"""Find a study by its file or name."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from shaperun.common.errors import UserError
from shaperun.runs.study_folder import StudyFolder, list_study_folders
from shaperun.study.loader import load_study
from shaperun.study.models import Study


def open_study(
    name: str, results: Path, overrides: Sequence[str] = (), *, allow_code: bool = False
) -> tuple[Study, StudyFolder]:
    """Return a study, named by its file or by its folder in `results`, and its folder.

    Raises:
        UserError: the study is unknown, or its file is invalid.
    """
    if allow_code:
        find_local_code()
    path = Path(name)
    trained = StudyFolder(results / name).study
    if not path.is_file() and len(path.parts) == 1 and trained.is_file():
        path = trained
    if not path.is_file():
        names = ", ".join(folder.path.name for folder in list_study_folders(results)) or "none"
        raise UserError(
            f"no such file or study: {shlex.quote(name)}; studies in {results}: {names}"
        )
    study = load_study(path, overrides, allow_code=allow_code)
    if path == trained and study.study != trained.parent.name:
        raise UserError(
            f"{trained.parent} has the results of {study.study}; rename it back to {study.study}"
        )
    return study.opened(results=results), StudyFolder(results / study.study)


def find_local_code() -> None:
    """Let modules of the working directory be imported: users keep code next to their studies."""
    if "" not in sys.path:
        sys.path.insert(0, str(Path.cwd()))


def find_latest_study(results: Path) -> str:
    """Return the name of the most recently trained study.

    Raises:
        UserError: nothing has been trained.
    """
    for folder in list_study_folders(results):
        return folder.path.name
    raise UserError(f"nothing has been trained into {results} yet; name a study file")
