"""`sweep` on the command line."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import yaml

from shaperun.runs.study_folder import StudyFolder
from tests.conftest import SEARCHED, Shaperun


def test_a_sweep_is_trained_and_ranked(tiny_file: Path, shaperun: Shaperun) -> None:
    sweep = "sweep={base: guided, method: grid, weights: {upright: [0, 1], centred: [0.5]}}"
    small = ["--set", "training.total_timesteps=400", "--set", "seeds=1", "--set", sweep]
    done = shaperun("sweep", "tiny.yaml", *small)
    assert done.returncode == 0, done.stderr
    folder = StudyFolder(tiny_file.parent / "results" / "tiny")
    ranking = pl.read_csv(folder.sweep / "ranking.csv")
    assert set(ranking["arm"]) == {"upright=0_centred=0.5", "upright=1_centred=0.5"}
    assert ranking["return"].is_sorted(descending=True)
    names = {path.name for path in folder.sweep.iterdir()}
    assert {"response-upright.png", "heatmap-upright-centred.svg", "ranking.json"} <= names
    assert "no sweep" in shaperun("sweep", "tiny.yaml").stderr


def test_a_sweep_that_has_not_begun_is_described(tmp_path: Path, shaperun: Shaperun) -> None:
    (tmp_path / "searched.yaml").write_text(yaml.safe_dump(SEARCHED))
    done = shaperun("sweep", "searched.yaml", "--dry-run")
    assert "6 trials × 2 seeds × 400 steps" in done.stdout
    assert "No trial has been drawn yet." in done.stdout
