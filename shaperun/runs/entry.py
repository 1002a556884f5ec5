"""Paths inside a results folder, none of which leads out of it."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Protocol

from shaperun.common.errors import UserError


class Folder(Protocol):
    """A folder of results."""

    @property
    def path(self) -> Path:
        """Where it is."""
        ...


class Entry:
    """A file or folder in a folder of results; the attribute is its path.

    Raises:
        UserError: a symbolic link, or neither a file nor a folder, is on the way.
    """

    def __init__(self, name: str, doc: str) -> None:
        self._names = name.split("/")
        self.__doc__ = doc

    def __get__(self, folder: Folder, _owner: type) -> Path:
        return path_inside(folder.path, *self._names)


def path_inside(folder: Path, *names: str) -> Path:
    """Return a path in a folder of results.

    Raises:
        UserError: a symbolic link, or neither a file nor a folder, is on the way.
    """
    path = folder
    _refuse_links(path)
    for name in names:
        path = path / name
        _refuse_links(path)
    return path


def _refuse_links(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except OSError:  # nothing is there
        return
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        what = "a symbolic link" if stat.S_ISLNK(mode) else "neither a file nor a folder"
        raise UserError(
            f"{path} is {what}, which is not allowed in a results folder; remove it, or replace it "
            "with what it refers to"
        )
