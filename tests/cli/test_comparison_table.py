"""The comparison in the terminal."""

from __future__ import annotations

import io
from pathlib import Path

import polars as pl
from rich.console import Console

from shaperun.analysis.comparison import compare_studies
from shaperun.analysis.summary import format_difference, format_estimate
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


def test_verdicts_are_about_the_metric_of_the_ranking(trained: Path) -> None:
    for by, words in (("return", "Environment return"), ("fell_rate", "Fell rate")):
        comparison = compare_studies([open_study("tiny", trained / "results")], by)
        [compared] = comparison.summary.compared_in(by).values()
        difference, interval = format_difference(compared.result)
        console = Console(file=io.StringIO(), width=400)
        print_comparison(comparison, console)
        shown = console.file.getvalue()  # type: ignore[attr-defined]
        start = f"guided against default: {compared.result.verdict}. {words} {difference}"
        sentence = next(line for line in shown.splitlines() if line.startswith(start))
        assert "2 against 2 runs are too few" in sentence
        assert ("Over training: " in sentence) == (by == "return")
        header, row = (line.split() for line in shown.splitlines()[:2])
        assert ("difference" in header) == (by != "return")
        if by != "return":
            assert header[2:6] == ["fell", "rate", "difference", "verdict"]
            assert {difference, compared.result.verdict.split()[0]} <= {*shown.split()}
            assert row[0] in ("guided", "default")
        assert interval in shown


def test_summary_table_has_the_verdicts_on_all_metrics(trained: Path) -> None:
    result = compare_studies([open_study("tiny", trained / "results")], "length").summary
    table = result.table()
    for metric in result.arms[0].metrics:
        [compared] = result.compared_in(metric).values()
        row = table.row(by_predicate=pl.col("arm") == "guided", named=True)
        assert row[f"{metric}_verdict"] == compared.result.verdict
        assert row[f"{metric}_difference"] == compared.result.difference
        assert row[f"{metric}_p_adjusted"] == compared.p_adjusted
        assert table.filter(arm="default")[f"{metric}_verdict"].to_list() == [None]


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
