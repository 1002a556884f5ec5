"""Conformance of every learner in the registry."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from pydantic import ValidationError
from stable_baselines3 import PPO

from shaperun.envs.base import ActionSpace
from shaperun.study.learners import LEARNERS
from shaperun.study.models import RunConfig, parse_study
from shaperun.training import recorder
from shaperun.training.algorithms.episode_batch import EpisodeBatch
from shaperun.training.sb3_model import load_implementation, load_policy
from tests.training.test_checkpoint import read_outcome, train_to_end, train_until_killed

# Hyperparameters for short runs; GROUPS for other learners that begin episodes in groups.
GROUPS = {"group_size": 2}
SMALL: dict[str, dict[str, Any]] = {
    "PPO": {"n_steps": 25, "batch_size": 50, "n_epochs": 2},
    "A2C": {"n_steps": 25},
    "DQN": {"learning_starts": 50, "buffer_size": 500},
    "TRPO": {"n_steps": 25, "batch_size": 50},
    "REINFORCE": {"baseline": "group", **GROUPS},
    "GRPO": {"batch_size": 64, **GROUPS},
}
EPISODIC = [name for name, learner in LEARNERS.items() if learner.own_hyperparameters]
each_learner = pytest.mark.parametrize("name", LEARNERS)
each_engine = pytest.mark.parametrize(
    ("name", "engine"), [(name, engine) for name in LEARNERS for engine in LEARNERS[name].engines]
)


def make_config(name: str, engine: str = "auto", env_id: str = "CartPole-v1") -> RunConfig:
    own = LEARNERS[name].own_hyperparameters
    study = parse_study(
        {
            "study": "test",
            "environment": {"id": env_id},
            "training": {
                "algorithm": name,
                "total_timesteps": 300,
                "n_envs": 4,
                "engine": engine,
                "hyperparameters": SMALL.get(name, GROUPS if own else {}),
            },
            "evaluation": {"every": 150, "episodes": 2, "final_episodes": 3},
            "arms": {"arm": {"mode": "add", "weights": {"upright": 1}}},
        }
    )
    return study.run_config(study.arms["arm"], 1)


@each_engine
def test_every_engine_trains_a_policy_that_stable_baselines3_loads(
    name: str, engine: str, tmp_path: Path
) -> None:
    config = make_config(name, engine)
    assert config.training.engine == engine
    folder = train_to_end(tmp_path / "run", config)
    assert len(pl.read_csv(folder.updates)) > 0
    evaluations = pl.read_csv(folder.evaluations).group_by("timesteps", maintain_order=True).len()
    assert evaluations["len"].to_list() == [2, 2, 3]
    learner = LEARNERS[name]
    model = (load_implementation(learner) if learner.has_critic else PPO).load(folder.policy)
    obs = np.random.default_rng(0).normal(size=(16, 4)).astype(np.float32)
    actions = model.predict(obs, deterministic=True)[0]
    assert actions.tolist() == load_policy(config, folder)(obs).tolist()


@each_engine
def test_a_killed_run_ends_in_the_same_bytes(
    name: str, engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config(name, engine)
    expected = read_outcome(train_to_end(tmp_path / "whole", config))
    folder = train_until_killed(tmp_path / "killed", config, monkeypatch, at=150)
    saved = any(path.exists() for path in folder.checkpoints)
    assert saved == LEARNERS[name].exact_resume
    assert read_outcome(train_to_end(folder.path, config)) == expected
    resume = "exact" if LEARNERS[name].exact_resume else "from the start"
    assert folder.read_record()["resume"] == resume


@pytest.mark.parametrize("rows", [1000, 2])
@pytest.mark.parametrize("name", EPISODIC)
def test_the_last_update_is_recorded_once_also_after_a_kill_in_the_last_batch(
    name: str, rows: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder, "MAX_UPDATE_ROWS", rows)  # with 2, most updates have no row
    config = make_config(name)
    whole = train_to_end(tmp_path / "whole", config)
    steps = pl.read_csv(whole.updates)["timesteps"]
    assert steps.is_unique().all()
    train_until_killed(tmp_path / "killed", config, monkeypatch, at=int(steps[-1]) + 1)
    killed = train_to_end(tmp_path / "killed", config)
    assert killed.read_record()["resume"] == "exact"
    assert read_outcome(killed) == read_outcome(whole)


@each_learner
def test_unsupported_actions_are_refused(name: str) -> None:
    spaces: dict[ActionSpace, str] = {"Discrete": "CartPole-v1", "Box": "Pendulum-v1"}
    for kind, env_id in spaces.items():
        if kind in LEARNERS[name].actions:
            assert make_config(name, env_id=env_id).training.algorithm == name
        else:
            with pytest.raises(
                ValidationError, match=f"cannot learn the actions of .*, a {kind} space"
            ):
                make_config(name, env_id=env_id)


def assert_groups_begin_alike(
    config: RunConfig, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Train a run, and check the first observations of all episodes of its updates."""
    batches: list[EpisodeBatch] = []
    learner = load_implementation(config.training.learner)
    update = learner.update

    def record(self: Any, batch: EpisodeBatch, progress_remaining: float) -> dict[str, float]:
        batches.append(batch)
        statistics: dict[str, float] = update(self, batch, progress_remaining)
        return statistics

    monkeypatch.setattr(learner, "update", record)
    train_to_end(folder, config)
    size = config.training.episodes_per_start
    assert 1 < size < config.training.n_envs
    assert len(batches) > 1
    starts = [b.obs[np.cumsum([0, *b.lengths[:-1]])].reshape(-1, size, 4) for b in batches]
    groups = torch.cat(starts)
    assert (groups == groups[:, :1]).all()
    assert len({tuple(group[0].tolist()) for group in groups}) == len(groups)


@pytest.mark.parametrize("name", EPISODIC)
def test_episodes_of_a_group_begin_in_the_same_state(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert_groups_begin_alike(make_config(name), tmp_path / "run", monkeypatch)
