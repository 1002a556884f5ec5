"""Lookup of any gymnasium environment: declared in a module, or inferred from its spaces."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from functools import cache
from math import inf
from typing import Any, get_args

import numpy as np

from shaperun.envs.base import ActionSpace, Environment, View
from shaperun.envs.builtin import environments
from shaperun.envs.declared import find_declaration, installed_environments
from shaperun.envs.info import read_info, record_info
from shaperun.envs.layout import Layout
from shaperun.envs.metrics import metric_bounds
from shaperun.envs.pictures import find_pictures

Wrappers = Sequence[str | Mapping[str, Mapping[str, Any]]]
"""Names of wrappers, innermost first, each alone or with its arguments."""

PACKAGE_HINT = "PACKAGE:NAME for one of a package"


SUCCESS_OUTCOMES: Mapping[str, bool | None] = {"success": True, "failure": False}
"""Outcomes of environments without a declaration whose info has `is_success`."""


class UnknownEnvironmentError(LookupError):
    """gymnasium has no environment of that name; `known` lists those it has."""

    def __init__(self, env_id: str, known: list[str]) -> None:
        super().__init__(f"unknown environment {env_id}")
        self.env_id, self.known = env_id, known


class UnsupportedEnvironmentError(ValueError):
    """The environment exists but cannot be used; the message says why."""


def get_environment(env_id: str, options: Mapping[str, Any] | None = None) -> Environment:
    """Return the declaration of a registered environment.

    An environment without a module is made once, to inspect its spaces and the info of a step.

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
        UnsupportedEnvironmentError: actions are composite, or observations have no fixed size.
    """
    from gymnasium import spaces

    if not isinstance(action_space, _array_spaces()):
        raise UnsupportedEnvironmentError(
            f"unsupported action space {type(action_space).__name__}: learners have actions of "
            "Box, Discrete, MultiDiscrete or MultiBinary; make it one of these in a wrapper of the "
            "environment"
        )
    layout = _layout_of(observation_space)
    discrete = isinstance(action_space, spaces.Discrete)
    return Environment(
        id=env_id,
        observations=(),
        layout=layout or (1,),
        view=view_of(observation_space, action_space),
        discrete_observations=isinstance(
            observation_space, spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary
        ),
        action_size=None if discrete else int(np.prod(action_space.shape)),
        outcome=lambda end: np.where(end.terminated, "terminated", "truncated"),
        outcomes={"terminated": None, "truncated": None},
    )


def _array_spaces() -> tuple[Any, ...]:
    from gymnasium import spaces

    return (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)


def _layout_of(space: Any) -> Layout:
    from gymnasium import spaces

    if isinstance(space, spaces.Dict):
        return {key: _layout_of(entry) for key, entry in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        return dict(enumerate(map(_layout_of, space.spaces)))
    if not isinstance(space, _array_spaces()):
        raise UnsupportedEnvironmentError(
            f"observations of the space {type(space).__name__} have no fixed size; encode them as "
            "arrays in a wrapper of the environment"
        )
    return tuple(map(int, space.shape))


def view_of(observation_space: Any, action_space: Any) -> View:
    """Return spaces as a learner sees them; a Dict or Tuple is flattened for it."""
    from gymnasium import spaces

    pictures = tuple(find_pictures(observation_space))
    if isinstance(observation_space, spaces.Dict | spaces.Tuple):
        observation_space = spaces.flatten_space(observation_space)
    names: tuple[ActionSpace, ...] = get_args(ActionSpace)
    [actions] = [n for n in names if isinstance(action_space, getattr(spaces, n))]
    return View(
        shape=tuple(map(int, observation_space.shape)) or (1,),
        actions=actions,
        pictures=pictures,
        indices=not isinstance(observation_space, spaces.Box),
    )


def view_through(
    environment: Environment, options: Mapping[str, Any], wrappers: Wrappers
) -> Environment:
    """Return an environment as a learner sees it through wrappers; it is made once, to inspect it.

    Raises:
        UnsupportedEnvironmentError: a wrapper cannot be applied, or learners cannot act.
    """
    settings = json.dumps([options, wrappers], sort_keys=True)
    return replace(environment, view=_inspect_view(environment.id, settings))


@cache
def _inspect_view(env_id: str, settings: str) -> View:
    from shaperun.envs.make import make_environment  # gymnasium is slow to import

    options, wrappers = json.loads(settings)
    environment = get_environment(env_id, options)
    try:
        with (
            warnings.catch_warnings(),
            closing(make_environment(environment, options, wrappers)) as env,
        ):
            warnings.simplefilter("ignore")
            seen = from_spaces(env_id, env.observation_space, env.action_space)
            env.action_space.seed(0)
            env.reset(seed=0)
            env.step(env.action_space.sample())
    except UnsupportedEnvironmentError:
        raise
    except Exception as error:  # code of a wrapper may raise anything
        raise UnsupportedEnvironmentError(str(error) or type(error).__name__) from None
    return seen.learner_view


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
    missing = isinstance(error, ModuleNotFoundError)
    remedy = "; run the command in the folder of the module, or install it" if missing else ""
    return UnsupportedEnvironmentError(
        f"creation failed with {type(error).__name__}: {error}{remedy}"
    )


def _make_once(name: str, env_id: str, options: dict[str, Any]) -> Environment:
    import gymnasium as gym  # slow to import, and most studies do not need it

    if name not in gym.registry:  # a module in front of the colon has been imported
        names = [*environments(), *installed_environments(), *gym.registry]
        raise UnknownEnvironmentError(env_id, names)
    with closing(gym.make(name, disable_env_checker=True, **options)) as env:
        known = from_spaces(env_id, env.observation_space, env.action_space)
        known = replace(known, time_limit=env.spec.max_episode_steps if env.spec else None)
        return _with_success(known) if _reports_success(env) else known


def _reports_success(env: Any) -> bool:
    """Return whether the info of a step has `is_success`, which stable-baselines3 reads, too."""
    try:
        env.action_space.seed(0)
        env.reset(seed=0)
        *_, info = env.step(env.action_space.sample())
        read_info(record_info(info), ["is_success"])
    except Exception:  # an error of the environment is reported when it is played
        return False
    return True


def _with_success(known: Environment) -> Environment:
    return replace(
        known,
        outcome=lambda end: np.where(end.read_info("is_success") != 0, "success", "failure"),
        outcomes=SUCCESS_OUTCOMES,
        reads_info=True,
    )
