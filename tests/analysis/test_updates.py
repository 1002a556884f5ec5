"""Statistics of the learners' updates, and the cost of training."""

from __future__ import annotations

import shutil
from pathlib import Path

import polars as pl
import pytest

from shaperun.analysis.updates import training_cost, update_statistics
from shaperun.runs.open_study import open_study
from shaperun.runs.plan import Run, plan_runs
from shaperun.runs.status import RunStatus, read_run_status
from shaperun.runs.study_folder import StudyFolder

EVERY = 200  # steps between updates: n_steps · n_envs
UPDATES = 2000 // EVERY


@pytest.fixture
def copy(trained: Path, tmp_path: Path) -> tuple[StudyFolder, list[Run]]:
    """A copy of the trained runs, to damage."""
    study, folder = open_study("tiny", trained / "results")
    shutil.copytree(folder.path, tmp_path / "tiny")
    return StudyFolder(tmp_path / "tiny"), plan_runs(study, study.arms)


def test_table_has_every_update_of_every_run(trained: Path) -> None:
    study, folder = open_study("tiny", trained / "results")
    table = update_statistics(folder, plan_runs(study, study.arms))
    assert len(table) == 2 * 2 * UPDATES
    for arm in study.arms:
        for seed in study.seeds:
            steps = table.filter(arm=arm, seed=seed)["timesteps"].to_list()
            assert steps == list(range(EVERY, 2000 + EVERY, EVERY))
    assert table["entropy"].is_between(0, 0.6932).all()  # at most ln 2, and not the loss
    assert (table["entropy"] == -table["entropy_loss"]).all()
    # A policy over discrete actions has no standard deviation, but the column exists.
    assert table["std"].null_count() == len(table)
    numbers = pl.all().exclude("arm", "seed", "timesteps")
    assert set(table.select(numbers).schema.values()) == {pl.Float64()}


def test_torn_last_line_is_ignored(copy: tuple[StudyFolder, list[Run]]) -> None:
    folder, runs = copy
    path = folder.run("guided", 1).updates
    path.write_bytes(path.read_bytes()[:-5])
    table = update_statistics(folder, runs)
    assert len(table) == 4 * UPDATES - 1
    assert table.filter(arm="guided", seed=1)["timesteps"].max() == 2000 - EVERY


def test_runs_without_updates_are_left_out(copy: tuple[StudyFolder, list[Run]]) -> None:
    folder, runs = copy
    for run in runs:
        path = folder.run(run.arm, run.seed).updates
        if (run.arm, run.seed) == ("default", 0):
            path.unlink()
        elif (run.arm, run.seed) != ("guided", 1):
            path.write_bytes(path.read_bytes().split(b"\n")[0] + b"\n")
    table = update_statistics(folder, runs)
    assert table.select("arm", "seed").unique().rows() == [("guided", 1)]
    folder.run("guided", 1).updates.unlink()
    assert update_statistics(folder, runs).is_empty()
    assert update_statistics(folder, []).is_empty()


@pytest.mark.parametrize("content", [b"", b"timesteps,appr"])
def test_run_interrupted_in_its_first_line(
    copy: tuple[StudyFolder, list[Run]], content: bytes
) -> None:
    folder, runs = copy
    folder.run("guided", 1).updates.write_bytes(content)
    assert len(update_statistics(folder, runs)) == 3 * UPDATES


def test_missing_and_non_finite_statistics_are_kept(copy: tuple[StudyFolder, list[Run]]) -> None:
    folder, runs = copy
    header = folder.run("guided", 1).updates.read_text().split("\n")[0]
    columns = {name: index for index, name in enumerate(header.split(","))}

    def row(steps: int, **values: str) -> str:
        cells = [str(steps), *["0.5"] * (len(columns) - 1)]
        for name, value in values.items():
            cells[columns[name]] = value
        return ",".join(cells)

    rows = [
        row(200, explained_variance="nan", value_loss="inf", entropy_loss="-0.25", std=""),
        row(400, value_loss="", entropy_loss="", std=""),
        row(600, explained_variance="0", value_loss="7", std=""),
    ]
    folder.run("guided", 1).updates.write_text("\n".join([header, *rows, ""]))
    table = update_statistics(folder, runs).filter(arm="guided", seed=1)
    assert table["value_loss"].to_list() == [float("inf"), None, 7.0]
    assert table["explained_variance"].is_nan().to_list() == [True, False, False]
    assert table["entropy"].to_list() == [0.25, None, -0.5]
    assert table["std"].to_list() == [None] * 3


def test_costs_add_up_in_core_seconds() -> None:
    states = [
        RunStatus(
            "a", 0, "done", timesteps=1000, seconds=20.0, core_seconds=10.0, evaluation_seconds=6.0
        ),
        RunStatus("b", 0, "done", timesteps=500, seconds=2.0, core_seconds=1.0),
        RunStatus("a", 1, "failed", timesteps=200, seconds=10.0, core_seconds=5.0),
        RunStatus("a", 2, "waiting"),
        RunStatus("c", 0, "waiting"),
    ]
    assert training_cost(states).to_dicts() == [
        {"arm": "a", "runs": 2, "timesteps": 1200, "seconds": 15.0, "steps_per_second": 50.0},
        {"arm": "b", "runs": 1, "timesteps": 500, "seconds": 1.0, "steps_per_second": 250.0},
    ]
    assert training_cost(states[3:]).is_empty()
    assert training_cost([]).columns == ["arm", "runs", "timesteps", "seconds", "steps_per_second"]


def test_cost_of_trained_runs(trained: Path) -> None:
    study, folder = open_study("tiny", trained / "results")
    states = [read_run_status(folder, run) for run in plan_runs(study, study.arms)]
    table = training_cost(states)
    assert table.select("arm", "runs", "timesteps").rows() == [
        ("default", 2, 4000),
        ("guided", 2, 4000),
    ]
    for row in table.iter_rows(named=True):
        seconds = sum(s.core_seconds for s in states if s.arm == row["arm"])
        assert row["seconds"] == pytest.approx(seconds) != 0
        training = sum(s.seconds - s.evaluation_seconds for s in states if s.arm == row["arm"])
        assert row["steps_per_second"] == pytest.approx(4000 / training)
    assert all(0 < s.evaluation_seconds < s.seconds for s in states)
    assert {s.evaluation_seconds_left for s in states} == {0.0}
