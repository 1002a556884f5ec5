"""Errors of other people's code in one line."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from shaperun.common.errors import (
    ContractError,
    ForeignExitError,
    UserError,
    describe_exception,
    exits_as_errors,
    format_traceback,
)

MODULE = '''
import json
import sys

import numpy as np


def lines():
    raise RuntimeError("""first line
second line""")


def bare():
    raise KeyError


def within_library():
    json.loads("[")


def within_numpy():
    np.zeros(2).reshape(3)


def leave():
    sys.exit(0)


def call(function):
    return function()
'''


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    (tmp_path / "broken_of_mine.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(importlib.sys.modules, "broken_of_mine", raising=False)  # type: ignore[attr-defined]
    return importlib.import_module("broken_of_mine")


def raised(function: Callable[[], Any]) -> Exception:
    """Return the error of a function, from the call of the function on."""
    with pytest.raises(Exception) as caught:  # noqa: PT011 (any error)
        function()
    error = caught.value
    error.__traceback__ = error.__traceback__ and error.__traceback__.tb_next
    return error


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("lines", "RuntimeError: first line (broken_of_mine.py:9)"),
        ("bare", "KeyError (broken_of_mine.py:14)"),
        (
            "within_library",
            "JSONDecodeError: Expecting value: line 1 column 2 (char 1) (broken_of_mine.py:18)",
        ),
        (
            "within_numpy",
            "ValueError: cannot reshape array of size 2 into shape (3,) (broken_of_mine.py:22)",
        ),
    ],
)
def test_type_first_line_and_innermost_place(module: ModuleType, name: str, text: str) -> None:
    error = raised(getattr(module, name))
    assert describe_exception(error) == text
    traceback = format_traceback(error)
    assert traceback.startswith("Traceback")
    assert traceback.endswith(f"\n{text}")


def test_libraries_have_no_place() -> None:
    error = raised(lambda: None or json.loads("["))
    error.__traceback__ = error.__traceback__ and error.__traceback__.tb_next
    assert describe_exception(error) == "JSONDecodeError: Expecting value: line 1 column 2 (char 1)"
    assert describe_exception(np.exceptions.AxisError("wrong")) == "AxisError: wrong"
    assert describe_exception(ValueError()) == "ValueError"


def test_errors_of_shaperun_have_no_type() -> None:
    assert describe_exception(UserError("the disk is full")) == "the disk is full"
    assert describe_exception(ContractError("a vector")) == "a vector"


def test_exits_are_errors(module: ModuleType) -> None:
    message = r"^SystemExit: 0 \(broken_of_mine.py:26\)$"
    with pytest.raises(ForeignExitError, match=message), exits_as_errors():
        module.leave()
    with pytest.raises(KeyboardInterrupt), exits_as_errors():
        raise KeyboardInterrupt
