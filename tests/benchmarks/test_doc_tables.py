"""Tables are written between the marks of a page, by complete runs only."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.doc_tables import format_table, publish, replace_block

PAGE = "a\n<!-- arms: begin -->\nold\n<!-- arms: end -->\nz <!-- hard: begin --><!-- hard: end -->"


def test_table_aligns_text_left_and_numbers_right() -> None:
    table = format_table([["population", "runs", "mean"], ["normal", 3000, "–"]])
    assert table.splitlines() == [
        "| population | runs | mean |",
        "| --- | ---: | ---: |",
        "| normal | 3,000 | – |",
    ]


def test_only_the_named_block_is_replaced() -> None:
    page = replace_block(PAGE, "arms", r"new \1")
    assert page == PAGE.replace("old", r"new \1")


def test_page_without_marks_is_left_unchanged(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(PAGE, encoding="utf-8")
    with pytest.raises(ValueError, match="lacks the marks <!-- legs: begin -->"):
        publish(page, {"arms": "new", "legs": "new"}, complete=True)
    assert page.read_text(encoding="utf-8") == PAGE


def test_incomplete_run_is_printed_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "page.md"
    page.write_text(PAGE, encoding="utf-8")
    publish(page, {"arms": "new"}, complete=False)
    assert page.read_text(encoding="utf-8") == PAGE
    publish(page, {"arms": "new"}, complete=True)
    assert page.read_text(encoding="utf-8") == PAGE.replace("old", "new")
    assert capsys.readouterr().out == "new\nnew\n"
    assert list(tmp_path.iterdir()) == [page]
