"""Runs that start from the policy of another run."""

from __future__ import annotations

import re
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml
from gymnasium import spaces

from shaperun.common.errors import UserError
from shaperun.runs import open_study
from shaperun.runs.plan import Run, plan_runs
from shaperun.runs.study_folder import StudyFolder
from shaperun.runs.train_options import TrainOptions
from shaperun.training.normalization import ObservationScaling
from shaperun.training.run import open_run
from shaperun.training.start import check_starts
from shaperun.training.train import train_run
from tests.conftest import Shaperun, call_shaperun, made_once
from tests.helpers import toy
from tests.helpers.forgery import tree

PRE: dict[str, Any] = {
    "study": "pre",
    "environment": {"id": "CartPole-v1"},
    "training": {
        "total_timesteps": 400,
        "n_envs": 8,
        "hyperparameters": {"n_steps": 10, "batch_size": 40, "learning_rate": 0.01},
    },
    "seeds": 2,
    "evaluation": {"every": 200, "episodes": 3, "final_episodes": 3},
    "arms": {
        "default": {},
        "sb3": {"training": {"engine": "sb3"}},
        "grpo": {"training": {"algorithm": "GRPO"}},
        "dqn": {"training": {"algorithm": "DQN"}},
        "scaled": {"training": {"normalize": {"observations": True}}},
    },
}
LEARNERS: dict[str, tuple[str, dict[str, Any]]] = {
    "lockstep": ("pre/default", {}),
    "sb3": ("pre/sb3", {"engine": "sb3"}),
    "across engines": ("pre/default", {"engine": "sb3"}),
    "episodic": ("pre/grpo", {"algorithm": "GRPO"}),
    "an actor": ("pre/default", {"algorithm": "GRPO"}),
    "off-policy": ("pre/dqn", {"algorithm": "DQN"}),
    "a file": ("results/pre/runs/default/0/policy.zip", {}),
}


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    def train(folder: Path) -> None:
        (folder / "pre.yaml").write_text(yaml.safe_dump(PRE))
        done = call_shaperun("train", "pre.yaml", "-q", cwd=folder)
        assert done.returncode == 0, done.stderr

    return made_once(tmp_path_factory, "pre", train)


