"""The wrapper of vector environments against the one of single environments."""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import Any, Literal

import gymnasium as gym
import numpy as np
import numpy.typing as npt
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from shaperun.rewards.config import RewardConfig
from shaperun.rewards.wrapper import RewardShapingWrapper, VectorRewardShapingWrapper
from tests.envs.test_info import Reporter
from tests.helpers.wrapped import GAMMA, UPRIGHT, each_case, wrapped

STEPS, LIMIT = 45, 20  # several episodes: CartPole terminates, LunarLander is truncated


class Copy:
    """Wrapped environment that resets as one environment of a vector does."""

    def __init__(self, env: RewardShapingWrapper, seed: int, mode: AutoresetMode) -> None:
        self.env, self.mode = env, mode
        self.obs, _ = env.reset(seed=seed)
        self.done = False

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, float]]:
        if self.mode == AutoresetMode.NEXT_STEP and self.done:
            self.obs, _ = self.env.reset()
            self.done = False
            names = [*self.env.kernel.names, "env_reward", "shaping", "shaped"]
            return self.obs, 0.0, False, False, dict.fromkeys(names, 0.0)
        self.obs, reward, terminated, truncated, info = self.env.step(action)
        self.done = terminated or truncated
        if self.mode == AutoresetMode.SAME_STEP and self.done:
            self.obs, _ = self.env.reset()
        return self.obs, float(reward), terminated, truncated, info["reward_components"]

    def restart(self) -> None:
        if self.mode == AutoresetMode.DISABLED and self.done:
            self.obs, _ = self.env.reset()
            self.done = False


@pytest.mark.parametrize("mode", AutoresetMode)
@each_case
def test_vector_environment_matches_single_environments(
    env_id: str, config: RewardConfig, mode: AutoresetMode
) -> None:
    make = partial(gym.make, env_id, max_episode_steps=LIMIT)
    vector = VectorRewardShapingWrapper(
        SyncVectorEnv([make] * 3, autoreset_mode=mode), config, gamma=GAMMA
    )
    copies = [
        Copy(wrapped(env_id, config, max_episode_steps=LIMIT), seed, mode) for seed in (5, 6, 7)
    ]
    obs, _ = vector.reset(seed=[5, 6, 7])
    rng = np.random.default_rng(0)
    ends = 0
    for _ in range(STEPS):
        actions = rng.integers(vector.single_action_space.n, size=3)  # type: ignore[attr-defined]
        obs, rewards, terminated, truncated, info = vector.step(actions)
        assert_same((obs, rewards, terminated, truncated), info, copies, actions)
        done = terminated | truncated
        ends += done.sum()
        if mode == AutoresetMode.DISABLED and done.any():
            obs, _ = vector.reset(options={"reset_mask": done})
            for copy in copies:
                copy.restart()
        assert obs.tolist() == [copy.obs.tolist() for copy in copies]
    assert ends >= 6
    vector.close()


def assert_same(
    step: tuple[Any, ...], info: dict[str, Any], copies: list[Copy], actions: npt.NDArray[Any]
) -> None:
    singles = [copy.step(action) for copy, action in zip(copies, actions, strict=True)]
    *expected, parts = zip(*singles, strict=True)
    for value, one_by_one in zip(step, expected, strict=True):
        assert np.asarray(value).tolist() == pytest.approx(np.array(one_by_one), rel=1e-12)
    names = list(parts[0])
    assert list(info["reward_components"]) == names
    for name in names:
        values = [part[name] for part in parts]
        assert info["reward_components"][name] == pytest.approx(values, rel=1e-12, abs=1e-12)


def test_last_step_is_rewarded_by_the_final_observation() -> None:
    config = RewardConfig(mode="replace", weights={"upright": 1.0})
    make = partial(gym.make, "CartPole-v1")
    vector = VectorRewardShapingWrapper(
        SyncVectorEnv([make] * 2, autoreset_mode=AutoresetMode.SAME_STEP), config
    )
    vector.reset(seed=3)
    done = np.zeros(2, dtype=bool)
    while not done.any():
        obs, rewards, terminated, truncated, info = vector.step(np.array([1, 0]))
        done = terminated | truncated
    assert (rewards[done] < 0).all()  # the pole has fallen, and is not upright again
    for copy in np.flatnonzero(done):
        assert vector.transition.next_obs[copy].tolist() == info["final_obs"][copy].tolist()
    assert vector.transition.next_obs[~done].tolist() == obs[~done].tolist()
    vector.step(np.array([1, 0]))
    assert vector.transition.obs.tolist() == obs.tolist()


