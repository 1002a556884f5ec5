"""Any gymnasium environment as shaperun sees it: by its own module, or by what its spaces tell."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from shaperun.envs.base import Environment, Transition
from shaperun.envs.builtin import environments


class UnknownEnvironmentError(LookupError):
    """There is no environment of that name; `known` are those there are."""

    def __init__(self, env_id: str, known: list[str]) -> None:
        super().__init__(f"there is no environment named {env_id}")
        self.env_id, self.known = env_id, known


class UnsupportedEnvironmentError(ValueError):
    """The environment is there and cannot be used; the message says why."""


def get_environment(env_id: str, options: Mapping[str, Any] | None = None) -> Environment:
    """What is known about a registered environment.

    One without a module of its own is made once, to see what its spaces are.

    Raises:
        UnknownEnvironmentError: gymnasium has none of that name.
        UnsupportedEnvironmentError: it cannot be made, or its spaces are of several kinds.
    """
    options = options or {}
    known = environments().get(env_id)
    if known is None:
        return _inspect(env_id, tuple(sorted(options.items())))
    # gymnasium takes −1 for no limit.
    return replace(known, no_time_limit=True) if options.get("max_episode_steps") == -1 else known


def from_spaces(env_id: str, observation_space: Any, action_space: Any) -> Environment:
    """An environment by its spaces alone: its observations and outcomes have no names.

    Raises:
        UnsupportedEnvironmentError: a space is of several kinds (Dict, Tuple, …).
    """
    from gymnasium import spaces

    fits = (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)
    for what, space in (("observations", observation_space), ("actions", action_space)):
        if not isinstance(space, fits):
            raise UnsupportedEnvironmentError(
                f"its {what} are a {type(space).__name__}, and only Box, Discrete, MultiDiscrete "
                "and MultiBinary can be learned from; a gymnasium wrapper can flatten them"
            )
    discrete = isinstance(action_space, spaces.Discrete)
    return Environment(
        id=env_id,
        observations=(),
        anonymous_size=int(np.prod(observation_space.shape)),
        discrete_observations=not isinstance(observation_space, spaces.Box),
        action_size=None if discrete else int(np.prod(action_space.shape)),
        outcome=_outcome,
        outcomes={"terminated": None, "truncated": None},
    )


def _outcome(end: Transition) -> npt.NDArray[np.str_]:
    return np.where(end.terminated, "terminated", "truncated")


@cache
def _inspect(env_id: str, options: tuple[tuple[str, Any], ...]) -> Environment:
    import gymnasium as gym  # takes a moment, and most studies do without it

    module, _, name = env_id.rpartition(":")
    try:
        if module:  # the caller has made sure that its code may run
            importlib.import_module(module)
        if name not in gym.registry:
            raise UnknownEnvironmentError(env_id, [*environments(), *gym.registry])
        env = gym.make(name, disable_env_checker=True, **dict(options))
        try:
            endless = env.spec is None or env.spec.max_episode_steps is None
            known = from_spaces(env_id, env.observation_space, env.action_space)
            return replace(known, no_time_limit=endless)
        finally:
            env.close()
    except (UnknownEnvironmentError, UnsupportedEnvironmentError):
        raise
    except Exception as error:  # whatever its own code raises
        raise UnsupportedEnvironmentError(
            f"it cannot be made: {type(error).__name__}: {error}"
        ) from None
