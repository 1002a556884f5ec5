"""The comparison in the terminal."""

from __future__ import annotations

import io
from pathlib import Path

from rich.console import Console

from shaperun.analysis.comparison import compare_studies
from shaperun.analysis.summary import format_estimate
from shaperun.cli.comparison_table import print_comparison
from shaperun.runs.open_study import open_study


def test_no_digit_is_cut_in_a_narrow_terminal(trained: Path) -> None:
    comparison = compare_studies([open_study("tiny", trained / "results")], "return")
    console = Console(file=io.StringIO(), width=30)
    print_comparison(comparison, console)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "…" not in shown
    for arm in comparison.summary.arms:
        for name, estimate in arm.metrics.items():
            for text in format_estimate(name, estimate):
                assert all(word in shown for word in text.split())


def test_equal_rates_take_one_line(trained: Path) -> None:
    comparison = compare_studies([open_study("tiny", trained / "results")], "return")
    console = Console(file=io.StringIO(), width=80)
    print_comparison(comparison, console)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert shown.count("identical") > 2
    assert "identical in" not in shown
    assert "identical: the same in all runs." in " ".join(shown.split())


def test_two_runs_per_arm_are_compared_without_a_test(trained: Path) -> None:
    comparison = compare_studies([open_study("tiny", trained / "results")], "return")
    console = Console(file=io.StringIO(), width=500)
    print_comparison(comparison, console)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "2 against 2 runs are too few for an interval or a test." in shown
    assert "p = " not in shown
    assert "Interquartile means over runs, with the range of the two runs" in shown