def test_vectorized_cartpole_of_gymnasium() -> None:
    """It uses next-step autoreset and has no sub-environments."""
    config = RewardConfig(mode="add", weights={"upright": 2.0})
    env = gym.make_vec("CartPole-v1", 2, vectorization_mode="vector_entry_point")
    vector = VectorRewardShapingWrapper(env, config)
    vector.reset(seed=0)
    resets = 0
    done = np.zeros(2, dtype=bool)
    for _ in range(30):
        _, rewards, terminated, truncated, info = vector.step(np.ones(2, dtype=np.int64))
        parts = info["reward_components"]
        assert rewards.tolist() == pytest.approx(parts["env_reward"] + 2.0 * parts["upright"])
        for part in parts.values():
            assert not part[done].any()
        resets += done.sum()
        done = terminated | truncated
    assert resets


@pytest.mark.parametrize("mode", AutoresetMode)
def test_last_step_has_the_sums_of_its_episode(mode: AutoresetMode) -> None:
    make = partial(gym.make, "CartPole-v1")
    vector = VectorRewardShapingWrapper(SyncVectorEnv([make] * 2, autoreset_mode=mode), UPRIGHT)
    env = RewardShapingWrapper(gym.make("CartPole-v1"), UPRIGHT)
    env.reset(seed=4)
    totals: Counter[str] = Counter()
    done = False
    while not done:
        *_, terminated, truncated, info = env.step(1)
        totals.update(info["reward_components"])
        done = terminated or truncated
    sums = {f"sum_{name}": value for name, value in totals.items()}
    assert {name: info[name] for name in sums} == pytest.approx(sums)
    vector.reset(seed=[4, 4])
    for _ in range(int(sums["sum_env_reward"])):
        *_, info = vector.step(np.array([1, 1]))
    assert info["_sum_shaped"][0]
    assert {name: info[name][0] for name in sums} == pytest.approx(sums)


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.DISABLED])
def test_reset_of_some_environments_leaves_the_others(mode: AutoresetMode) -> None:
    vector = VectorRewardShapingWrapper(
        SyncVectorEnv([partial(gym.make, "CartPole-v1")] * 2, autoreset_mode=mode),
        {"mode": "add", "terms": {"change": "action - last_action"}, "weights": {"change": 1}},
    )
    vector.reset(seed=0)
    terminated = np.zeros(2, dtype=bool)
    steps = 0
    while not terminated.any():  # the first falls
        _, _, terminated, _, _ = vector.step(np.array([1, steps % 2]))
        steps += 1
    assert terminated.tolist() == [True, False]
    vector.reset(options={"reset_mask": np.array([True, False])})
    _, rewards, _, _, info = vector.step(np.array([1, (steps - 1) % 2]))
    assert info["reward_components"]["change"].tolist() == [0, 0]
    assert rewards.tolist() == [1, 1]
    for _ in range(100):
        _, _, terminated, _, info = vector.step(np.array([0, 1]))
        steps += 1
        if terminated[1]:
            break
    assert info["sum_env_reward"][1] == steps + 1


def test_environment_that_awaits_its_reset_is_not_forgotten() -> None:
    vector = VectorRewardShapingWrapper(
        SyncVectorEnv([partial(gym.make, "CartPole-v1")] * 2),
        {"mode": "add", "weights": {"upright": 1}},
    )
    vector.reset(seed=0)
    while not vector.step(np.array([1, 0]))[2][0]:
        pass
    vector.reset(options={"reset_mask": np.array([False, True])})
    rewards = vector.step(np.array([1, 0]))[1]
    assert rewards[0] == 0 < rewards[1]


@pytest.mark.parametrize("autoreset", AutoresetMode)
@pytest.mark.parametrize("mode", ["log", "add", "replace"])
def test_vector_environment_reads_the_infos_of_its_steps(
    mode: Literal["log", "add", "replace"], autoreset: AutoresetMode
) -> None:
    # The info of a reset has no parts; reading it as a step's would fail.
    read = (
        'info["count"] + info["parts"]["action"] + 10 * info.get("start", 0) + total(info["count"])'
    )
    config = RewardConfig(mode=mode, terms={"read": read}, weights={"read": 1.0})
    vector = VectorRewardShapingWrapper(
        SyncVectorEnv([Reporter] * 2, autoreset_mode=autoreset), config
    )
    copies = [Copy(RewardShapingWrapper(Reporter(), config), 0, autoreset) for _ in range(2)]
    vector.reset(seed=0)
    for _ in range(12):
        *step, info = vector.step(np.array([1, 0]))
        assert_same(tuple(step), info, copies, np.array([1, 0]))
        done = step[2]
        if autoreset == AutoresetMode.DISABLED and done.any():
            vector.reset(options={"reset_mask": done})
            for copy in copies:
                copy.restart()
