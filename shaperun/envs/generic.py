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

from shaperun.common.errors import ContractError, describe_exception, exits_as_errors
from shaperun.envs.base import Environment, View
from shaperun.envs.builtin import environments
from shaperun.envs.declared import find_declaration, installed_environments
from shaperun.envs.info import read_info, record_info
from shaperun.envs.metrics import metric_bounds
from shaperun.envs.spaces import (
    UnsupportedEnvironmentError,
    complete,
    describe_space,
    from_spaces,
)
from shaperun.envs.wrapper_names import Wrappers

PACKAGE_HINT = "PACKAGE:NAME for one of a package"


SUCCESS_OUTCOMES: Mapping[str, bool | None] = {"success": True, "failure": False}
"""Outcomes of environments without a declaration whose info has `is_success`."""


class UnknownEnvironmentError(LookupError):
    """gymnasium has no environment of that name; `known` lists those it has, or those of `module`.

    That is the module in front of the colon, if it registers any.
    """

    def __init__(self, env_id: str, known: list[str], module: str = "") -> None:
        super().__init__(f"unknown environment {env_id}")
        self.env_id, self.known, self.module = env_id, known, module


def get_environment(env_id: str, options: Mapping[str, Any] | None = None) -> Environment:
    """Return the declaration of a registered environment.

    An environment that is not shaperun's is made once, to inspect its spaces and, unless it is
    declared, the info of a step.

    Raises:
        UnknownEnvironmentError: gymnasium has no environment of that name.
        UnsupportedEnvironmentError: it cannot be made, or has an unsupported space.
    """
    options = options or {}
    known = _load_declaration(env_id)
    if known is None:
        return _inspect(env_id, json.dumps(options, sort_keys=True))
    if known.view is None and env_id not in environments():
        known = _with_view(known, env_id, options)
    if known.adapt and options:
        known = known.adapt(known, options)
    declared_limit, limit = known.time_limit, options.get("max_episode_steps")
    if limit is not None:
        # gymnasium reads −1 as no limit.
        known = replace(known, time_limit=None if limit == -1 else limit)
    known = known if _can_be_solved(known, declared_limit) else replace(known, solved=None)
    if options.keys() - {"max_episode_steps"}:
        known = replace(known, episode_bounds=None)
    if options.keys() & known.reward_options:
        return replace(known, own_reward=None, solved=None)
    return known


def _with_view(known: Environment, env_id: str, options: Mapping[str, Any]) -> Environment:
    try:
        seen = _inspect(env_id, json.dumps(options, sort_keys=True))
    except UnsupportedEnvironmentError:  # reported when it is made to be played
        return known
    return complete(known, seen)


def _load_declaration(env_id: str) -> Environment | None:
    try:
        with exits_as_errors():
            return find_declaration(env_id)
    except Exception as error:  # a module may raise anything
        raise _creation_error(error) from error


def _can_be_solved(known: Environment, declared_limit: int | None) -> bool:
    """Return False if options lower the time limit, unless bounds show that `solved` is in reach.

    gymnasium's threshold is for episodes of the time limit that it registers.
    """
    limit = known.time_limit
    if known.solved is None or not isinstance(limit, int):  # options are not checked yet
        return True
    _, highest = metric_bounds(known).get("return", (-inf, inf))
    if highest == inf and declared_limit is not None:
        return limit >= declared_limit
    return known.solved <= highest


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
    # gymnasium is slow to import
    from shaperun.envs.make import explain_playing_error, make_environment
    from shaperun.envs.wrappers import seen_space

    options, wrappers = json.loads(settings)
    environment = get_environment(env_id, options)
    try:
        with (
            warnings.catch_warnings(),
            exits_as_errors(),
            closing(make_environment(environment, options, wrappers)) as env,
        ):
            warnings.simplefilter("ignore")
            seen = from_spaces(env_id, env.observation_space, env.action_space)
            described = describe_space(seen_space(env))
            env.action_space.seed(0)
            env.reset(seed=0)
            env.step(env.action_space.sample())
    except UnsupportedEnvironmentError:
        raise
    except Exception as error:  # code of a wrapper may raise anything
        raise UnsupportedEnvironmentError(explain_playing_error(error)) from error
    return replace(seen.learner_view, described=described)


@cache
def _inspect(env_id: str, options: str) -> Environment:
    name = env_id.rpartition(":")[2]
    try:
        # Warnings of environments that are old or registered twice.
        with warnings.catch_warnings(), exits_as_errors():
            warnings.simplefilter("ignore")
            return _make_once(name, env_id, json.loads(options))
    except (UnknownEnvironmentError, UnsupportedEnvironmentError):
        raise
    except Exception as error:  # code of the environment may raise anything
        raise _creation_error(error) from error


def _creation_error(error: Exception) -> UnsupportedEnvironmentError:
    missing = isinstance(error, ModuleNotFoundError)
    remedy = "; run the command in the folder of the module, or install it" if missing else ""
    failed = "" if isinstance(error, ContractError) else "creation failed with "
    return UnsupportedEnvironmentError(f"{failed}{describe_exception(error)}{remedy}")


def _make_once(name: str, env_id: str, options: dict[str, Any]) -> Environment:
    import gymnasium as gym  # slow to import, and most studies do not need it

    if name not in gym.registry:  # a module in front of the colon has been imported
        module = env_id.rpartition(":")[0]
        if module and (own := _registered_by(module)):
            raise UnknownEnvironmentError(env_id, own, module)
        names = [*environments(), *installed_environments(), *gym.registry]
        raise UnknownEnvironmentError(env_id, names)
    with closing(gym.make(name, disable_env_checker=True, **options)) as env:
        known = from_spaces(env_id, env.observation_space, env.action_space)
        known = replace(known, time_limit=env.spec.max_episode_steps if env.spec else None)
        return _with_success(known) if _reports_success(env) else known


def _registered_by(module: str) -> list[str]:
    """Return the ids of the environments whose class or factory is in a module."""
    import gymnasium as gym

    ids = []
    for name, spec in gym.registry.items():
        point = spec.entry_point
        made_by = point.partition(":")[0] if isinstance(point, str) else point
        made_by = made_by if isinstance(made_by, str) else str(getattr(made_by, "__module__", ""))
        if made_by == module or made_by.startswith(f"{module}."):
            ids.append(f"{module}:{name}")
    return ids


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
