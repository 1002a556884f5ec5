"""Wrappers of the observations and actions of a learner.

The reward is computed from what the environment itself observes, does, pays and reports, whatever
the learner sees; so its terms and its yardstick are the same with other wrappers.
"""

from __future__ import annotations

import copy
import importlib
from collections.abc import Mapping
from functools import partial
from typing import Any, SupportsFloat

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from shaperun.common.errors import ContractError
from shaperun.envs.base import Environment, Picture
from shaperun.envs.layout import flatten_row
from shaperun.envs.spaces import find_pictures
from shaperun.envs.wrapper_names import NO_EPISODES, NO_RESETS, NO_REWARDS, NO_STEPS, Wrappers


class ViewedEnv(gym.Wrapper[Any, Any, Any, Any]):
    """Environment as a learner sees it; `base` keeps what the environment itself did.

    `seen_space` is its space of observations before a Dict or Tuple is flattened.
    """

    def __init__(
        self, env: gym.Env[Any, Any], environment: Environment, wrappers: Wrappers | None
    ) -> None:
        """Wrap an environment for its learner; without a list of wrappers, for a controller.

        Raises:
            Exception: anything that a wrapper raises.
        """
        self.base = BaseEnv(env, environment)
        viewed: gym.Env[Any, Any] = self.base
        for name, arguments in map(parse_wrapper, wrappers or ()):
            viewed = load_wrapper(name)(viewed, **arguments)
        self.seen_space = viewed.observation_space
        composite = isinstance(viewed.observation_space, spaces.Dict | spaces.Tuple)
        if composite and wrappers is not None:
            viewed = _flatten(viewed)
        super().__init__(viewed)
        self._step = viewed.step

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Reset the environment.

        Raises:
            ContractError: a wrapper takes steps in it.
        """
        obs, info = self.env.reset(seed=seed, options=options)
        if self.base.steps:
            raise ContractError(f"a wrapper takes steps in reset; {NO_RESETS}")
        return obs, info

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        """Take a step; the info is that of the environment itself.

        Raises:
            ContractError: a wrapper changes the reward or the end of the episode, or takes another
                number of steps.
        """
        base = self.base
        base.steps = 0
        obs, reward, terminated, truncated, _ = self._step(action)
        if base.steps != 1:
            raise ContractError(f"a wrapper took {base.steps} steps for one; {NO_STEPS}")
        base_reward, base_terminated, base_truncated, info = base.result
        if terminated != base_terminated or truncated != base_truncated:
            raise ContractError(f"a wrapper changes when an episode ends; {NO_EPISODES}")
        if reward is not base_reward and not np.array_equal(np.asarray(reward), base_reward):
            raise ContractError(f"a wrapper changes the reward; {NO_REWARDS}")
        return obs, reward, terminated, truncated, info


class BaseEnv(gym.Wrapper[Any, Any, Any, Any]):
    """Keeps a copy of an environment's latest step, inside the wrappers of its learner.

    `obs` is its observation, a flat row if that is a Dict or Tuple, `action` the action it took,
    `result` what it returned besides the observation, and `steps` counts its steps since the last
    reset or step of the learner.
    """

    def __init__(self, env: gym.Env[Any, Any], environment: Environment) -> None:
        super().__init__(env)
        layout = environment.observation_layout
        self._copy = (
            partial(flatten_row, layout=layout) if isinstance(layout, Mapping) else np.array
        )
        self.steps = 0
        self.obs: npt.NDArray[Any]
        self.action: Any
        self.result: tuple[Any, bool, bool, dict[str, Any]]

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Reset the environment."""
        obs, info = self.env.reset(seed=seed, options=options)
        self.obs, self.steps = self._copy(obs), 0
        return _copy_entries(obs), info

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        """Take a step."""
        self.action = _copy_entries(action)  # which the environment may change
        obs, reward, terminated, truncated, info = self.env.step(action)
        self.obs = self._copy(obs)
        self.result = reward, terminated, truncated, copy.copy(info)
        self.steps += 1
        return _copy_entries(obs), reward, terminated, truncated, info


def _copy_entries(value: Any) -> Any:
    """Copy the arrays of a value: an environment may return the same ones at every step."""
    if isinstance(value, Mapping):
        return {key: _copy_entries(entry) for key, entry in value.items()}
    if isinstance(value, tuple):
        return tuple(map(_copy_entries, value))
    return value.copy() if isinstance(value, np.ndarray) else value


def seen_space(env: gym.Env[Any, Any]) -> spaces.Space[Any]:
    """Return the space of observations of a learner before a Dict or Tuple is flattened."""
    return env.seen_space if isinstance(env, ViewedEnv) else env.observation_space


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
