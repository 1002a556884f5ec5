"""Load study files with overrides; report all mistakes at once, each with its position."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from shaperun.common.errors import UserError
from shaperun.common.yaml import MAX_SIZE, YamlError, YamlSource, read_yaml
from shaperun.study.error_messages import KeyPath, Positions, describe_errors, show_value
from shaperun.study.models import Study, parse_study


class StudyError(UserError):
    """All mistakes in a study, one message each: `position: path: cause, expected …; remedy`."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = list(problems)


def load_study(path: Path, overrides: Sequence[str] = (), *, allow_code: bool = False) -> Study:
    """Read, override and validate a study file.

    Overrides are texts `KEY=VALUE`, with a dotted key and a value in YAML; `allow_code` accepts
    references to Python code that no package declares.

    Raises:
        StudyError: lists all mistakes.
    """
    source = _read(path)
    if not isinstance(source.data, dict):
        found = "nothing" if source.data is None else show_value(source.data)
        raise StudyError(
            [f"{path}:1:1: found {found}, expected a study (shaperun init writes one)"]
        )
    data, overridden = _override(source.data, overrides)
    positions = Positions(path, source, overridden)

    def place(key: tuple[str, ...]) -> str:
        return f"{positions(key, key=False)[1]}: {'.'.join(key)}"

    try:
        return parse_study(data, allow_code=allow_code).opened(place=place)
    except ValidationError as error:
        errors = error.errors(include_url=False)
        raise StudyError(describe_errors(errors, data, positions)) from None


def _read(path: Path) -> YamlSource:
    try:
        with path.open("rb") as file:
            return read_yaml(file.read(MAX_SIZE + 1))  # one too many, so that it is refused
    except YamlError as error:
        raise StudyError(
            [f"{path}:{mark.line}:{mark.column}: {text}" for mark, text in error.problems]
        ) from None
    except OSError as error:
        raise StudyError([f"{path}: {error.strerror or error}"]) from None


def _override(data: Any, overrides: Sequence[str]) -> tuple[Any, dict[KeyPath, str]]:
    data = copy.deepcopy(data)
    overridden: dict[KeyPath, str] = {}
    for text in overrides:
        key, equals, value = text.partition("=")
        if not (key and equals):
            raise StudyError([f"--set {text}: expected KEY=VALUE"])
        try:
            path = _set(data, tuple(key.split(".")), read_yaml(value).data)
        except (YamlError, TypeError) as error:
            raise StudyError([f"--set {text}: {error}"]) from None
        overridden[path] = f"--set {text}"
    return data, overridden


def _set(data: Any, path: tuple[str, ...], value: object) -> tuple[str, ...]:
    """Set a value in place; return the path of the outermost mapping or value that is new."""
    new = path
    for depth, part in enumerate(path[:-1]):
        if part not in data:
            new = min(new, path[: depth + 1], key=len)
        data = data.setdefault(part, {})
        if not isinstance(data, dict):
            raise TypeError(f"{'.'.join(path[: depth + 1])} is not a mapping")
    data[path[-1]] = value
    return new
