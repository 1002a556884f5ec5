"""Differences between two nested configurations."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from shaperun.common.text import truncate

Differences = list[tuple[str, Any, Any]]

_MAX_DIFFERENCES = 8


def iter_differences(old: Any, new: Any, key: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield the dotted key, old value and new value of each entry that differs."""
    if isinstance(old, dict) and isinstance(new, dict):
        for part in {**old, **new}:
            path = f"{key}.{part}" if key else str(part)
            yield from iter_differences(old.get(part), new.get(part), path)
    elif old != new:
        yield key, old, new


def format_differences(differences: Differences, old_name: str, new_name: str) -> str:
    """Return the differences as one sentence that names both configurations."""
    parts = [
        f"{key} is {format_value(old)} in {old_name} and {format_value(new)} in {new_name}"
        for key, old, new in differences[:_MAX_DIFFERENCES]
    ]
    more = len(differences) - _MAX_DIFFERENCES
    return "; ".join([*parts, f"and {more} more"] if more > 0 else parts)


def format_value(value: Any) -> str:
    """Return a value as text, shortened to 60 characters; "absent" for None."""
    return "absent" if value is None else truncate(str(value), 60)
