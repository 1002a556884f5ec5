"""A study file and its overrides -> a Study, or every mistake in it with its place and a remedy."""

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
    """Everything that is wrong with a study, a line each: place: path: what, expected, remedy."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = list(problems)


def load_study(path: Path, overrides: Sequence[str] = (), *, allow_code: bool = False) -> Study:
    """Read, override and validate a study file.

    Args:
        path: the YAML file.
        overrides: `KEY=VALUE` each, the key with dots, the value in YAML.
        allow_code: whether it may name Python code that no package declares.

    Raises:
        StudyError: names everything that is wrong, at once.
    """
    source = _read(path)
    if not isinstance(source.data, dict):
        found = "nothing" if source.data is None else show_value(source.data)
        raise StudyError(
            [f"{path}:1:1: found {found}, expected a study (shaperun init writes one)"]
        )
    data, overridden = _override(source.data, overrides)
    try:
        return parse_study(data, allow_code=allow_code)
    except ValidationError as error:
        places = Positions(path, source, overridden)
        raise StudyError(describe_errors(error.errors(include_url=False), data, places)) from None


def _read(path: Path) -> YamlSource:
    try:
        with path.open("rb") as file:
            return read_yaml(file.read(MAX_SIZE + 1))  # which is one too many
    except YamlError as error:
        raise StudyError(
            [f"{path}:{mark.line}:{mark.column}: {text}" for mark, text in error.problems]
        ) from None
    except OSError as error:
        raise StudyError([f"{path}: {error.strerror or error}"]) from None


def _override(data: Any, overrides: Sequence[str]) -> tuple[Any, dict[KeyPath, str]]:
    data = copy.deepcopy(data)
    done: dict[KeyPath, str] = {}
    for text in overrides:
        key, equals, value = text.partition("=")
        if not (key and equals):
            raise StudyError([f"--set {text}: expected KEY=VALUE"])
        path = tuple(key.split("."))
        try:
            made = _set(data, path, read_yaml(value).data)
        except (YamlError, TypeError) as error:
            raise StudyError([f"--set {text}: {error}"]) from None
        done[made] = f"--set {text}"
    return data, done


def _set(data: Any, path: tuple[str, ...], value: object) -> tuple[str, ...]:
    """Set the value; returns the path of the outermost part that is new or another now."""
    made = path
    for depth, part in enumerate(path[:-1]):
        if part not in data:
            made = min(made, path[: depth + 1], key=len)
        data = data.setdefault(part, {})
        if not isinstance(data, dict):
            raise TypeError(f"{'.'.join(path[: depth + 1])} is not a mapping")
    data[path[-1]] = value
    return made
