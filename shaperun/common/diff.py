"""Differences between two nested configurations."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def differences(old: Any, new: Any, key: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Every key, its parts joined with points, that has another value in one than in the other."""
    if isinstance(old, dict) and isinstance(new, dict):
        for part in {**old, **new}:
            below = f"{key}.{part}" if key else str(part)
            yield from differences(old.get(part), new.get(part), below)
    elif old != new:
        yield key, old, new


Differences = list[tuple[str, Any, Any]]

_MOST_SHOWN = 8

_LONGEST = 60


def format_differences(found: Differences, a: str, b: str) -> str:
    """What differs between two that are called so."""
    said = [
        f"{key} is {format_value(x)} in {a} and {format_value(y)} in {b}" for key, x, y in found
    ]
    more = len(said) - _MOST_SHOWN
    return "; ".join([*said[:_MOST_SHOWN], *([f"and {more} more"] if more > 0 else [])])


def format_value(value: Any) -> str:
    text = "absent" if value is None else str(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
