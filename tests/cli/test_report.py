"""`compare` and `record-gif` on a trained study."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import polars as pl
from PIL import Image

from shaperun.runs.study_folder import StudyFolder
from tests.conftest import Shaperun


def test_compare_prints_and_writes_results(copy: Path, shaperun: Shaperun) -> None:
    done = shaperun("compare")
    assert done.returncode == 0, done.stderr
    words = (
        "default",
        "guided",
        "return",
        "success rate",
        "underpowered",
        "seeds per arm",
        "Over training",
    )
    for word in words:
        assert word in done.stdout
    compare = StudyFolder(copy / "results" / "tiny").compare
    stems = ["curves", "outcomes", "terms"]
    names = {f"{stem}.{kind}" for stem in stems for kind in ("png", "svg")}
    names |= {f"{table}.{kind}" for table in ("runs", "episodes") for kind in ("csv", "parquet")}
    assert {path.name for path in compare.iterdir()} == names | {"summary.csv", "summary.json"}
    document = json.loads((compare / "summary.json").read_text())
    assert json.loads(shaperun("compare", "tiny.yaml", "--json").stdout) == document
    assert document["baseline"] == "default"
    assert document["arms"]["guided"]["runs"] == 2
    assert document["arms"]["guided"]["return"].keys() >= {"mean", "iqm", "low", "high", "level"}
    keys = {"arm", "baseline", "metric", "difference", "low", "high", "p_value", "verdict"}
    assert all(keys <= comparison.keys() for comparison in document["comparisons"])
    table = pl.read_csv(compare / "summary.csv")
    assert set(table["arm"]) == {"default", "guided"}
    before = {path: path.read_bytes() for path in compare.iterdir()}
    assert shaperun("compare", "tiny").returncode == 0
    assert {path: path.read_bytes() for path in compare.iterdir()} == before


def test_compare_reports_missing_runs(copy: Path, shaperun: Shaperun) -> None:
    folder = StudyFolder(copy / "results" / "tiny")
    shutil.rmtree(folder.run("guided", 0).path)
    (folder.run("guided", 1).path / "DONE.json").unlink()
    done = shaperun("compare", "tiny")
    assert done.returncode == 0
    assert "Not finished: 2 of 4 runs (1 waiting, 1 interrupted)" in done.stdout
    assert list(json.loads(shaperun("compare", "--json").stdout)["arms"]) == ["default"]


def test_arms_are_never_ranked_by_a_shaped_return(copy: Path, shaperun: Shaperun) -> None:
    done = shaperun("compare", "tiny", "--by", "shaped_return")
    assert done.returncode == 2
    assert "units of its own reward" in done.stderr
    assert shaperun("compare", "tiny", "--by", "length").returncode == 0
    assert "unknown metric size" in shaperun("compare", "tiny", "--by", "size").stderr


def test_gifs_replay_the_recorded_episode(copy: Path, shaperun: Shaperun) -> None:
    done = shaperun("record-gif", "tiny")
    assert done.returncode == 0, done.stderr
    folder = StudyFolder(copy / "results" / "tiny")
    assert {path.name for path in folder.gifs.iterdir()} == {
        "default.gif",
        "guided.gif",
        "side-by-side.gif",
    }
    assert "trained elsewhere" not in done.stderr  # the replay is bit-identical
    with Image.open(folder.gifs / "side-by-side.gif") as gif:
        assert gif.size[0] > gif.size[1]
        assert getattr(gif, "n_frames", 1) > 1
    assert shaperun("record-gif", "tiny", "--episode-seed", "8").returncode == 2
    assert shaperun("record-gif", "tiny", "--seed", "9").returncode == 2
