"""Wrappers between an environment and its learner: glasses, through which only the learner looks.

The reward is computed from what the environment itself observes, does and pays, whatever the
learner sees; so its terms and its yardstick are the same with other wrappers.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any, SupportsFloat

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from shaperun.envs.base import Environment, Picture
from shaperun.envs.layout import flatten_rows
from shaperun.envs.spaces import find_pictures
from shaperun.envs.wrapper_names import EPISODES, REWARDS, STEPS, Wrappers


class ViewedEnv(gym.Wrapper[Any, Any, Any, Any]):
    """Environment as a learner sees it; keeps what the environment itself observed and did.

    After `reset` and `step`, `own_obs` is the environment's own observation, a flat row if it is a
    Dict or Tuple, and `own_action` the action it took.
    """

    def __init__(
        self, env: gym.Env[Any, Any], environment: Environment, wrappers: Wrappers | None
    ) -> None:
        """Wrap an environment for its learner; without a list of wrappers, for a controller.

        Raises:
            Exception: anything that a wrapper raises.
        """
        self._own = _OwnEnv(env, environment)
        viewed: gym.Env[Any, Any] = self._own
        for name, arguments in map(parse_wrapper, wrappers or ()):
            viewed = load_wrapper(name)(viewed, **arguments)
        composite = isinstance(viewed.observation_space, spaces.Dict | spaces.Tuple)
        if composite and wrappers is not None:
            viewed = _flatten(viewed)
        super().__init__(viewed)

    @property
    def own_obs(self) -> npt.NDArray[Any]:
        """Latest observation of the environment itself."""
        return self._own.obs

    @property
    def own_action(self) -> Any:
        """Latest action that the environment took."""
        return self._own.action

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        """Take a step.

        Raises:
            ValueError: a wrapper changes the reward or the end of the episode, or takes another
                number of steps.
        """
        before = self._own.steps
        obs, reward, terminated, truncated, info = self.env.step(action)
        if self._own.steps != before + 1:
            raise ValueError(f"a wrapper took {self._own.steps - before} steps for one; {STEPS}")
        own_reward, *own_ends = self._own.result
        if own_ends != [terminated, truncated]:
            raise ValueError(f"a wrapper changes when an episode ends; {EPISODES}")
        if reward is not own_reward and not np.array_equal(np.asarray(reward), own_reward):
            raise ValueError(f"a wrapper changes the reward; {REWARDS}")
        return obs, reward, terminated, truncated, info


class PicturesSpace(spaces.Box):
    """A flattened Dict or Tuple with pictures in it, which networks look at as pictures."""

    def __init__(self, flat: Any, pictures: tuple[Picture, ...]) -> None:
        super().__init__(flat.low, flat.high, dtype=flat.dtype)
        self.pictures = pictures


def _flatten(env: gym.Env[Any, Any]) -> gym.Env[Any, Any]:
    pictures = tuple(p for p in find_pictures(env.observation_space) if p.is_large)
    flattened = gym.wrappers.FlattenObservation(env)
    if pictures:
        flattened.observation_space = PicturesSpace(flattened.observation_space, pictures)
    return flattened


class _OwnEnv(gym.Wrapper[Any, Any, Any, Any]):
    """Keeps a copy of an environment's latest step, inside the wrappers of its learner."""

    def __init__(self, env: gym.Env[Any, Any], environment: Environment) -> None:
        super().__init__(env)
        self._layout = environment.observation_layout
        self.steps = 0
        self.obs: npt.NDArray[Any]
        self.action: Any
        self.result: tuple[Any, bool, bool]

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        obs, info = self.env.reset(seed=seed, options=options)
        self.obs = self._copy(obs)
        return obs, info

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        obs, reward, terminated, truncated, info = self.env.step(action)
        self.obs = self._copy(obs)
        self.action = action.copy() if isinstance(action, np.ndarray) else action
        self.result = reward, terminated, truncated
        self.steps += 1
        return obs, reward, terminated, truncated, info

    def _copy(self, obs: Any) -> npt.NDArray[Any]:
        if isinstance(self._layout, Mapping):
            return np.asarray(flatten_rows([obs], self._layout)[0])
        return np.array(obs)


def parse_wrapper(
    wrapper: str | Mapping[str, Mapping[str, Any]],
) -> tuple[str, dict[str, Any]]:
    """Return the name and the arguments of a wrapper; lists become tuples, as shapes are."""
    if isinstance(wrapper, str):
        return wrapper, {}
    [(name, arguments)] = wrapper.items()
    return name, {k: tuple(v) if isinstance(v, list) else v for k, v in arguments.items()}


def load_wrapper(name: str) -> Any:
    """Import a wrapper: gymnasium's by its name, another one by `module:Class`.

    Raises:
        Exception: anything that the import raises.
    """
    module, _, attribute = name.rpartition(":")
    return getattr(importlib.import_module(module or "gymnasium.wrappers"), attribute)
