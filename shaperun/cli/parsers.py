"""Parsers of options: refused values get the same message with every version of typer."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import typer


def parse_integer(text: object) -> int:
    """Return an integer of at least 0."""
    try:
        value = int(str(text))
    except ValueError:
        value = -1
    if value < 0:
        raise typer.BadParameter(f"found {text}, expected an integer of at least 0")
    return value


def parse_number(text: object) -> float:
    """Return a finite number of at least 0."""
    try:
        value = float(str(text))
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= 0):
        raise typer.BadParameter(f"found {text}, expected a finite number of at least 0")
    return value


def parse_folder(text: object) -> Path:
    """Return the path of a folder."""
    if not str(text).strip():
        raise typer.BadParameter("expected a folder")
    return Path(str(text))


def one_of(*names: str) -> Callable[[object], str]:
    """Return a parser that accepts these names."""

    def parse(text: object) -> str:
        if text not in names:
            raise typer.BadParameter(f"found {text}, expected one of {', '.join(names)}")
        return str(text)

    return parse
