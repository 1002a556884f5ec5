"""Tables of evaluation episodes, and the metrics and curves made from them."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from shaperun.analysis import comparison, results
from shaperun.envs.builtin import environments
from shaperun.envs.metrics import metric_names
from shaperun.report import files
from shaperun.runs.plan import plan_runs
from shaperun.runs.study_folder import StudyFolder
from shaperun.study.loader import load_study
from shaperun.study.models import Study

CARTPOLE = environments()["CartPole-v1"]


@pytest.fixture(scope="module")
def study(trained: Path) -> Study:
    return load_study(trained / "tiny.yaml")


@pytest.fixture(scope="module")
def folder(trained: Path) -> StudyFolder:
    return StudyFolder(trained / "results" / "tiny")


@pytest.fixture(scope="module")
def episodes(study: Study, folder: StudyFolder) -> pl.DataFrame:
    return results.LoadedRuns(folder).episodes(plan_runs(study, study.arms))


def test_table_has_every_episode_of_every_run(episodes: pl.DataFrame) -> None:
    # 2 arms × 2 seeds × (5 episodes at 0, 500, 1000, 1500 and 8 at the end)
    assert len(episodes) == 2 * 2 * (4 * 5 + 8)
    assert episodes["done"].all()
    assert episodes.group_by("arm", "seed").len().height == 4


def test_runs_that_failed_are_no_missing_training(study: Study, folder: StudyFolder) -> None:
    known = results.recorded_runs(study.study, folder, plan_runs(study, study.arms))
    failed = [replace(known[0], state="failed"), *[replace(k, state="waiting") for k in known[1:]]]
    assert results.explain_no_results("tiny", folder, failed).startswith("runs of tiny failed")
    missing = results.explain_no_results("tiny", folder, failed[1:])
    assert missing.startswith("no arm of tiny has been trained into")


def test_torn_line_of_an_unfinished_run_is_ignored(
    study: Study, folder: StudyFolder, tmp_path: Path
) -> None:
    shutil.copytree(folder.path, tmp_path, dirs_exist_ok=True)
    copy = StudyFolder(tmp_path)
    run = copy.run("default", 0)
    (run.path / "DONE.json").unlink()
    run.evaluations.write_bytes(run.evaluations.read_bytes()[:-40])
    table = results.LoadedRuns(copy).episodes(plan_runs(study, study.arms))
    assert len(table) == 2 * 2 * 28 - 1
    assert not table.filter(arm="default", seed=0)["done"].any()
    assert len(results.final_episodes(table)) == 3 * 8


def test_curves_are_means_over_the_same_starts(study: Study, episodes: pl.DataFrame) -> None:
    curves = results.learning_curves(episodes, first=5)
    assert len(curves) == 2 * 2 * 5
    one = curves.filter(arm="guided", seed=1, timesteps=2000)["return"].item()
    raw = episodes.filter(arm="guided", seed=1, timesteps=2000)
    assert one == pytest.approx(raw.filter(pl.col("episode") < 5)["return"].to_numpy().mean())
    assert study.evaluation.episodes == 5


def test_metrics_are_means_over_the_final_episodes(episodes: pl.DataFrame) -> None:
    final = results.final_episodes(episodes)
    assert set(final["timesteps"]) == {2000}
    table = results.run_metrics(final, CARTPOLE)
    assert table.columns == ["arm", "seed", *metric_names(CARTPOLE)]
    for row in table.iter_rows(named=True):
        rows = final.filter(arm=row["arm"], seed=row["seed"])
        assert row["return"] == pytest.approx(rows["return"].to_numpy().mean())
        assert row["success_rate"] == (rows["outcome"] == "balanced").sum() / 8
        assert row["fell_rate"] == (rows["outcome"] == "fell").sum() / 8


def test_outcome_shares_add_up(study: Study, episodes: pl.DataFrame) -> None:
    shares = results.outcome_shares(results.final_episodes(episodes), study, CARTPOLE)
    assert shares.group_by("arm").agg(pl.col("share").sum())["share"].to_list() == [1.0, 1.0]


def test_contributions_add_up_to_the_shaped_return(study: Study, episodes: pl.DataFrame) -> None:
    final = results.final_episodes(episodes)
    paid = results.mean_contributions(final, study)
    assert paid.filter(arm="default")["term"].to_list() == ["environment"]
    assert set(paid.filter(arm="guided")["term"]) == {"environment", "upright", "centred"}
    for arm in study.arms:
        total = paid.filter(arm=arm)["contribution"].to_numpy().sum()
        shaped = final.filter(arm=arm)["shaped_return"].to_numpy().mean()
        assert np.isclose(total, shaped)


def test_files_are_repeatable_byte_for_byte(
    study: Study, folder: StudyFolder, tmp_path: Path
) -> None:
    compared = comparison.compare_arms(study, folder)
    first = files.write_comparison(compared, tmp_path / "one")
    second = files.write_comparison(comparison.compare_arms(study, folder), tmp_path / "two")
    assert [p.read_bytes() for p in first] == [p.read_bytes() for p in second]
    assert {p.name for p in first} == {
        *(f"{stem}.{kind}" for stem in ("curves", "outcomes", "terms") for kind in ("png", "svg")),
        *(f"{stem}.{kind}" for stem in ("runs", "episodes") for kind in ("csv", "parquet")),
        "summary.csv",
        "summary.json",
    }
