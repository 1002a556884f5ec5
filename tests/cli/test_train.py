"""`train` and `status` as a user types them, on a study that trains in seconds."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest
from stable_baselines3 import PPO

from shaperun.runs.study_folder import StudyFolder
from tests.conftest import Shaperun, call_shaperun
from tests.helpers.forgery import tree


def test_train_finishes_all_runs(trained: Path) -> None:
    folder = StudyFolder(trained / "results" / "tiny")
    for arm in ("default", "guided"):
        for seed in (0, 1):
            run = folder.run(arm, seed)
            assert run.read_state() == "done"
            assert PPO.load(run.policy, device="cpu").num_timesteps == 2000
            assert len(pl.read_csv(run.evaluations).filter(timesteps=2000)) == 8
            assert run.log.exists()
    assert folder.study.exists()


def test_finished_runs_are_skipped(copy: Path, shaperun: Shaperun) -> None:
    before = tree(copy / "results" / "tiny" / "runs")
    again = shaperun("train", "tiny.yaml")
    assert again.returncode == 0
    assert "4 of 4 runs finished" in again.stderr
    assert tree(copy / "results" / "tiny" / "runs") == before


def test_a_lost_run_is_reproduced(copy: Path, shaperun: Shaperun) -> None:
    run = StudyFolder(copy / "results" / "tiny").run("guided", 1)
    before = run.evaluations.read_bytes()
    (run.path / "DONE.json").unlink()
    assert "interrupted" in shaperun("status", "tiny").stdout
    assert shaperun("train", "tiny.yaml", "--workers", "1").returncode == 0
    assert run.read_state() == "done"
    assert run.evaluations.read_bytes() == before


def test_status_lists_every_run(trained: Path) -> None:
    document = json.loads(call_shaperun("status", "--json", cwd=trained).stdout)
    assert document["study"] == "tiny"
    assert {(run["arm"], run["seed"]) for run in document["runs"]} == {
        (arm, seed) for arm in ("default", "guided") for seed in (0, 1)
    }
    for run in document["runs"]:
        assert (run["state"], run["timesteps"], run["total_timesteps"]) == ("done", 2000, 2000)


def test_dry_run_summarizes_many_runs_and_checks_what_train_checks(
    trained: Path, tiny_file: Path, shaperun: Shaperun
) -> None:
    done = shaperun("train", "tiny.yaml", "--dry-run", "--set", "seeds=10000")
    assert done.returncode == 0, done.stderr
    assert "PPO (engine lockstep), 20,000 runs of 2,000 steps" in done.stdout
    assert "20,000 waiting  ·  19,970 more runs not shown" in done.stdout
    assert len(done.stdout.splitlines()) < 40
    assert (
        "unknown executor x" in shaperun("train", "tiny.yaml", "--dry-run", "--executor=x").stderr
    )
    results = str(trained / "results")
    changed = (
        "train",
        "tiny.yaml",
        "--dry-run",
        "--results",
        results,
        "--set",
        "training.n_envs=2",
    )
    done = shaperun(*changed)
    assert done.returncode == 2
    assert "training.n_envs: 4 there, 2 here" in done.stderr
    assert shaperun(*changed, "--fresh").returncode == 0
    assert not (tiny_file.parent / "results").exists()


def test_dry_run_changes_nothing(tiny_file: Path, shaperun: Shaperun) -> None:
    done = shaperun("train", "tiny.yaml", "--dry-run", "--seeds", "1", "--arms", "guided")
    assert done.returncode == 0
    assert done.stdout.count("guided") == 2  # the arm, and its folder
    assert "waiting" in done.stdout
    assert list(tiny_file.parent.iterdir()) == [tiny_file]


def test_one_failing_run_does_not_stop_the_others(tiny_file: Path, shaperun: Shaperun) -> None:
    wild = '{mode: add, terms: {wild: "1e40 if abs(obs[2]) > 0.1 else 0"}, weights: {wild: 1}}'
    arms = f"arms={{default: {{}}, wild: {wild}}}"
    done = shaperun("train", "tiny.yaml", "--set", arms, "--set", "training.total_timesteps=400")
    assert done.returncode == 1
    assert "wild/0 failed: the shaped reward is out of range (1e+40); lower" in done.stderr
    assert "2 of 4 runs finished" in done.stderr
    folder = StudyFolder(tiny_file.parent / "results" / "tiny")
    assert "Traceback" in (folder.run("wild", 1).read_failure() or "")
    states = {run["state"] for run in json.loads(shaperun("status", "--json").stdout)["runs"]}
    assert states == {"done", "failed"}
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("kill", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_can_be_resumed(tiny_file: Path, kill: signal.Signals) -> None:
    folder = StudyFolder(tiny_file.parent / "results" / "tiny")
    command = [sys.executable, "-m", "shaperun", "train", "tiny.yaml"]
    long = [
        "--set",
        "training.total_timesteps=100_000_000",
        "--set",
        "evaluation.every=100_000_000",
    ]
    process = subprocess.Popen(
        [*command, *long], cwd=tiny_file.parent, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    while not folder.run("default", 0).read_progress() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(kill)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "0 of 4 runs finished" in errors
    assert "shaperun train tiny.yaml --set" in errors
    assert "Traceback" not in errors
    assert folder.run("default", 0).read_state() == "interrupted"


def test_a_changed_study_is_not_overwritten(copy: Path, shaperun: Shaperun) -> None:
    before = tree(copy)
    text = (copy / "tiny.yaml").read_text().replace("gamma: 0.98", "gamma: 0.9")
    changed = ["--set", "training.hyperparameters.gamma=0.9"]
    for verb in (["train"], ["compare"], ["record-gif"], ["train", "--arms", "guided"]):
        done = shaperun(verb[0], "tiny.yaml", *changed, *verb[1:])
        assert done.returncode == 2
        assert "training.hyperparameters.gamma: 0.98 there, 0.9 here" in done.stderr
    assert tree(copy) == before
    (copy / "tiny.yaml").write_text(text)
    done = shaperun("train", "tiny.yaml", "--fresh", "--set", "training.total_timesteps=400")
    assert done.returncode == 0, done.stderr


def test_new_arms_and_seeds_are_accepted(copy: Path, shaperun: Shaperun) -> None:
    more = ["--set", "arms.plain={}", "--seeds", "0"]
    done = shaperun("train", "tiny.yaml", *more)
    assert done.returncode == 0, done.stderr
    assert StudyFolder(copy / "results" / "tiny").run("plain", 0).read_state() == "done"


def test_a_repeated_option_adds_names(tiny_file: Path, shaperun: Shaperun) -> None:
    both = ("--arms", "default", "--arms", "guided")
    done = shaperun("train", "tiny.yaml", "--dry-run", *both, "--seeds", "1", "--seeds", "0")
    assert "4 runs of 2,000 steps" in done.stdout
