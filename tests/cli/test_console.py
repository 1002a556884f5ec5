"""Tables in terminals of any width."""

from __future__ import annotations

import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from shaperun.cli.console import Column, number_column, print_tables

NAMES = st.text("abc-_", min_size=1, max_size=64)
NUMBERS = st.floats(-1e12, 1e12).map(lambda value: f"{value:,.1f}")
ROWS = st.integers(1, 3)


def show(columns: list[Column], width: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width)
    print_tables(columns, console)
    return console.file.getvalue().splitlines()  # type: ignore[attr-defined, no-any-return]


# A folded label and the longest of these numbers take 42 columns.
@given(st.data(), ROWS, st.integers(1, 8), st.integers(42, 120))
def test_no_number_is_cut_or_wrapped(
    data: st.DataObject, rows: int, count: int, width: int
) -> None:

    def draw(cells: st.SearchStrategy[str]) -> list[str]:
        return data.draw(st.lists(cells, min_size=rows, max_size=rows))

    numbers = [draw(NUMBERS) for _ in range(count)]
    columns = [Column("arm", draw(NAMES), is_label=True)]
    columns += [
        number_column("mean return", [f"{n}\n[{n}, 0]" for n in cells]) for cells in numbers
    ]
    lines = show(columns, width)
    words = " ".join(lines)
    assert "…" not in words
    for number in (number for cells in numbers for number in cells):
        assert re.search(rf"(^| ){re.escape(number)}( |$)", words)
        assert any(f"[{number}, 0]" in line for line in lines)
    assert max(map(len, lines)) <= width


def test_columns_without_room_follow_below_with_their_labels() -> None:
    columns = [Column("arm", ["first", "second"], is_label=True)]
    columns += [number_column(f"metric {n}", [f"{n}00,000.0", f"{n}.0"]) for n in range(1, 5)]
    assert [line.split() for line in show(columns, 30)] == [
        ["arm", "metric", "1", "metric", "2"],
        ["first", "100,000.0", "200,000.0"],
        ["second", "1.0", "2.0"],
        [],
        ["arm", "metric", "3", "metric", "4"],
        ["first", "300,000.0", "400,000.0"],
        ["second", "3.0", "4.0"],
    ]


@pytest.mark.parametrize("width", [40, 80, 120])
def test_long_names_are_folded(width: int) -> None:
    name = "a" * 64
    lines = show([Column("arm", [name], is_label=True), number_column("x", ["1.5"])], width)
    assert "".join(line.split()[0] for line in lines[1:]) == name
    assert max(map(len, lines)) <= width
