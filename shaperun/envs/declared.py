"""Find the declaration of an environment: shaperun's, an installed package's, or a module's own."""

from __future__ import annotations

import importlib
import sys
from dataclasses import replace
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType
from typing import Any

from shaperun.envs.base import Environment
from shaperun.envs.builtin import environments

ENTRY_POINT_GROUP = "shaperun.environments"

_found: dict[str, Environment] = {}  # by the id without a module, under which gymnasium makes it


@cache
def installed_environments() -> dict[str, EntryPoint]:
    """Return the environments that installed packages declare, by id, without importing them."""
    return {point.name: point for point in entry_points(group=ENTRY_POINT_GROUP)}


@cache
def find_declaration(env_id: str) -> Environment | None:
    """Return the declaration of an environment; None if there is none.

    An id `module:Name-v0` imports the module, which may declare `Name-v0` as those of
    `shaperun.envs.builtin` do; the caller has checked that its code may run.

    Raises:
        Exception: anything that the import of a module or a package raises.
        TypeError: the entry point of a package is no `Environment`.
    """
    module, _, name = env_id.rpartition(":")
    known = None
    if env_id in environments():
        return environments()[env_id]
    if module:
        known = _declarations(importlib.import_module(module)).get(name)
    elif env_id in installed_environments():
        known = installed_environments()[env_id].load()
        if not isinstance(known, Environment):
            raise TypeError(f"the entry point of {env_id} is no Environment")
    if known is None:
        return None
    _found[name] = known
    return replace(known, id=env_id, time_limit=known.time_limit or _registered_limit(name))


def find_own_declaration(env: Any, name: str) -> Environment | None:
    """Return the declaration of a bare environment: a known one, or one of its class's module."""
    module = sys.modules.get(type(env).__module__)
    own = _declarations(module).get(name) if module else None
    return find_declaration(name) or _found.get(name) or own


def _declarations(module: ModuleType) -> dict[str, Environment]:
    values = [value for value in vars(module).values() if isinstance(value, Environment)]
    return {value.id: value for value in values}


def _registered_limit(name: str) -> int | None:
    import gymnasium as gym  # slow to import

    return gym.registry[name].max_episode_steps if name in gym.registry else None
