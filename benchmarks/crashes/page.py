"""The page that keeps what was counted: docs/soak.md."""

from __future__ import annotations

import platform
import re
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from shaperun.runs.process_pool import available_cores

PAGE = Path(__file__).parents[2] / "docs" / "soak.md"
PACKAGES = ("shaperun", "torch", "stable-baselines3", "gymnasium", "numpy", "filelock")

Table = Sequence[Sequence[object]]


def keep(name: str, table: Table, told: str) -> None:
    """Put a table, and a sentence on it, between the marks of its name."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    text = f"{begin}\n{told} {_machine()}\n\n{markdown(table)}\n{end}"
    pattern = re.compile(f"{re.escape(begin)}.*{re.escape(end)}", re.DOTALL)
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(pattern.sub(lambda _: text, page), encoding="utf-8")


def markdown(table: Table) -> str:
    """A table whose first row is its head; whole columns of numbers stand to the right."""
    head, *rows = table
    rule = [
        "---:" if all(isinstance(x, int) for x in column) else "---"
        for column in zip(*rows, strict=True)
    ]
    lines = [head, rule, *([_cell(value) for value in row] for row in rows)]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def _cell(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


def _machine() -> str:
    packages = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    return (
        f"On {available_cores()} cores, {platform.system()}, with Python {platform.python_version()}, "
        f"{packages}."
    )
