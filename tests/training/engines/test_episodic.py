"""Train learners without a critic."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from stable_baselines3 import PPO

from shaperun.runs.run_folder import RunFolder
from shaperun.runs.train_options import TrainOptions
from shaperun.study.models import RunConfig, parse_study
from shaperun.training import checkpoint
from shaperun.training.sb3_model import load_policy
from shaperun.training.train import train_run
from tests.training.test_checkpoint import (
    TRAINED,
    read_outcome,
    train_to_end,
    train_until_killed,
)

LEARNERS: dict[str, dict[str, Any]] = {
    "REINFORCE": {"algorithm": "REINFORCE", "hyperparameters": {}},
    "REINFORCE-group": {
        "algorithm": "REINFORCE",
        "hyperparameters": {"baseline": "group", "group_size": 2},
    },
    "GRPO": {"algorithm": "GRPO", "hyperparameters": {"group_size": 2, "batch_size": 32}},
}
each_learner = pytest.mark.parametrize("learner", LEARNERS)


def make_config(env_id: str, learner: str, **changes: Any) -> RunConfig:
    training = LEARNERS[learner]
    hyperparameters = training["hyperparameters"] | changes.pop("hyperparameters", {})
    training = {
        "total_timesteps": 1_200,
        "n_envs": 2,
        **training,
        "hyperparameters": hyperparameters,
    }
    study = parse_study(
        {
            "study": "test",
            "environment": {"id": env_id, "options": {"max_episode_steps": 150}},
            "training": training | changes.pop("training", {}),
            "evaluation": {"every": 400, "episodes": 2, "final_episodes": 3},
            "arms": {"arm": changes.pop("reward", {})},
        }
    )
    return study.run_config(study.arms["arm"], 1)


@pytest.mark.parametrize("env_id", TRAINED)
def test_a_killed_run_ends_in_the_same_bytes(
    env_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_config(env_id, "GRPO")
    expected = read_outcome(train_to_end(tmp_path / "whole", run))
    folder = train_until_killed(tmp_path / "killed", run, monkeypatch, at=520)
    assert checkpoint.load_latest(folder.checkpoints) is not None
    train_until_killed(tmp_path / "killed", run, monkeypatch, at=910)
    assert read_outcome(train_to_end(tmp_path / "killed", run)) == expected
    assert folder.read_record()["resume"] == "exact"


@each_learner
@pytest.mark.parametrize(
    "changes",
    [
        {"training": {"normalize": {"observations": True}}},
        {"hyperparameters": {"learning_rate": "lin_0.01"}},
        {
            "reward": {
                "mode": "potential",
                "weights": {"upright": 1},
                "schedule": {"kind": "linear", "to": 0.0},
            }
        },
    ],
    ids=["normalized", "schedules", "potential"],
)
def test_all_state_survives_a_kill(
    learner: str, changes: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_config("CartPole-v1", learner, **changes)
    expected = read_outcome(train_to_end(tmp_path / "whole", run))
    train_until_killed(tmp_path / "killed", run, monkeypatch, at=700)
    assert read_outcome(train_to_end(tmp_path / "killed", run)) == expected


@each_learner
def test_a_policy_acts_the_same_in_stable_baselines3(learner: str, tmp_path: Path) -> None:
    run = make_config("CartPole-v1", learner)
    folder = train_to_end(tmp_path / "run", run)
    obs = np.random.default_rng(0).normal(size=(16, 4)).astype(np.float32)
    model = PPO.load(folder.policy, device="cpu")
    assert (
        model.predict(obs, deterministic=True)[0].tolist() == load_policy(run, folder)(obs).tolist()
    )


@each_learner
def test_evaluations_are_recorded_when_due(learner: str, tmp_path: Path) -> None:
    folder = train_to_end(tmp_path / "run", make_config("CartPole-v1", learner))
    evaluations = pl.read_csv(folder.evaluations)
    counts = evaluations.group_by("timesteps", maintain_order=True).len().rows()
    assert counts == [(0, 2), (400, 2), (800, 2), (1200, 3)]
    episodes, updates = pl.read_csv(folder.episodes), pl.read_csv(folder.updates)
    assert episodes["length"].sum() == episodes["timesteps"].max()
    assert 1000 < int(str(episodes["timesteps"].max())) <= 1200
    assert updates["timesteps"].max() == episodes["timesteps"].max()
    assert updates["policy_loss"].null_count() == 0


def test_arms_with_one_seed_are_paired(tmp_path: Path) -> None:
    rewards: list[dict[str, Any]] = [{}, {"mode": "replace", "weights": {"still": 1}}]
    folders = [
        train_to_end(tmp_path / str(index), make_config("CartPole-v1", "GRPO", reward=reward))
        for index, reward in enumerate(rewards)
    ]
    first, second = (pl.read_csv(folder.episodes)[:2]["length"].to_list() for folder in folders)
    assert first == second  # equal networks, initial states and noise


def test_a_pause_changes_nothing(tmp_path: Path) -> None:
    run = make_config("CartPole-v1", "GRPO")
    expected = read_outcome(train_to_end(tmp_path / "whole", run))
    folder = RunFolder(tmp_path / "paused")
    train_run(folder, run, TrainOptions(until=500))
    paused = checkpoint.load_latest(folder.checkpoints)
    assert paused is not None
    assert paused["timesteps"] >= 500
    assert read_outcome(train_to_end(folder.path, run)) == expected


def test_divergence_fails_the_run(tmp_path: Path) -> None:
    run = make_config("CartPole-v1", "REINFORCE", hyperparameters={"learning_rate": 1e38})
    with pytest.raises(FloatingPointError, match=r"diverged: .* no longer finite"):
        train_run(RunFolder(tmp_path / "run"), run)


def test_a_forged_checkpoint_is_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_config("CartPole-v1", "GRPO")
    expected = read_outcome(train_to_end(tmp_path / "whole", run))
    folder = train_until_killed(tmp_path / "killed", run, monkeypatch, at=700)
    state = checkpoint.load_latest(folder.checkpoints)
    assert state is not None
    state["learner"]["own"]["reference"] = {}
    for path in folder.checkpoints:
        path.write_bytes(checkpoint.dump(state))
    assert read_outcome(train_to_end(folder.path, run)) == expected
    assert folder.read_record()["resume"].startswith("from the start")
