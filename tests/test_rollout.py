from __future__ import annotations

from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from stable_baselines3.common.vec_env import VecEnv

from shaperun.rollout import Copies, Row, TrainingEnvs, episode_columns
from shaperun.study import parse_study
from shaperun.wrapper import Remembering


def envs_of(mode: str, weights: dict[str, float], rows: list[Row], **options: Any) -> TrainingEnvs:
    study = parse_study(
        {
            "study": "test",
            "environment": {"id": "LunarLander-v3", "options": options},
            "training": {"total_timesteps": 100, "hyperparameters": {"gamma": 0.9}},
            "arms": {"arm": {"mode": mode, "weights": weights}},
        }
    )
    return TrainingEnvs(study.run_config(study.arms["arm"], 0), [2**40, 2**41, 2**42], rows.append)


@pytest.mark.parametrize("mode", ["log", "add", "replace", "potential"])
def test_rows_are_the_sums_of_the_steps(mode: str) -> None:
    rows: list[Row] = []
    envs = envs_of(mode, {"distance": 10, "legs": 5}, rows)
    assert isinstance(envs, VecEnv)
    envs.reset()
    rng = np.random.default_rng(0)
    learner, lengths, expected = np.zeros(3), np.zeros(3, int), []
    for _ in range(400):
        _, rewards, dones, infos = envs.step(rng.integers(0, 4, 3))
        assert rewards.dtype == np.float32
        learner += rewards
        lengths += 1
        for copy in np.flatnonzero(dones):
            assert infos[copy]["terminal_observation"].shape == (8,)
            expected.append((copy, lengths[copy], learner[copy]))
            learner[copy], lengths[copy] = 0, 0
    assert len(rows) == len(expected) > 5
    for row, (copy, length, total) in zip(rows, expected, strict=True):
        assert list(row) == episode_columns(envs.kernel)
        assert (row["copy"], row["length"]) == (copy, length)
        assert row["shaped_return"] == pytest.approx(total, rel=1e-4)
    assert envs.recorder.timesteps == 1200
    envs.recorder.check()
    envs.close()


def test_a_truncation_is_told_to_the_learner() -> None:
    rows: list[Row] = []
    envs = envs_of("log", {}, rows, max_episode_steps=5)
    envs.reset()
    for _ in range(5):
        _, _, dones, infos = envs.step(np.zeros(3, int))
    assert dones.all()
    assert all(info["TimeLimit.truncated"] for info in infos)
    assert {row["outcome"] for row in rows} == {"timeout"}


def test_sums_that_do_not_add_up_stop_the_run() -> None:
    envs = envs_of("add", {"distance": 10}, [], max_episode_steps=5)
    envs.reset()
    envs.step(np.zeros(3, int))
    envs.recorder._sums[0, -2] += 0.01
    for _ in range(3):
        envs.step(np.zeros(3, int))
    with pytest.raises(ArithmeticError, match="shaped return"):
        envs.step(np.zeros(3, int))


def test_a_step_that_is_lost_is_noticed() -> None:
    envs = envs_of("add", {"distance": 10}, [])
    envs.reset()
    envs.step(np.zeros(3, int))
    envs.recorder.check()
    envs.recorder._sums[1] = 0
    with pytest.raises(ArithmeticError, match="sum of all steps"):
        envs.recorder.check()


def test_nothing_changes_the_environments_from_outside() -> None:
    envs = envs_of("log", {}, [])
    assert envs.get_attr("render_mode") == [None] * 3
    with pytest.raises(NotImplementedError):
        envs.set_attr("gravity", -1)


@pytest.mark.parametrize("env_id", ["CartPole-v1", "Pendulum-v1", "FrozenLake-v1", "Taxi-v4"])
def test_copies_are_gymnasiums_own_vector(env_id: str) -> None:
    make = partial(gym.make, env_id, max_episode_steps=30)
    theirs = SyncVectorEnv([make] * 3, autoreset_mode=AutoresetMode.SAME_STEP)
    ours = Copies([Remembering(make()) for _ in range(3)])
    seeds: list[int | None] = [2**40, 2**41, 2**42]
    first = [envs.reset(seed=seeds)[0] for envs in (ours, theirs)]
    np.testing.assert_array_equal(first[0], first[1])
    assert first[0].dtype == first[1].dtype
    theirs.action_space.seed(0)
    ended = 0
    for _ in range(200):
        actions = theirs.action_space.sample()
        (*one, end), (*other, info) = ours.step(actions), theirs.step(actions)
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a, b)
            assert a.dtype == b.dtype
        for copy in np.flatnonzero(one[2] | one[3]):
            np.testing.assert_array_equal(end["final_obs"][copy], info["final_obs"][copy])
            ended += 1
    assert ended > 10
