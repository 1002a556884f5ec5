from __future__ import annotations

from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from shaperun.training.vector_env import (
    ReplayableEnv,
    ReplayMismatchError,
    SequentialVectorEnv,
)


@pytest.mark.parametrize("env_id", ["CartPole-v1", "Pendulum-v1", "FrozenLake-v1", "Taxi-v4"])
def test_steps_match_gymnasiums_vector_environment(env_id: str) -> None:
    make = partial(gym.make, env_id, max_episode_steps=30)
    theirs = SyncVectorEnv([make] * 3, autoreset_mode=AutoresetMode.SAME_STEP)
    ours = SequentialVectorEnv([ReplayableEnv(make()) for _ in range(3)])
    seeds = [2**40, 2**41, 2**42]
    first, expected = ours.reset(seeds), theirs.reset(seed=list(seeds))[0]
    np.testing.assert_array_equal(first, expected)
    assert first.dtype == expected.dtype
    theirs.action_space.seed(0)
    ended = 0
    for _ in range(200):
        actions = theirs.action_space.sample()
        step, (*other, info) = ours.step(actions), theirs.step(actions)
        one, last_obs = step[:4], step.last_obs
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a, b)
            assert a.dtype == b.dtype
        for copy in np.flatnonzero(step.terminated | step.truncated):
            assert last_obs is not None
            np.testing.assert_array_equal(last_obs[copy], info["final_obs"][copy])
            ended += 1
    assert ended > 10


class ArrayReward(gym.Wrapper[Any, Any, Any, Any]):
    def __init__(self, env: gym.Env[Any, Any], size: int) -> None:
        super().__init__(env)
        self.size = size

    def step(self, action: Any) -> Any:
        obs, reward, *rest = self.env.step(action)
        return (obs, np.full(self.size, reward), *rest)


def test_array_rewards_have_one_entry() -> None:
    def step(size: int) -> float:
        env = ArrayReward(gym.make("CartPole-v1", disable_env_checker=True), size)
        envs = SequentialVectorEnv([ReplayableEnv(env)])
        envs.reset([0])
        return float(envs.step(np.zeros(1, dtype=int)).env_reward[0])

    assert step(1) == 1.0
    with pytest.raises(ValueError, match="not a number; combine its entries"):
        step(2)


def test_observation_of_another_shape_than_the_space_is_named() -> None:
    env = gym.make("CartPole-v1", disable_env_checker=True)
    space = env.observation_space
    wrong = gym.wrappers.TransformObservation(env, lambda obs: obs[None], space)
    with pytest.raises(ValueError, match=r"shape \(1, 4\), but the observation space has .*\(4,\)"):
        SequentialVectorEnv([ReplayableEnv(wrong)]).reset([0])


class Moody(gym.Wrapper[Any, Any, Any, Any]):
    """Pays what only a counter over all episodes knows."""

    episodes = 0

    def reset(self, **arguments: Any) -> Any:
        self.episodes += 1
        return self.env.reset(**arguments)

    def step(self, action: Any) -> Any:
        obs, _, *rest = self.env.step(action)
        return (obs, float(self.episodes), *rest)


def test_replayed_rewards_must_be_the_same() -> None:
    def make(wrapper: Any) -> SequentialVectorEnv:
        env = gym.make("CartPole-v1", disable_env_checker=True)
        return SequentialVectorEnv([ReplayableEnv(wrapper(env))])

    for wrapper in (Moody, lambda env: env):
        envs = make(wrapper)
        envs.reset([0])
        while not envs.step(np.ones(1, dtype=int)).terminated.any():
            pass
        envs.step(np.ones(1, dtype=int))
        [state] = envs.get_state()
        assert state["rewards"].shape == (1,)
        if wrapper is Moody:
            with pytest.raises(ReplayMismatchError, match="other rewards"):
                make(wrapper).set_state([state])
        else:
            make(wrapper).set_state([state])
        del state["rewards"]  # as in states of earlier versions
        make(wrapper).set_state([state])
