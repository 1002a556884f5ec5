"""The wrappers on real environments: consistency, and gymnasium's contract."""

import doctest
import pickle
from collections.abc import Callable
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
import pytest
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import SyncVectorEnv

import shaperun
from shaperun.envs.base import Transition
from shaperun.envs.builtin import environments
from shaperun.rewards import wrapper
from shaperun.rewards.config import RewardConfig
from shaperun.rewards.wrapper import RewardShapingWrapper, VectorRewardShapingWrapper
from tests.helpers.wrapped import GAMMA, UPRIGHT, each_case, wrapped


@each_case
def test_info_has_all_parts_and_they_add_up(env_id: str, config: RewardConfig) -> None:
    environment = environments()[env_id]
    env, bare = wrapped(env_id, config), gym.make(env_id)
    env.reset(seed=1)
    before, _ = bare.reset(seed=1)
    env.action_space.seed(1)
    for _ in range(12):
        action = env.action_space.sample()
        obs, reward, terminated, truncated, info = env.step(action)
        bare_obs, bare_reward, *ends, bare_info = bare.step(action)
        parts = info["reward_components"]
        assert obs.tolist() == bare_obs.tolist()
        assert [terminated, truncated] == ends
        assert info == {**bare_info, "reward_components": parts}
        assert list(parts) == [*environment.terms, *config.terms, "env_reward", "shaping", "shaped"]
        assert all(type(part) is float for part in parts.values())
        assert parts["env_reward"] == bare_reward
        assert parts["shaped"] == reward
        weights = {n: config.scale * w for n, w in config.weights.items()}
        shaping = sum(weight * parts[name] for name, weight in weights.items())
        if config.mode == "potential":
            at = np.array([before], dtype=np.float64)
            phi = sum(w * environment.terms[n].function(at)[0] for n, w in weights.items())
            shaping = GAMMA * (0.0 if terminated else shaping) - phi
        assert parts["shaping"] == pytest.approx(shaping)
        env_reward = 0.0 if config.mode == "replace" else parts["env_reward"]
        added = 0.0 if config.mode == "log" else parts["shaping"]
        assert reward == pytest.approx(env_reward + added)
        before = obs


@each_case
@pytest.mark.filterwarnings("ignore:.*different from the unwrapped version")
@pytest.mark.filterwarnings("ignore:.*Box observation space m")
def test_env_checker_of_gymnasium(env_id: str, config: RewardConfig) -> None:
    check_env(wrapped(env_id, config), skip_render_check=True)


