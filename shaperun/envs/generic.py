"""Lookup of any gymnasium environment: declared in a module, or inferred from its spaces."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from functools import cache
from math import inf
from typing import Any

import numpy as np

from shaperun.envs.base import Environment
from shaperun.envs.builtin import environments
from shaperun.envs.declared import find_declaration, installed_environments
from shaperun.envs.metrics import metric_bounds

PACKAGE_HINT = "PACKAGE:NAME for one of a package"


class UnknownEnvironmentError(LookupError):
    """gymnasium has no environment of that name; `known` lists those it has."""

    def __init__(self, env_id: str, known: list[str]) -> None:
        super().__init__(f"unknown environment {env_id}")
        self.env_id, self.known = env_id, known


class UnsupportedEnvironmentError(ValueError):
    """The environment exists but cannot be used; the message says why."""


def get_environment(env_id: str, options: Mapping[str, Any] | None = None) -> Environment:
    """Return the declaration of a registered environment.

    An environment without a module is made once, to inspect its spaces.

    Raises:
        UnknownEnvironmentError: gymnasium has no environment of that name.
        UnsupportedEnvironmentError: it cannot be made, or has an unsupported space.
    """
    options = options or {}
    known = _load_declaration(env_id)
    if known is None:
        return _inspect(env_id, json.dumps(options, sort_keys=True))
    limit = options.get("max_episode_steps")
    if limit is not None:
        # gymnasium reads −1 as no limit.
        known = replace(known, time_limit=None if limit == -1 else limit)
    if options.keys() - {"max_episode_steps"}:
        known = replace(known, episode_bounds=None)
    if options.keys() & known.reward_options:
        return replace(known, own_reward=None, solved=None)
    return known if _can_be_solved(known) else replace(known, solved=None)


def _load_declaration(env_id: str) -> Environment | None:
    try:
        return find_declaration(env_id)
    except Exception as error:  # a module may raise anything
        raise _creation_error(error) from None


def _can_be_solved(known: Environment) -> bool:
    """Return False if the time limit, which options may lower, keeps returns below `solved`."""
    if known.solved is None or not isinstance(known.time_limit, int):  # options are not checked yet
        return True
    _, highest = metric_bounds(known).get("return", (-inf, inf))
    return known.solved <= highest


def from_spaces(env_id: str, observation_space: Any, action_space: Any) -> Environment:
    """Return a declaration inferred from spaces; observations and outcomes have generic names.

    Raises:
        UnsupportedEnvironmentError: a space is composite (Dict, Tuple, …).
    """
    from gymnasium import spaces

    supported = (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)
    for kind, space in (("observation", observation_space), ("action", action_space)):
        if not isinstance(space, supported):
            raise UnsupportedEnvironmentError(
                f"unsupported {kind} space {type(space).__name__}, expected Box, Discrete, "
                "MultiDiscrete or MultiBinary; flatten it with a gymnasium wrapper"
            )
    discrete = isinstance(action_space, spaces.Discrete)
    return Environment(
        id=env_id,
        observations=(),
        anonymous_shape=tuple(map(int, observation_space.shape)) or (1,),
        pictures=_is_picture(observation_space),
        discrete_observations=not isinstance(observation_space, spaces.Box),
        action_size=None if discrete else int(np.prod(action_space.shape)),
        outcome=lambda end: np.where(end.terminated, "terminated", "truncated"),
        outcomes={"terminated": None, "truncated": None},
    )


def _is_picture(space: Any) -> bool:
    """Return whether stable-baselines3 takes a space for pictures with their channels last.

    As its `is_image_space` and `is_image_space_channels_first`, which would import torch.
    """
    if not hasattr(space, "low") or space.dtype != np.uint8 or len(space.shape) != 3:
        return False
    return bool((space.low == 0).all() and (space.high == 255).all() and np.argmin(space.shape))


@cache
def _inspect(env_id: str, options: str) -> Environment:
    name = env_id.rpartition(":")[2]
    try:
        with warnings.catch_warnings():  # of environments that are old or registered twice
            warnings.simplefilter("ignore")
            return _make_once(name, env_id, json.loads(options))
    except (UnknownEnvironmentError, UnsupportedEnvironmentError):
        raise
    except Exception as error:  # code of the environment may raise anything
        raise _creation_error(error) from None


def _creation_error(error: Exception) -> UnsupportedEnvironmentError:
    return UnsupportedEnvironmentError(f"creation failed with {type(error).__name__}: {error}")


def _make_once(name: str, env_id: str, options: dict[str, Any]) -> Environment:
    import gymnasium as gym  # slow to import, and most studies do not need it

    if name not in gym.registry:  # a module in front of the colon has been imported
        names = [*environments(), *installed_environments(), *gym.registry]
        raise UnknownEnvironmentError(env_id, names)
    with closing(gym.make(name, disable_env_checker=True, **options)) as env:
        known = from_spaces(env_id, env.observation_space, env.action_space)
        return replace(known, time_limit=env.spec.max_episode_steps if env.spec else None)
