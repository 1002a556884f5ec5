"""Output to the terminal: text from files cannot control it, and tables fit without cut numbers."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TextIO

import typer
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from shaperun.common.files import dump_json, with_nulls
from shaperun.common.text import escape_control_chars

_LABEL_WIDTH = 16  # to which names of rows may be folded
_WORD_WIDTH = 14  # to which words without digits may be folded


class SafeConsole(Console):
    """Console that prints text as it is: without markup, with control characters escaped."""

    def __init__(self, *, stderr: bool = True, quiet: bool = False) -> None:
        super().__init__(stderr=stderr, quiet=quiet, highlight=False, markup=False, emoji=False)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """Render with control characters escaped."""
        for segment in super().render(renderable, options):
            # Control segments move the cursor and come from rich itself.
            text = segment.text if segment.control else escape_control_chars(segment.text)
            yield segment._replace(text=text)


@contextmanager
def only_json_on_stdout() -> Iterator[None]:
    """Send what environments print to stderr, so that stdout has nothing but the document."""
    before = sys.stdout
    sys.stdout = sys.stderr
    _DOCUMENTS.append(before)
    try:
        yield
    finally:
        sys.stdout = _DOCUMENTS.pop()


_DOCUMENTS: list[TextIO] = []
"""Where documents are printed, while stdout leads elsewhere."""


def print_json(document: object) -> None:
    """Print one JSON document on stdout."""
    text = escape_control_chars(dump_json(with_nulls(document)))
    typer.echo(text, file=_DOCUMENTS[-1] if _DOCUMENTS else None)


@dataclass(frozen=True)
class Column:
    """A column: its header and cells; labels are repeated where a table is continued below."""

    header: str | Text
    cells: Sequence[str | Text]
    justify: Literal["left", "right"] = "left"
    is_label: bool = False

    @cached_property
    def width(self) -> int:
        """Width without any folding."""
        return max(cell_len(line) for text in (self.header, *self.cells) for line in _lines(text))

    @cached_property
    def min_width(self) -> int:
        """Width to which it can be folded without breaking a number."""
        widths = [_min_line_width(line) for text in self.cells for line in _lines(text)]
        if self.is_label and self.justify == "left":
            widths = [min(_LABEL_WIDTH, self.width)]
        words = (word for line in _lines(self.header) for word in line.split())
        return max([*widths, *(min(_WORD_WIDTH, cell_len(word)) for word in words), 1])


def number_column(header: str | Text, cells: Sequence[str | Text]) -> Column:
    """Return a column whose cells are aligned on the right."""
    return Column(header, cells, "right")


def build_tables(
    columns: Sequence[Column], width: int, *, header_style: str = "bold"
) -> list[Table]:
    """Return the columns as one table, or as several below each other if they do not fit."""
    gap = 2 if _total_width([column.width for column in columns], 2) <= width else 1
    parts = _split(columns, width, gap)
    return [_build_table(part, width, gap, header_style) for part in parts]


def print_tables(
    columns: Sequence[Column], console: Console, *, header_style: str = "bold"
) -> None:
    """Print the columns as one table, or as several with an empty line between."""
    for index, table in enumerate(build_tables(columns, console.width, header_style=header_style)):
        # A single column may be wider than the terminal, which then wraps it.
        console.print(*([""] if index else []), table, sep="\n", crop=False)


def _split(columns: Sequence[Column], width: int, gap: int) -> list[list[Column]]:
    """Split columns into parts that fit a width, each with the labels."""
    labels = [column for column in columns if column.is_label]
    parts = [labels.copy()]
    for column in columns:
        if column.is_label:
            continue
        fits = _total_width([c.min_width for c in (*parts[-1], column)], gap) <= width
        if not fits and len(parts[-1]) > len(labels):
            parts.append(labels.copy())
        parts[-1].append(column)
    return parts


def _build_table(columns: Sequence[Column], width: int, gap: int, header_style: str) -> Table:
    widths = [column.min_width for column in columns]
    for _ in range(width - _total_width(widths, gap)):  # to labels first, then to the narrowest
        folded = [i for i, column in enumerate(columns) if widths[i] < column.width]
        if folded:
            widths[min(folded, key=lambda i: (not columns[i].is_label, widths[i]))] += 1
    table = Table(
        box=None,
        pad_edge=False,
        padding=(0, gap, 0, 0),
        header_style=header_style,
        width=_total_width(widths, gap),
    )
    for column, given in zip(columns, widths, strict=True):
        table.add_column(column.header, justify=column.justify, width=given, overflow="fold")
    for row in zip(*(column.cells for column in columns), strict=True):
        table.add_row(*row)
    return table


def _total_width(widths: Sequence[int], gap: int) -> int:
    return sum(widths) + gap * (len(widths) - 1)


def _lines(text: str | Text) -> Iterable[str]:
    return str(text).split("\n")


def _min_line_width(line: str) -> int:
    if any(character.isdigit() for character in line):
        return cell_len(line)
    return max((min(_WORD_WIDTH, cell_len(word)) for word in line.split()), default=0)