def test_reset_and_step_follow_gymnasiums_contract() -> None:
    env = wrapped("CartPole-v1", RewardConfig())
    with pytest.raises(gym.error.ResetNeeded):
        env.step(0)
    first, info = env.reset(seed=9)
    assert info == {}
    again, _ = env.reset(seed=9)
    assert first.tolist() == again.tolist()
    low, _ = env.reset(seed=9, options={"low": -0.001, "high": 0.001})
    assert abs(low).max() <= 0.001


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (RewardConfig(mode="add", weights={"fuel": 1.0}), "unknown CartPole-v1 term fuel"),
        (RewardConfig(mode="potential", weights={"push_right": 1.0}), "push_right depends"),
        (RewardConfig(mode="potential", weights={"still": 1.0}), "gamma"),
    ],
)
def test_invalid_reward_is_refused(config: RewardConfig, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RewardShapingWrapper(gym.make("CartPole-v1"), config)
    with pytest.raises(ValueError, match=message):
        VectorRewardShapingWrapper(SyncVectorEnv([partial(gym.make, "CartPole-v1")]), config)


@pytest.mark.parametrize("gamma", [-1, 1.5, True, float("nan"), "0.9"])
def test_gamma_outside_its_range_is_refused(gamma: Any) -> None:
    with pytest.raises(ValueError, match="gamma must be a number from 0 to 1"):
        RewardShapingWrapper(gym.make("CartPole-v1"), RewardConfig(), gamma=gamma)


@pytest.mark.parametrize("total", [-5, 0, True, float("nan"), "9"])
def test_total_timesteps_must_be_positive(total: Any) -> None:
    with pytest.raises(ValueError, match="total_timesteps must be a positive number"):
        RewardShapingWrapper(gym.make("CartPole-v1"), RewardConfig(), total_timesteps=total)


def test_step_before_reset_is_refused() -> None:
    bare = gym.make("CartPole-v1").unwrapped
    with pytest.raises(gym.error.ResetNeeded):
        RewardShapingWrapper(bare, RewardConfig()).step(0)
    vector = VectorRewardShapingWrapper(SyncVectorEnv([partial(gym.make, "CartPole-v1")]), {})
    with pytest.raises(gym.error.ResetNeeded):
        vector.step(np.zeros(1, dtype=int))


def test_wrapper_is_pickled_in_the_middle_of_an_episode() -> None:
    env = RewardShapingWrapper(gym.make("CartPole-v1"), UPRIGHT)
    env.reset(seed=0)
    env.step(1)
    again = pickle.loads(pickle.dumps(env))  # noqa: S301
    assert env.step(0)[4] == again.step(0)[4]


@pytest.mark.parametrize("as_json", [False, True])
def test_environment_is_made_again_from_its_spec(as_json: bool) -> None:
    env = wrapped("CartPole-v1", UPRIGHT, max_episode_steps=3)
    assert env.spec is not None
    again = gym.make(EnvSpec.from_json(env.spec.to_json()) if as_json else env.spec)
    assert isinstance(again, RewardShapingWrapper)
    env.reset(seed=0)
    again.reset(seed=0)
    assert env.step(1)[1] == again.step(1)[1] != 1.0


def test_mapping_is_a_configuration() -> None:
    env = RewardShapingWrapper(gym.make("CartPole-v1"), UPRIGHT.model_dump())
    assert env.kernel.weights.tolist() == [1.0, 0.0, 0.0, 0.0]
    with pytest.raises(ValueError, match="weight"):
        RewardShapingWrapper(gym.make("CartPole-v1"), {"weight": {"upright": 1.0}})


def speed(transition: Transition) -> npt.NDArray[np.float64]:
    return np.abs(transition.next_obs[:, 1])


def test_functions_are_terms() -> None:
    terms = {"speed": speed, "lean": {"python": lambda obs: obs[:, 2], "state_only": True}}
    config = RewardConfig(mode="add", terms=terms, weights={"speed": -1.0})
    env = RewardShapingWrapper(gym.make("CartPole-v1"), config)
    env.reset(seed=0)
    obs, *_, info = env.step(1)
    parts = info["reward_components"]
    assert (parts["speed"], parts["lean"]) == (pytest.approx(abs(obs[1])), pytest.approx(obs[2]))
    named = RewardConfig(mode="add", terms={"speed": speed}, weights={"speed": -1.0})
    assert named.model_dump()["terms"] == {
        "speed": {"python": f"{__name__}:speed", "state_only": False}
    }
    potential = {"mode": "potential", "terms": terms, "weights": {"lean": 1.0}}
    RewardShapingWrapper(gym.make("CartPole-v1"), potential, gamma=0.9)
    of_speed = potential | {"weights": {"speed": 1.0}}
    with pytest.raises(ValueError, match="speed depends on more"):
        RewardShapingWrapper(gym.make("CartPole-v1"), of_speed, gamma=0.9)


def test_monitor_around_it_sees_the_shaped_reward_and_the_sums() -> None:
    monitor = pytest.importorskip("stable_baselines3.common.monitor").Monitor
    config = RewardConfig(mode="replace", weights={"distance": 200.0})
    env = wrapped("LunarLander-v3", config, max_episode_steps=10)
    env = monitor(env, info_keywords=("sum_distance",))
    env.reset(seed=0)
    infos = [env.step(0)[4] for _ in range(10)]
    episode = infos[-1]["episode"]
    total = sum(info["reward_components"]["shaped"] for info in infos)
    assert (episode["l"], episode["r"]) == (10, pytest.approx(total, abs=1e-5))
    assert total < -1000
    assert episode["sum_distance"] == infos[-1]["sum_distance"] == pytest.approx(total / 200)


class ArrayReward(gym.Wrapper[Any, Any, Any, Any]):
    """Environment whose reward is an array."""

    size = 1

    def step(self, action: Any) -> Any:
        obs, reward, *rest = self.env.step(action)
        return (obs, np.full(self.size, reward), *rest)


def test_array_rewards_have_one_entry() -> None:
    env = ArrayReward(gym.make("CartPole-v1", disable_env_checker=True))
    shaped = RewardShapingWrapper(env, UPRIGHT)
    shaped.reset(seed=0)
    assert shaped.step(1)[4]["reward_components"]["env_reward"] == 1.0
    env.size = 2
    with pytest.raises(ValueError, match=r"array of shape \(2,\), not a number; combine"):
        shaped.step(1)


class Unregistered(gym.Env[Any, Any]):
    observation_space = gym.spaces.Box(-1, 1, (4,))
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        return np.zeros(4), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return np.full(4, 0.5), 1.0, False, False, {}


@pytest.mark.parametrize("make", [partial(gym.make, "FrozenLake-v1"), Unregistered])
def test_any_environment_can_be_shaped(make: Callable[[], Any]) -> None:
    config = RewardConfig(mode="replace", weights={"far": 2.0}, terms={"far": "obs[0] + 1"})
    env = RewardShapingWrapper(make(), config)
    obs, _ = env.reset(seed=0)
    obs, reward, *_, info = env.step(env.action_space.sample())
    assert reward == pytest.approx(2 * (np.ravel(obs)[0] + 1))
    assert info["reward_components"]["far"] == pytest.approx(np.ravel(obs)[0] + 1)


def test_package_exports_the_wrappers() -> None:
    assert shaperun.RewardShapingWrapper is RewardShapingWrapper
    assert shaperun.VectorRewardShapingWrapper is VectorRewardShapingWrapper
    assert shaperun.RewardConfig is RewardConfig
    with pytest.raises(AttributeError, match="RewardShaper"):
        shaperun.RewardShaper  # noqa: B018


def test_examples_in_docstrings() -> None:
    results = doctest.testmod(wrapper)
    assert results.attempted
    assert not results.failed
