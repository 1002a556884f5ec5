"""A study or a results folder of another user costs neither much time nor much memory."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest

from shaperun.common.errors import UserError
from shaperun.runs.plan import MAX_RUNS, plan_runs, select
from shaperun.runs.run_folder import RunFolder
from shaperun.runs.study_folder import StudyFolder
from shaperun.study.loader import StudyError, load_study
from shaperun.training import checkpoint
from shaperun.training.sb3_model import load_policy
from tests.helpers.forgery import memory_within


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "training.hyperparameters.policy_kwargs={net_arch: [30000, 30000]}",
            "a network of 900,000,000 weights",
        ),
        (
            "training.hyperparameters.policy_kwargs={net_arch: {pi: [], vf: [3200, 3200]}}",
            "a network of 10,240,000 weights",
        ),
        ("training.hyperparameters.n_steps=1e9", "found 1000000000"),
        (
            "training={total_timesteps: 1e9, n_envs: 1024, hyperparameters: {n_steps: 1e6}}",
            "n_steps: observations of 1,024,000,000 steps take 16 GB",
        ),
        (
            "training={algorithm: DQN, total_timesteps: 1e9, hyperparameters: {buffer_size: 1e9}}",
            "buffer_size: observations of 1,000,000,000 steps take 16 GB",
        ),
        ("training.total_timesteps=1e30", "found 1e\\+30"),
        ("environment.options={max_episode_steps: 1e9}", "above the limit 1,000,000"),
        (f"environment.options={{text: {'x' * 20_000}}}", "longer than 20,000 characters"),
        (
            "sweep={base: guided, method: grid, weights: "
            f"{{upright: {list(range(101))}, centred: {list(range(100))}}}}}",
            "10,100 combinations, above the limit",
        ),
    ],
)
def test_sizes_are_limited_before_anything_is_built(
    override: str, message: str, tiny_file: Path
) -> None:
    with memory_within(megabytes=500), pytest.raises(StudyError, match=message):
        load_study(tiny_file, [override])


def test_sparse_checkpoints_are_not_held_in_memory(tmp_path: Path) -> None:
    generations = RunFolder(tmp_path).checkpoints
    for path, size in zip(generations, (2_000_000_000, 450_000_000), strict=True):
        path.touch()
        os.truncate(path, size)
    with memory_within(megabytes=100):
        assert checkpoint.load_all(generations) == []


def test_too_many_runs_are_refused_before_they_are_planned(tiny_file: Path) -> None:
    arms: dict[str, dict[str, str]] = {f"arm{n}": {} for n in range(11)}
    study = load_study(tiny_file, [f"arms={arms}", "seeds=10000"])
    began = time.monotonic()
    with pytest.raises(UserError, match="11 arms × 10,000 seeds are 110,000 runs, above"):
        plan_runs(study, study.arms)
    assert time.monotonic() - began < 1
    assert len(plan_runs(study, study.arms, ["arm3"])) == 10_000 < MAX_RUNS
    assert len(select(study, study.arms)[0]) == 11


def test_a_policy_is_loaded_without_the_buffers_of_its_training(trained: Path) -> None:
    study = load_study(trained / "tiny.yaml")
    run = plan_runs(study, study.arms)[0]
    folder = StudyFolder(trained / "results" / "tiny").run(run.arm, run.seed)
    obs = np.random.default_rng(0).normal(size=(16, 4)).astype(np.float32)
    expected = load_policy(run.config, folder)(obs)
    large = {**study.training.hyperparameters, "n_steps": 10_000_000, "batch_size": 10_000_000}
    training = study.training.model_copy(update={"n_envs": 1024, "hyperparameters": large})
    with memory_within(megabytes=500):
        act = load_policy(run.config.model_copy(update={"training": training}), folder)
    assert act(obs).tolist() == expected.tolist()
