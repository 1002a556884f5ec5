"""Environments whose observations are not of their space's type, and that change actions in place.

Learners see the type of the space; terms read what was returned and what was sent, everywhere.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import polars as pl
import pytest
from gymnasium import spaces

from shaperun.envs.episodes import EpisodeBuilder, play_episode
from shaperun.envs.make import make_environment
from shaperun.envs.spaces import from_spaces
from shaperun.rewards.wrapper import RewardShapingWrapper, VectorRewardShapingWrapper
from shaperun.runs.plan import plan_runs
from shaperun.runs.study_folder import StudyFolder
from shaperun.training.train import train_run
from shaperun.training.vector_env import ReplayableEnv, SequentialVectorEnv
from tests.helpers import toy

LOG: list[tuple[float, ...]] = []  # of episodes: return, sums of next observations and actions


class Odd(gym.Env[Any, Any]):
    observation_space = spaces.Box(-10, 10, (2,), np.int64)
    action_space = spaces.Box(-1, 1, (2,))

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.sums: list[tuple[float, ...]] = []
        return np.zeros(2, dtype=np.int64), {}

    def step(self, action: Any) -> Any:
        obs, reward = self.np_random.normal(size=2), float(self.np_random.normal())
        self.sums.append((reward, obs[0], float(action.sum(dtype=float))))
        action *= 0
        ended = len(self.sums) == 5
        if ended:
            LOG.append(tuple(map(float, np.sum(self.sums, axis=0))))
        return obs, reward, False, ended, {}


@pytest.mark.parametrize(
    ("training", "wrappers"),
    [
        ({"engine": "sb3"}, []),
        ({"engine": "lockstep"}, []),
        ({"algorithm": "GRPO", "hyperparameters": {"group_size": 2}}, []),
        ({"engine": "lockstep"}, [{"DelayObservation": {"delay": 1}}]),
    ],
)
def test_recorded_terms_are_those_of_the_environment(
    register: toy.Register, tmp_path: Path, training: dict[str, Any], wrappers: list[Any]
) -> None:
    register("Odd-v0", Odd)
    LOG.clear()
    small = {"n_steps": 10, "batch_size": 20} if "engine" in training else {}
    study = toy.study(
        {"id": "Odd-v0", "ends_itself": True, "wrappers": wrappers},
        training={"total_timesteps": 80, "n_envs": 2, "hyperparameters": small, **training},
        evaluation={"every": 40, "episodes": 2, "final_episodes": 3},
        terms={"seen": "obs[0]", "before": "last_obs[0]", "sent": "sum(action)"},
        seeds=[0],
    )
    [run] = plan_runs(study, study.arms)
    folder = StudyFolder(tmp_path / "any").run("default", 0)
    train_run(folder, run.config)
    for table in (folder.episodes, folder.evaluations):
        rows = pl.read_csv(table).select("return", "sum_seen", "sum_sent").rows()
        assert len(rows) > 6
        for row in rows:
            assert any(np.allclose(row, logged, rtol=0, atol=1e-6) for logged in LOG)


def test_learners_see_the_type_of_the_space(register: toy.Register) -> None:
    register("Odd-v0", Odd)
    envs = SequentialVectorEnv([ReplayableEnv(gym.make("Odd-v0")) for _ in range(2)])
    assert envs.reset([0, 1]).dtype == np.int64
    assert envs.base_obs is None
    step = envs.step(np.zeros((2, 2), np.float32))
    assert step.base is not None
    assert step.obs.dtype == np.int64
    assert np.array_equal(step.obs, np.trunc(step.base.obs))
    assert not np.array_equal(step.obs, step.base.obs)
    builder = EpisodeBuilder.begin(gym.make("Odd-v0"), 0, 0)
    builder.step(np.zeros(2, np.float32))
    assert np.array_equal(builder.obs, step.obs[0])
    assert builder.obs.dtype == np.int64
    assert np.array_equal(builder.states[-1], step.base.obs[0])


def test_recorded_actions_are_those_sent(
    register: toy.Register, monkeypatch: pytest.MonkeyPatch
) -> None:
    register("Odd-v0", Odd)
    declared = from_spaces("Odd-v0", Odd.observation_space, Odd.action_space)
    for wrappers in (None, [{"DelayObservation": {"delay": 0}}]):
        env = make_environment(declared, {}, wrappers)
        episode = play_episode(env, declared, lambda _: np.ones(2), 0)
        assert (episode.transition.action == 1).all()
    reward = {"mode": "add", "terms": {"sent": "sum(action)"}, "weights": {"sent": 1}}
    shaped = RewardShapingWrapper(gym.make("Odd-v0"), reward)
    shaped.reset(seed=0)
    assert shaped.step(np.ones(2))[4]["reward_components"]["sent"] == 2
    monkeypatch.setattr(Odd, "observation_space", spaces.Box(-10, 10, (2,)))  # as vectors demand
    vector = VectorRewardShapingWrapper(gym.make_vec("Odd-v0", 2), reward)
    vector.reset(seed=0)
    assert vector.step(np.ones((2, 2)))[4]["reward_components"]["sent"].tolist() == [2, 2]
