from __future__ import annotations

import shutil
import struct
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from tensorboardX.proto.event_pb2 import Event

from shaperun.common.errors import UserError
from shaperun.runs import prepare
from shaperun.runs.plan import plan_runs
from shaperun.runs.run_folder import RunFolder
from shaperun.runs.study_folder import StudyFolder
from shaperun.runs.train_options import TrainOptions
from shaperun.study.loader import load_study
from shaperun.study.models import RunConfig, parse_study
from shaperun.training.tensorboard import EventFile
from shaperun.training.train import train_run
from tests.conftest import Shaperun

Scalars = dict[str, dict[int, float]]


def read_scalars(folder: Path) -> Scalars:
    """Return name -> timesteps -> value of the event file in a folder."""
    (path,) = folder.iterdir()
    data, scalars, offset = path.read_bytes(), Scalars(), 0
    while offset < len(data):
        (length,) = struct.unpack_from("<Q", data, offset)
        event = Event.FromString(data[offset + 12 : offset + 12 + length])
        offset += 12 + length + 4  # between two checksums
        for value in event.summary.value:
            scalars.setdefault(value.tag, {})[event.step] = value.simple_value
    return scalars


def make_config(steps: int = 512) -> RunConfig:
    hyperparameters = {"n_steps": 32, "batch_size": 64, "n_epochs": 2, "gamma": 0.9}
    training = {"total_timesteps": steps, "n_envs": 4, "hyperparameters": hyperparameters}
    study = parse_study(
        {
            "study": "test",
            "environment": {"id": "CartPole-v1"},
            "training": training,
            "evaluation": {"every": 200, "episodes": 4, "final_episodes": 6},
            "arms": {"arm": {"mode": "add", "weights": {"upright": 2}}},
        }
    )
    return study.run_config(study.arms["arm"], 0)


@pytest.fixture(scope="module")
def logged_run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """Train a run with event files; tests must not change it."""
    folder = RunFolder(tmp_path_factory.mktemp("logged_run") / "run")
    train_run(folder, make_config(), TrainOptions(tensorboard=True))
    return folder


def test_points_are_means_since_the_last_point(tmp_path: Path) -> None:
    events = EventFile(tmp_path / "events", ["fell", "balanced"])
    row = {"timesteps": 9, "copy": 0, "length": 10, "outcome": "fell", "return": 10.0}
    row |= {"shaping": 1.0, "shaped_return": 11.0, "sum_upright": -3.0}
    events.write_episodes(0)  # no episodes, no point
    events.add_episode(row)
    events.add_episode(row | {"return": 20.0, "outcome": "balanced", "schedule": 0.5})
    events.write_episodes(100)
    events.add_episode(row)
    events.write_episodes(200)
    events.write_update(200, {"loss": 0.25, "std": ""})
    scalars = read_scalars(tmp_path / "events")  # flushed before it is closed
    events.close()
    assert scalars["environment/return"] == {100: 15.0, 200: 10.0}
    assert scalars["environment/outcome/fell"] == {100: 0.5, 200: 1.0}
    assert scalars["environment/outcome/balanced"] == {100: 0.5, 200: 0.0}
    assert scalars["shaped/return"] == {100: 11.0, 200: 11.0}
    assert scalars["term/upright"] == {100: -3.0, 200: -3.0}
    assert scalars["train/loss"] == {200: 0.25}
    assert "train/std" not in scalars


def test_scalars_match_the_recorded_tables(logged_run: RunFolder) -> None:
    scalars = read_scalars(logged_run.tensorboard)
    names = {"environment/return", "environment/length", "shaped/return", "shaped/shaping"}
    names |= {f"environment/outcome/{name}" for name in ("balanced", "fell", "off_track")}
    names |= {f"term/{name[4:]}" for name in pl.read_csv(logged_run.episodes).columns[7:]}
    assert "term/upright" in names
    assert {name for name in scalars if not name.startswith(("train/", "evaluation/"))} == names
    assert {n for n in scalars if n.startswith("evaluation/")} == {f"evaluation/{n}" for n in names}
    columns = pl.col("return", "shaped_return")
    evaluations = pl.read_csv(logged_run.evaluations).group_by("timesteps").agg(columns.mean())
    for row in evaluations.iter_rows(named=True):
        step = row["timesteps"]
        for name, column in (("environment", "return"), ("shaped", "shaped_return")):
            assert scalars[f"evaluation/{name}/return"][step] == pytest.approx(row[column])
    updates = dict(pl.read_csv(logged_run.updates).select("timesteps", "value_loss").iter_rows())
    assert scalars["train/value_loss"] == pytest.approx(updates)
    assert max(scalars["environment/return"]) == 512  # up to the last episodes
    assert not any("rollout" in name or "rew" in name for name in scalars)


def test_event_files_do_not_change_training(logged_run: RunFolder, tmp_path: Path) -> None:
    plain = RunFolder(tmp_path / "run")
    train_run(plain, make_config())
    for name in ("episodes", "evaluations", "updates"):
        assert getattr(plain, name).read_bytes() == getattr(logged_run, name).read_bytes()
    assert plain.read_identity() == logged_run.read_identity()
    assert {path.name for path in logged_run.path.iterdir()} == {
        "tensorboard",
        *(path.name for path in plain.path.iterdir()),
    }


def test_a_run_is_complete_without_event_files(logged_run: RunFolder, tmp_path: Path) -> None:
    run = RunFolder(Path(shutil.copytree(logged_run.path, tmp_path / "run")))
    assert run.read_state() == "done"
    shutil.rmtree(run.tensorboard)
    assert run.read_state() == "done"


def test_event_files_of_an_unfinished_run_are_replaced(
    logged_run: RunFolder, tmp_path: Path
) -> None:
    run = RunFolder(Path(shutil.copytree(logged_run.path, tmp_path / "run")))
    (run.path / "DONE.json").unlink()
    (run.tensorboard / "events.out.tfevents.1").write_text("stale")
    train_run(run, make_config(128), TrainOptions(tensorboard=True))
    assert max(read_scalars(run.tensorboard)["environment/return"]) == 128
    (run.path / "DONE.json").unlink()
    train_run(run, make_config(128))
    assert not run.tensorboard.exists()


def test_tensorboard_is_imported_only_if_used() -> None:
    code = (
        "import sys, shaperun.training.train; "
        "assert not {'tensorboardX', 'shaperun.training.tensorboard'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_missing_extra_is_named(tiny_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = load_study(tiny_file)
    runs, folder = plan_runs(study, study.arms), StudyFolder(tiny_file.parent / "results")
    monkeypatch.setattr(prepare, "find_spec", lambda name: None if name == "tensorboardX" else name)
    with pytest.raises(UserError, match=r'pip install "shaperun\[tensorboard\]"'):
        prepare.prepare(study, folder, runs, TrainOptions(tensorboard=True), fresh=True)
    assert not folder.path.exists()
    prepare.prepare(study, folder, runs, fresh=True)


def test_the_option_reaches_the_workers(tiny_file: Path, shaperun: Shaperun) -> None:
    small = ["--set", "training.total_timesteps=400", "--arms", "guided", "--seeds", "1"]
    done = shaperun("train", "tiny.yaml", *small, "--tensorboard")
    assert done.returncode == 0, done.stderr
    run = StudyFolder(tiny_file.parent / "results" / "tiny").run("guided", 1)
    scalars = read_scalars(run.tensorboard)
    assert scalars["evaluation/shaped/return"].keys() == {0, 400}
    assert "[tensorboard]" in " ".join(shaperun("train", "--help").stdout.split())
