"""Exported tables: complete, equal in both formats, and harmless to spreadsheets."""

from __future__ import annotations

import csv
from pathlib import Path

import polars as pl
import pytest

from shaperun.analysis import comparison, tables
from shaperun.analysis.comparison import StudyComparison
from shaperun.envs.metrics import metric_names
from shaperun.runs.study_folder import StudyFolder
from shaperun.study.loader import load_study


@pytest.fixture(scope="module")
def compared(trained: Path) -> StudyComparison:
    study = load_study(trained / "tiny.yaml")
    return comparison.compare_arms(study, StudyFolder(trained / "results" / "tiny"))


def test_runs_table_has_one_row_per_run(compared: StudyComparison) -> None:
    table = compared.runs
    names = metric_names(compared.study.environment.describe())
    learning = ["auc", "steps_to_solved", "solved"]
    assert table.columns == ["study", "arm", "seed", *names, *learning]
    keys = table.select("study", "arm", "seed").rows()
    assert keys == [("tiny", arm, seed) for arm in ("default", "guided") for seed in (0, 1)]


def test_episodes_table_has_one_row_per_episode(compared: StudyComparison) -> None:
    table = compared.episodes
    assert table.columns[:4] == ["study", "arm", "seed", "finished"]
    assert {"timesteps", "episode_seed", "outcome", "return", "shaping", "shaped_return"} <= set(
        table.columns
    )
    assert {"sum_upright", "sum_push_right"} <= set(table.columns)
    assert len(table) == 2 * 2 * (4 * 5 + 8)
    assert table["finished"].all()
    assert table.rows() == table.sort("arm", "seed", "timesteps", "episode").rows()
    assert table.schema["terminated"] == pl.Boolean


def test_both_formats_are_equal(compared: StudyComparison, tmp_path: Path) -> None:
    table = compared.episodes
    text, columnar = tables.write_table(table, tmp_path / "episodes")
    assert (text.name, columnar.name) == ("episodes.csv", "episodes.parquet")
    assert pl.read_parquet(columnar).equals(table)
    assert pl.read_csv(text, schema_overrides=table.schema).equals(table)


def test_equal_tables_give_equal_bytes(compared: StudyComparison, tmp_path: Path) -> None:
    table = compared.episodes
    first = tables.write_table(table, tmp_path / "one")
    second = tables.write_table(table.clone(), tmp_path / "two")
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n", "＝"])
def test_formulas_are_escaped(start: str, tmp_path: Path) -> None:
    evil = f'{start}HYPERLINK("http://example.org","see")'
    table = pl.DataFrame({"arm": ["default", evil], "return": [1.0, -2.0]})
    text, columnar = tables.write_table(table, tmp_path / "runs")
    with text.open(encoding="utf-8", newline="") as file:
        arms = [row["arm"] for row in csv.DictReader(file)]
    assert arms == ["default", f"'{evil}"]
    assert pl.read_parquet(columnar)["arm"].to_list() == arms
    assert pl.read_parquet(columnar)["return"].to_list() == [1.0, -2.0]  # numbers stay numbers


def test_formula_as_outcome_is_escaped(compared: StudyComparison, tmp_path: Path) -> None:
    episodes = compared.episodes.with_columns(outcome=pl.lit("=1+1"))
    text, _ = tables.write_table(episodes, tmp_path / "episodes")
    assert set(pl.read_csv(text)["outcome"]) == {"'=1+1"}
