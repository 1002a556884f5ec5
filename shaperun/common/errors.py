"""Errors: those reported without a traceback, and how others are described in one line."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shaperun.common.text import truncate

_MAX_TEXT = 500  # characters of a message
_OURS = "shaperun"
# Code that only passes on what other code does, or raises about what other code gave it.
_PASSED_OVER = {
    *(_OURS, "gymnasium", "numpy", "torch", "stable_baselines3", "sb3_contrib", "pydantic"),
    *sys.stdlib_module_names,
}


class UserError(Exception):
    """Error that the user can fix: the command prints its message and exits with status 2."""


class ContractError(ValueError):
    """An environment, or other code of the user, gives what it must not; the message says what."""


class ForeignExitError(RuntimeError):
    """Code of the user tried to end the program, as `sys.exit` does."""


def describe_exception(error: BaseException) -> str:
    """Return an error of other people's code in one line: `TypeError: text (module.py:12)`.

    It has the first line of the text, and the innermost line of code that belongs to no library
    between shaperun and that code, if there is one. Errors of shaperun have no type.
    """
    text = next(filter(None, map(str.strip, str(error).splitlines())), "")
    name = type(error).__name__
    if not type(error).__module__.startswith(f"{_OURS}."):
        text = f"{name}: {text}" if text else name
    place = find_place(error)
    place = f" ({place})" if place and place not in text else ""
    return f"{truncate(text or name, _MAX_TEXT)}{place}"


def find_place(error: BaseException) -> str:
    """Return file and line of the innermost code that belongs to no library; empty if none does."""
    place = ""
    for frame, line in traceback.walk_tb(error.__traceback__):
        file, module = frame.f_code.co_filename, str(frame.f_globals.get("__name__", ""))
        if module.partition(".")[0] not in _PASSED_OVER and not file.startswith("<"):
            place = f"{Path(file).name}:{line}"
    return place


def format_traceback(error: BaseException) -> str:
    """Return the traceback of an error; its last line is the description."""
    text = "".join(traceback.format_exception(error)).rstrip()
    description = describe_exception(error)
    return text if text.endswith(f"\n{description}") else f"{text}\n\n{description}"


@contextmanager
def exits_as_errors() -> Iterator[None]:
    """Raise ForeignExitError if code of the user tries to end the program."""
    try:
        yield
    except (Exception, KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:
        raise ForeignExitError(describe_exception(error)) from error
