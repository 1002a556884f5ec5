"""Built-in terms read the environment's own observations and actions, below all other wrappers."""

from collections.abc import Callable
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import wrappers
from gymnasium.vector import SyncVectorEnv, VectorEnv
from gymnasium.wrappers.vector import NormalizeObservation as VectorNormalizeObservation
from gymnasium.wrappers.vector import RecordEpisodeStatistics as VectorRecordEpisodeStatistics

from shaperun.rewards.config import RewardConfig
from shaperun.rewards.wrapper import RewardShapingWrapper, VectorRewardShapingWrapper

Env = gym.Env[Any, Any]
UPRIGHT = RewardConfig(mode="add", weights={"upright": 1.0})


class Shift(gym.Wrapper[Any, Any, Any, Any]):
    """Changes observations without saying so, after the first."""

    def step(self, action: Any) -> Any:
        obs, *rest = self.env.step(action)
        return (obs + 0.1, *rest)


def scale(env: Env) -> Env:
    return wrappers.TransformObservation(env, lambda obs: 2 * obs, env.observation_space)


def render(env: Env) -> Env:
    return wrappers.AddRenderObservation(gym.make(env.spec, render_mode="rgb_array"))  # type: ignore[arg-type]


CHANGING: dict[str, Callable[[Env], Env]] = {
    "FrameStackObservation": partial(wrappers.FrameStackObservation, stack_size=4),
    "NormalizeObservation": wrappers.NormalizeObservation,
    "DelayObservation": partial(wrappers.DelayObservation, delay=1),
    "TimeAwareObservation": wrappers.TimeAwareObservation,
    "TransformObservation": scale,
    "AddRenderObservation": render,
    "Shift": Shift,
}
KEEPING: dict[str, Callable[[Env], Env]] = {
    "none": lambda env: env,
    "TimeLimit": partial(wrappers.TimeLimit, max_episode_steps=10),
    "RecordEpisodeStatistics": wrappers.RecordEpisodeStatistics,
    "FlattenObservation": wrappers.FlattenObservation,
    "DtypeObservation": partial(wrappers.DtypeObservation, dtype=np.float64),
    "RepeatAction": partial(wrappers.RepeatAction, num_repeats=1),
}


def make(wrap: Callable[[Env], Env]) -> Env:
    return wrap(gym.make("CartPole-v1"))


def shaped_rewards(env: Env) -> list[float]:
    shaped = RewardShapingWrapper(env, UPRIGHT)
    shaped.reset(seed=0)
    return [float(shaped.step(1)[1]) for _ in range(5)]


@pytest.mark.parametrize("name", CHANGING)
def test_changed_observations_are_refused(name: str) -> None:
    pattern = rf"CartPole-v1 itself, but {name} changes them; .* {name}\(RewardShapingWrapper\(env"
    with pytest.raises(ValueError, match=pattern):
        shaped_rewards(make(CHANGING[name]))


@pytest.mark.parametrize("name", KEEPING)
def test_wrappers_that_keep_them_are_allowed(name: str) -> None:
    assert shaped_rewards(make(KEEPING[name])) == shaped_rewards(gym.make("CartPole-v1"))


@pytest.mark.parametrize(
    "wrap",
    [
        partial(wrappers.RescaleAction, min_action=np.float32(-1), max_action=np.float32(1)),
        wrappers.ClipAction,
    ],
)
def test_changed_actions_are_refused(wrap: Callable[[Env], Env]) -> None:
    config = RewardConfig(mode="add", weights={"effort": 1.0})
    pendulum = gym.make("Pendulum-v1")
    with pytest.raises(ValueError, match="read the actions of Pendulum-v1 itself, but"):
        RewardShapingWrapper(wrap(pendulum), config)
    env = wrap(RewardShapingWrapper(pendulum, config))
    env.reset(seed=0)
    half = np.array([0.5], dtype=np.float32)  # of the largest torque, 2, where it is rescaled
    effort = env.step(half)[-1]["reward_components"]["effort"]
    assert effort == -1.0 if isinstance(env, wrappers.RescaleAction) else effort == -0.25


def test_wrapper_that_joins_episodes_is_refused() -> None:
    with pytest.raises(ValueError, match=r"as in Autoreset\(RewardShapingWrapper\(env"):
        RewardShapingWrapper(make(wrappers.Autoreset), UPRIGHT)


def test_reward_that_is_shaped_already_is_refused() -> None:
    shaped = RewardShapingWrapper(gym.make("CartPole-v1"), UPRIGHT)
    with pytest.raises(ValueError, match="already shaped"):
        RewardShapingWrapper(wrappers.TimeLimit(shaped, 10), UPRIGHT)


def test_other_wrappers_belong_around_the_reward() -> None:
    reference = RewardShapingWrapper(gym.make("CartPole-v1"), UPRIGHT)
    stacked = wrappers.FrameStackObservation(
        RewardShapingWrapper(gym.make("CartPole-v1"), UPRIGHT), 4
    )
    for env in (reference, stacked):
        env.reset(seed=0)
    assert [stacked.step(1)[1] for _ in range(5)] == [reference.step(1)[1] for _ in range(5)]


def test_environment_is_left_as_it_was() -> None:
    env = wrappers.RecordEpisodeStatistics(gym.make("CartPole-v1"))
    before = set(vars(env.unwrapped))
    shaped_rewards(env)
    assert not {"reset", "step"} & (set(vars(env.unwrapped)) - before)


def vector_of(wrap: Callable[[Env], Env]) -> VectorEnv[Any, Any, Any]:
    return SyncVectorEnv([partial(make, wrap)] * 2)


@pytest.mark.parametrize("name", CHANGING)
def test_changed_observations_in_a_vector_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"CartPole-v1 itself, but {name} changes them"):
        VectorRewardShapingWrapper(vector_of(CHANGING[name]), UPRIGHT)


def test_changed_observations_of_a_vector_are_refused() -> None:
    envs = VectorNormalizeObservation(gym.make_vec("CartPole-v1", num_envs=2))
    shaped = VectorRewardShapingWrapper(envs, UPRIGHT)
    with pytest.raises(ValueError, match="but NormalizeObservation changes them"):
        shaped.reset(seed=0)


@pytest.mark.parametrize("name", KEEPING)
def test_wrappers_that_keep_them_are_allowed_in_a_vector(name: str) -> None:
    envs = VectorRecordEpisodeStatistics(vector_of(KEEPING[name]))
    shaped = VectorRewardShapingWrapper(envs, UPRIGHT)
    shaped.reset(seed=[0, 1])
    rewards = [shaped.step(np.array([1, 1]))[1][0] for _ in range(5)]
    assert rewards == pytest.approx(shaped_rewards(gym.make("CartPole-v1")), rel=1e-12)
