"""Paths inside a results folder, none of which leads out of it."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

from shaperun.common.errors import UserError


class Entry:
    """Path of a file or folder inside a folder of results, which has a `path`; see `safe_join`."""

    def __init__(self, name: str, doc: str) -> None:
        self._names = name.split("/")
        self.__doc__ = doc

    def __get__(self, folder: Any, _owner: type) -> Path:
        return safe_join(folder.path, *self._names)


def safe_join(folder: Path, *names: str) -> Path:
    """Return a path inside a folder of results.

    Raises:
        UserError: a part of the path is a symbolic link, or neither a file nor a folder.
    """
    path = folder
    _refuse_link(path)
    for name in names:
        path = path / name
        _refuse_link(path)
    return path


def _refuse_link(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except OSError:  # it does not exist
        return
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        is_link = stat.S_ISLNK(mode)
        kind = "a symbolic link" if is_link else "neither a file nor a folder"
        remedy = ", or replace it with its target" if is_link else ""
        raise UserError(
            f"{path} is {kind}, which is not allowed in a results folder; remove it{remedy}"
        )