@pytest.fixture
def pre(original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(original, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def plan(start: str | None, training: dict[str, Any] | None = None, **sections: Any) -> list[Run]:
    own = {**(training or {}), **({"start_from": start} if start else {})}
    data = {**PRE, "study": "fine", "arms": {"arm": {"training": own}}, **sections}
    Path("fine.yaml").write_text(yaml.safe_dump(data))
    study, _ = open_study.open_study("fine.yaml", Path("results"))
    runs = plan_runs(study, study.arms)
    check_starts(study, runs)
    return runs


def evaluated(path: Path, *, last: bool = False) -> pl.DataFrame:
    """Return the first evaluation of a run, or its last one."""
    rows = pl.read_csv(path / "evaluations.csv").select("seed", "length", "return")
    assert len(rows) > 6
    return rows.tail(3) if last else rows.head(3)


@pytest.mark.parametrize("name", LEARNERS)
def test_the_first_evaluation_is_that_of_the_source(pre: Path, name: str) -> None:
    start, training = LEARNERS[name]
    run = plan(start, training)[0]
    arm = start.split("/")[-1] if not start.endswith(".zip") else "default"
    folder = StudyFolder(Path("results/fine")).run("arm", 0)
    train_run(folder, run.config)
    source = evaluated(pre / "results/pre/runs" / arm / "0", last=True)
    first = evaluated(folder.path)
    if name != "across engines":  # which round differently
        assert first.equals(source)
    other = StudyFolder(Path("results/other")).run("arm", 0)
    train_run(other, plan(None, training)[0].config)
    assert not evaluated(other.path).equals(first)


@pytest.mark.parametrize("engine", ["lockstep", "sb3"])
def test_normalization_comes_along(pre: Path, engine: str) -> None:
    run = plan("pre/scaled", {"normalize": {"observations": True}, "engine": engine})[0]
    folder = StudyFolder(Path("results/fine")).run("arm", 0)
    folder.path.mkdir(parents=True)
    source = ObservationScaling.load(StudyFolder(Path("results/pre")).run("scaled", 0), (4,))
    with open_run(folder, run.config) as opened:
        scaling = opened.scaling
        assert scaling is not None
        assert np.array_equal(scaling.mean, source.mean)
        assert np.array_equal(scaling.var, source.var)
        statistics: Any = opened.envs
        assert statistics.obs_rms.count == 400


@pytest.mark.parametrize("name", ["lockstep", "sb3", "episodic"])
def test_a_resumed_run_ends_in_the_same_bytes(pre: Path, name: str) -> None:
    run = plan(*LEARNERS[name])[0]
    whole, parts = (StudyFolder(Path("results") / study).run("arm", 0) for study in ("a", "b"))
    train_run(whole, run.config)
    train_run(parts, run.config, TrainOptions(until=100))
    shutil.rmtree("results/pre")  # a checkpoint has all that is needed
    train_run(parts, run.config)
    for table in ("episodes.csv", "evaluations.csv", "updates.csv"):
        assert (whole.path / table).read_bytes() == (parts.path / table).read_bytes()


def test_the_identity_is_that_of_the_parameters(pre: Path) -> None:
    [first, second] = plan("pre/default")
    assert first.config.identity != second.config.identity
    [fixed, _] = plan("pre/default/0")
    [file, _] = plan("results/pre/runs/default/0/policy.zip")
    assert first.config.identity == fixed.config.identity == file.config.identity
    assert plan(None)[0].config.identity != first.config.identity
    assert plan(None)[0].config.identity == plan(None, {})[0].config.identity


def test_a_changed_source_is_noticed_and_a_deleted_one_is_not_needed(pre: Path) -> None:
    plan("pre/default", seeds=[0])
    command = ("train", "fine.yaml", "-q")
    assert call_shaperun(*command, cwd=pre).returncode == 0
    source = pre / "results/pre/runs/default/0"
    source.rename(pre / "moved")
    assert call_shaperun("compare", "fine.yaml", cwd=pre).returncode == 0
    assert call_shaperun(*command, cwd=pre).returncode == 0
    shutil.copytree(pre / "results/pre/runs/default/1", source)
    refused = call_shaperun(*command, cwd=pre)
    assert refused.returncode == 2
    assert "start.sha256" in refused.stderr


SMALL: dict[str, Any] = {"hyperparameters": {"policy_kwargs": {"net_arch": [32]}}}
RELU: dict[str, Any] = {"hyperparameters": {"policy_kwargs": {"activation_fn": "relu"}}}
SCALED = {"normalize": {"observations": True}}
REFUSED: dict[str, tuple[tuple[str, dict[str, Any]], str]] = {
    "shape": (("pre/default", SMALL), "policy_net.0.weight is (64, 4), expected (32, 4)"),
    "learner": (("pre/dqn", {}), "networks differ"),
    "activation": (("pre/default", RELU), "activation function is Tanh, here ReLU; set"),
    "activation of a file": (
        ("results/pre/runs/default/0/policy.zip", {**RELU, "engine": "sb3"}),
        "activation function is Tanh, here ReLU; set",
    ),
    "normalized": (("pre/scaled", {}), "set normalize: {observations: true}"),
    "not normalized": (("pre/default", SCALED), "set normalize: {observations: false}"),
    "missing": (("pre/nope", {}), "not finished in results: pre/nope/0, pre/nope/1; train that"),
    "no file": (("nope.zip", {}), "nope.zip holds no policy"),
    "form": (("pre", {}), "expected STUDY/ARM, STUDY/ARM/SEED or the path of a policy.zip"),
    "outside": (("../default", {}), "expected STUDY/ARM"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_policy_that_does_not_fit_is_one_message(pre: Path, name: str) -> None:
    arguments, message = REFUSED[name]
    with suppress(UserError):  # the file is written
        plan(*arguments)
    before = tree(pre)
    if name in ("no file",):
        planned = call_shaperun("train", "fine.yaml", "--dry-run", cwd=pre)
        assert planned.returncode == 0
        assert "These runs cannot be trained yet: fine.yaml:" in planned.stdout
        assert message in planned.stdout
    refused = call_shaperun("train", "fine.yaml", cwd=pre)
    assert refused.returncode == 2
    assert message in refused.stderr
    assert refused.stderr.startswith("fine.yaml:")
    assert ": arms.arm.training.start_from: " in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    assert tree(pre) == before


class Pair(toy.Toy):
    def __init__(self, first: int = 2, actions: tuple[int, ...] = (2, 3)) -> None:
        self.observation_space = spaces.Dict(
            a=spaces.Box(-1, 1, (first,)), b=spaces.Box(-1, 1, (5 - first,))
        )
        self.action_space = spaces.MultiDiscrete(list(actions))


@pytest.mark.parametrize(
    ("others", "why"),
    [
        (
            {"first": 3},
            'its observations are Dict("a": Box((2,), float32), "b": Box((3,), float32))',
        ),
        ({"actions": [3, 2]}, "its action space is MultiDiscrete([2], [2 3]), here MultiDiscrete"),
    ],
)
def test_the_policy_is_the_same_function(
    register: toy.Register,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    others: dict[str, Any],
    why: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    register("Pair-v0", Pair)

    def runs(start: str | None, given: dict[str, Any]) -> list[Run]:
        environment = {"id": "Pair-v0", "options": given, "ends_itself": True}
        return plan(start, environment=environment, seeds=[0])

    [source] = runs(None, {})
    train_run(StudyFolder(Path("results/fine")).run("arm", 0), source.config)
    runs("fine/arm", {})
    with pytest.raises(UserError, match=re.escape(why)):
        runs("fine/arm", others)


def test_fresh_does_not_delete_the_source(shaperun: Shaperun, pre: Path) -> None:
    data = PRE | {"arms": {"default": {}, "on": {"training": {"start_from": "pre/default"}}}}
    (pre / "pre.yaml").write_text(yaml.safe_dump(data))
    before = tree(pre)
    refused = call_shaperun("train", "pre.yaml", "--fresh", "--yes", cwd=pre)
    assert refused.returncode == 2
    assert "--fresh would delete pre/default/0, which on starts from" in refused.stderr
    assert tree(pre) == before
