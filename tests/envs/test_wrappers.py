"""Wrappers between environment and learner: rewards are those of the environment itself."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces

from shaperun.envs.generic import get_environment
from shaperun.envs.make import make_environment
from shaperun.envs.spaces import from_spaces
from shaperun.envs.wrapper_names import ALLOWED, REFUSED
from shaperun.envs.wrappers import ViewedEnv, load_wrapper
from tests.helpers import reach  # noqa: F401 (registers Reach-v0)
from tests.helpers.toy import refusals, study

ARGUMENTS: dict[str, dict[str, Any]] = {
    "DelayObservation": {"delay": 2},
    "DiscretizeAction": {"bins": 3},
    "DiscretizeObservation": {"bins": 3},
    "DtypeObservation": {"dtype": "float64"},
    "FilterObservation": {"filter_keys": ["position"]},
    "FrameStackObservation": {"stack_size": 3},
    "RescaleAction": {"min_action": -1, "max_action": 1},
    "RescaleObservation": {"min_obs": -1, "max_obs": 1},
    "ReshapeObservation": {"shape": [2, 1]},
    "StickyAction": {"repeat_action_probability": 0.3},
}
ENVIRONMENTS = {
    "FilterObservation": "Reach-v0",
    "GrayscaleObservation": "CarRacing-v3",
    "ResizeObservation": "CarRacing-v3",
}


def viewed(env_id: str, *wrappers: Any) -> gym.Env[Any, Any]:
    return make_environment(get_environment(env_id), {}, list(wrappers))


def assert_same_obs(env: ViewedEnv, bare: gym.Env[Any, Any], obs: Any) -> None:
    own = bare.base.obs if isinstance(bare, ViewedEnv) else obs
    np.testing.assert_array_equal(env.base.obs, own)


@pytest.mark.parametrize("name", ALLOWED)
def test_every_wrapper_leaves_the_environment_as_it_is(name: str) -> None:
    if name == "ResizeObservation":
        pytest.importorskip("cv2")
    environment = get_environment(ENVIRONMENTS.get(name, "MountainCarContinuous-v0"))
    short = {"max_episode_steps": 4}
    env = make_environment(environment, short, [{name: ARGUMENTS.get(name, {})}])
    bare = make_environment(environment, short, None)
    assert isinstance(env, ViewedEnv)
    env.action_space.seed(0)
    for seed in (3, None, None):  # later episodes begin where the generator is
        if name == "StickyAction":  # which draws from the environment's
            state = env.unwrapped.np_random.bit_generator.state
            bare.unwrapped.np_random.bit_generator.state = state
        env.reset(seed=seed)
        obs, _ = bare.reset(seed=seed)
        ended = False
        while not ended:
            assert_same_obs(env, bare, obs)
            _, reward, *ends, _ = env.step(env.action_space.sample())
            obs, *expected, _ = bare.step(env.base.action)
            assert [reward, *ends] == expected
            ended = any(ends)
        assert_same_obs(env, bare, obs)


def test_all_wrappers_of_gymnasium_are_known() -> None:
    functions = {"TransformObservation", "TransformAction"}  # take functions, not plain data
    pictures_of_states = {"AddRenderObservation", "AddWhiteNoise", "ObstructView"}
    unknown = set(gym.wrappers.__all__) - {*ALLOWED, *REFUSED} - functions - pictures_of_states
    assert {name for name in unknown if name[0].isupper()} <= {
        *("ArrayConversion", "JaxToNumpy", "JaxToTorch", "NumpyToTorch"),
    }
    assert all(isinstance(load_wrapper(name), type) for name in (*ALLOWED, *REFUSED))


class TwoSteps(gym.Wrapper[Any, Any, Any, Any]):
    def step(self, action: Any) -> Any:
        self.env.step(action)
        return self.env.step(action)


class Paid(gym.RewardWrapper[Any, Any]):
    def reward(self, reward: Any) -> Any:
        return reward + 1


class Short(gym.Wrapper[Any, Any, Any, Any]):
    def step(self, action: Any) -> Any:
        obs, reward, _, truncated, info = self.env.step(action)
        return obs, reward, True, truncated, info


class Skips(gym.Wrapper[Any, Any, Any, Any]):
    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        self.env.reset(seed=seed)
        obs, *_, info = self.env.step(self.env.action_space.sample())
        return obs, info


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Skips", "a wrapper takes steps in reset; episodes begin as the environment begins them"),
        ("TwoSteps", "a wrapper took 2 steps for one; it takes several steps at once"),
        ("Paid", "a wrapper changes the reward; rewards belong to the arms of a study"),
        ("Short", "a wrapper changes when an episode ends; episodes end as the environment ends"),
    ],
)
def test_wrappers_that_change_more_than_the_view_are_refused(name: str, message: str) -> None:
    wrapper = f"{__name__}:{name}"
    problems = refusals({"id": "CartPole-v1", "wrappers": [wrapper]}, allow_code=True)
    assert message in problems["environment.wrappers"]


@pytest.mark.parametrize(
    ("wrappers", "message"),
    [
        (["NormalizeReward"], "wrapper NormalizeReward is not allowed: rewards belong to the arms"),
        (["TimeLimit"], "set environment.options {max_episode_steps: …}"),
        (["FrameStack"], "unknown wrapper FrameStack"),
        ([{"ClipAction": None}], "ClipAction has a colon, but no arguments; remove the colon"),
        (
            [{"FrameStackObservation": None, "stack_size": 4}],
            "FrameStackObservation and stack_size are keys of one mapping; indent the arguments",
        ),
        ([{"ClipAction": {}, "FlattenObservation": {}}], "give each wrapper an entry of its own"),
        ([{"FrameStackObservation": 4}], "arguments of FrameStackObservation must be a mapping"),
        ([4], "Input should be a name or {Name: {argument: value}}"),
        (["os:system"], "os:system is code; give --allow-code if you trust it"),
        ([{"FrameStackObservation": {"size": 4}}], "unexpected keyword argument 'size'"),
        (["GrayscaleObservation"], "cannot apply these wrappers to CartPole-v1"),
        ([{"FlattenObservation": {}, "ClipAction": {}}], "give each wrapper an entry of its own"),
    ],
)
def test_invalid_wrappers_are_refused(wrappers: Any, message: str) -> None:
    problems = refusals({"id": "CartPole-v1", "wrappers": wrappers})
    assert any(message in text for text in problems.values()), problems


def test_learner_sees_what_wrappers_show() -> None:
    config = study(
        {"id": "CartPole-v1", "wrappers": [{"FrameStackObservation": {"stack_size": 4}}]}
    )
    env = config.environment.make()
    assert env.observation_space.shape == (4, 4)
    assert config.environment.describe().observation_size == 4
    assert study({"id": "CartPole-v1"}).environment.model_dump() == {
        "id": "CartPole-v1",
        "options": {},
    }


def test_envpool_has_no_wrappers() -> None:
    section = {"id": "CartPole-v1", "backend": "envpool", "wrappers": ["FlattenObservation"]}
    assert "EnvPool's environments have no wrappers" in refusals(section)["environment.backend"]


class Reusing(gym.Env[Any, Any]):
    """Returns the same arrays at every step."""

    action_space = spaces.Discrete(2)

    def __init__(self, *, composite: bool) -> None:
        self.array = np.zeros(1, np.float32)
        box = spaces.Box(-9, 9, (1,))
        self.observation_space = spaces.Dict(a=box) if composite else box
        self.obs = {"a": self.array} if composite else self.array

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        self.array[:] = 0
        return self.obs, {}

    def step(self, action: Any) -> Any:
        self.array += 1
        return self.obs, 0.0, False, False, {}


@pytest.mark.parametrize("composite", [False, True])
def test_wrappers_may_keep_observations(*, composite: bool) -> None:
    env = Reusing(composite=composite)
    declared = from_spaces("Reusing-v0", env.observation_space, env.action_space)
    wrappers: list[Any] = [
        {"DelayObservation": {"delay": 1}},
        {"FrameStackObservation": {"stack_size": 2}},
    ]
    if composite:
        wrappers = [{"FilterObservation": {"filter_keys": ["a"]}}, "FlattenObservation", *wrappers]
    seen = ViewedEnv(env, declared, wrappers)
    seen.reset()
    frames = [seen.step(0)[0].ravel().tolist() for _ in range(3)]
    assert frames == [[0, 0], [0, 1], [1, 2]]
