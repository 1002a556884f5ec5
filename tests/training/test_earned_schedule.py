"""Schedules that follow the performance in evaluations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import polars as pl
import pytest
from pydantic import ValidationError

from shaperun.rewards.clock import Clock
from shaperun.rewards.config import RewardConfig
from shaperun.rewards.wrapper import RewardShapingWrapper
from shaperun.study.models import RunConfig, parse_study
from shaperun.training.envs import TrainingEnvs
from tests.training.test_checkpoint import read_outcome, train_to_end, train_until_killed

SCHEDULE = {"kind": "earned", "metric": "return", "from": 1.0, "to": 0.2, "between": [5, 205]}
LEARNERS: dict[str, dict[str, Any]] = {
    "lockstep": {"hyperparameters": {"n_steps": 50, "batch_size": 50, "learning_rate": 0.003}},
    "sb3": {"engine": "sb3", "hyperparameters": {"n_steps": 50, "learning_rate": 0.003}},
    "episodic": {"algorithm": "GRPO", "hyperparameters": {"group_size": 2, "batch_size": 32}},
}


def parse(learner: str = "lockstep", **schedule: Any) -> RunConfig:
    arm = {"mode": "add", "weights": {"upright": 1}, "schedule": {**SCHEDULE, **schedule}}
    study = parse_study(
        {
            "study": "test",
            "environment": {"id": "CartPole-v1"},
            "training": {"total_timesteps": 1500, "n_envs": 2, **LEARNERS[learner]},
            "evaluation": {"every": 300, "episodes": 3, "final_episodes": 4},
            "arms": {"arm": arm},
        }
    )
    return study.run_config(study.arms["arm"], 0)


@pytest.mark.parametrize("learner", LEARNERS)
def test_factor_follows_evaluations_and_resumes_exactly(
    learner: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = parse(learner)
    folder = train_to_end(tmp_path / "whole", run)
    recorded = pl.read_csv(folder.evaluations)
    means = recorded.group_by("timesteps", maintain_order=True).agg(
        pl.col("return").mean(), pl.col("schedule").first()
    )
    shares = np.clip((means["return"].to_numpy() - 5) / 200, 0, 1)
    assert len(means) == 6
    assert means["schedule"][0] == 1.0
    np.testing.assert_allclose(means["schedule"][1:], 1 - 0.8 * shares[:-1])
    assert means["schedule"].n_unique() > 2
    expected = read_outcome(folder)
    killed = train_until_killed(tmp_path / "killed", run, monkeypatch, at=1000)
    assert killed.read_state() != "done"
    assert read_outcome(train_to_end(killed.path, run)) == expected


def test_whole_episodes_follow_the_evaluations_before_their_update(tmp_path: Path) -> None:
    folder = train_to_end(tmp_path, parse("episodic"))
    means = pl.read_csv(folder.evaluations).group_by("timesteps", maintain_order=True)
    points = [(at, earned_factor(value)) for at, value in means.agg(pl.col("return").mean()).rows()]
    episodes = pl.read_csv(folder.episodes)
    began = n_inside = 0
    for update in episodes.iter_slices(2):
        end = began + int(update["length"].sum())
        if began > 0:  # the evaluation before training counts from the second step on
            factor = next(factor for at, factor in reversed(points) if at < began)
            np.testing.assert_allclose(update["schedule"], factor)
            n_inside += any(began <= at < end - 1 and new != factor for at, new in points)
        began = end
    assert n_inside > 1  # whose factor would differ within the update


def earned_factor(value: float) -> float:
    return float(1 - 0.8 * np.clip((value - 5) / 200, 0, 1))


def test_share_counts_after_the_step_of_its_evaluation() -> None:
    clock = Clock(100, scheduled=True, is_earned=True)
    clock.earn(0, 0.25)
    clock.earn(4, 0.75)
    before, after = clock.shares(4, 2)
    assert isinstance(before, np.ndarray)
    assert isinstance(after, np.ndarray)
    # States after 0, 2, 4 and 6 steps; the evaluation after 4 counts from the next one.
    assert before[::2].tolist() == [0.0, 0.25, 0.25, 0.75]
    assert after[::2].tolist() == [0.25, 0.25, 0.75, 0.75]
    clock.steps = 8
    clock.earn(8, 0.5)
    restored = Clock(100, scheduled=True, is_earned=True)
    restored.set_state(clock.get_state())
    assert restored.tick(2) == clock.tick(2) == (0.75, 0.5)


def test_shaping_at_once_and_step_by_step_see_the_same_factors() -> None:
    rewards = {}
    for stretch in (1, 6):
        envs = TrainingEnvs(parse("sb3"), [2**40, 2**41], lambda row: None)
        envs.reset()
        parts = []
        for step in range(12):
            envs.send(np.array([step % 2, 1]))
            envs.receive()
            if (step + 1) % stretch == 0:
                parts.append(envs.shape_rewards())
            if step == 3:  # in stable-baselines3's loop after the step is shaped
                envs.on_evaluation(8, [{"return": 105.0}])
        rewards[stretch] = np.concatenate(parts)
        envs.close()
    assert rewards[1].tobytes() == rewards[6].tobytes()
    assert len(np.unique(np.round(rewards[1], 1))) > 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"metric": "profit"}, "unknown metric profit"),
        ({"between": [1, 1]}, "the two values must differ"),
        ({"between": [1]}, "at least 2 items"),
    ],
)
def test_invalid_schedules_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        parse(**changes)


def test_wrappers_have_no_evaluations() -> None:
    config = RewardConfig.model_validate(
        {"mode": "add", "weights": {"upright": 1}, "schedule": SCHEDULE}
    )
    with pytest.raises(ValueError, match="needs the evaluations of shaperun train"):
        RewardShapingWrapper(gym.make("CartPole-v1"), config, total_timesteps=100)
