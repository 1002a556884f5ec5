"""Tables of measured figures in the documentation, and what their command lines share.

The text of the block `name` is between the marks `<!-- name: begin -->` and `<!-- name: end -->`.
"""

from __future__ import annotations

import platform
import re
import sys
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Collection, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

from shaperun.common.files import write_atomically
from shaperun.runs.process_pool import count_available_cores

ROOT = Path(__file__).resolve().parents[1]

Table = Sequence[Sequence[object]]


def format_table(table: Table, left: int = 1) -> str:
    """Return a Markdown table.

    Args:
        table: its rows, the header first; integers get thousands separators.
        left: number of left-aligned columns; those after them are right-aligned.
    """
    header, *rows = table
    rule = ["---" if column < left else "---:" for column in range(len(header))]
    cells = ([f"{x:,}" if isinstance(x, int) else str(x) for x in row] for row in rows)
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in (header, rule, *cells))


def replace_block(page: str, name: str, text: str) -> str:
    """Return the page with `text` between the marks of the block.

    Raises:
        ValueError: the page lacks these marks.
    """
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    pattern = re.compile(f"{re.escape(begin)}.*{re.escape(end)}", re.DOTALL)
    if not pattern.search(page):
        raise ValueError(f"the page lacks the marks {begin} and {end}")
    return pattern.sub(lambda _: f"{begin}\n{text}\n{end}", page)


def publish(page: Path, blocks: Mapping[str, str], *, complete: bool) -> None:
    """Print the blocks; those of a complete run are also written into their page.

    Raises:
        ValueError: the page lacks the marks of a block; it is left unchanged.
    """
    print("\n\n".join(blocks.values()), flush=True)
    if not complete:
        log(f"{page.name} is unchanged: only a complete run is written there")
        return
    text = page.read_text(encoding="utf-8")
    for name, block in blocks.items():
        text = replace_block(text, name, block)
    write_atomically(page, text.encode())
    log(f"written into {page.name}")


def describe_machine(packages: Sequence[str]) -> str:
    """Return the machine and the versions of Python and the packages, in words."""
    return (
        f"{count_available_cores()} cores, {platform.system()}, "
        f"with Python {platform.python_version()}, {list_versions(packages)}"
    )


def list_versions(packages: Sequence[str]) -> str:
    """Return the names of the packages, each followed by its version."""
    return ", ".join(f"{name} {version(name)}" for name in packages)


def add_choices(parser: ArgumentParser, noun: str, choices: Collection[str]) -> None:
    """Add the positional argument `{noun}s`, a list of choices, perhaps empty."""
    names = ", ".join(choices)

    def parse(name: str) -> str:
        if name not in choices:
            raise ArgumentTypeError(f"unknown {noun} {name!r}; choose from {names}")
        return name

    help_text = f"some of {names} (default: all)"
    parser.add_argument(f"{noun}s", nargs="*", metavar=noun.upper(), type=parse, help=help_text)


def log(message: str) -> None:
    """Print progress to stderr."""
    print(message, file=sys.stderr, flush=True)
