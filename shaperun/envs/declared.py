"""Find the declaration of an environment: shaperun's, an installed package's, or a module's own."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType
from typing import Any

from shaperun.envs.base import Environment
from shaperun.envs.builtin import environments
from shaperun.envs.contract import check_declaration

ENTRY_POINT_GROUP = "shaperun.environments"


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
        ContractError: a name in the declaration cannot be used.
        TypeError: the entry point of a package is not an `Environment`.
    """
    module, _, name = env_id.rpartition(":")
    if env_id in environments():
        return environments()[env_id]
    if module:
        known = _declarations(importlib.import_module(module)).get(name)
    elif env_id in installed_environments():
        known = installed_environments()[env_id].load()
        if not isinstance(known, Environment):
            raise TypeError(f"the entry point of {env_id} is not an Environment")
    else:
        return None
    if known:
        check_declaration(known)
    return known and replace(known, id=env_id, time_limit=known.time_limit or _limit_of(name))


def find_own_declaration(env: Any, spec: Any) -> Environment | None:
    """Return the declaration of a bare environment, made by gymnasium from a spec or without one.

    Those of the module of its class, of the one that registered it, and of the packages that
    these are in come before those that shaperun or installed packages have for its name.
    """
    name = spec.id if spec else type(env).__name__
    for module in _modules_of(env, spec and spec.entry_point):
        known = _declarations(module).get(name)
        if known:
            check_declaration(known)
            return replace(known, time_limit=known.time_limit or _limit_of(name))
    return find_declaration(name)


def _modules_of(env: Any, entry_point: Any) -> Iterator[ModuleType]:
    """Yield the modules of an environment and of its entry point, each before its packages."""
    made_by = (
        entry_point.partition(":")[0]
        if isinstance(entry_point, str)
        else getattr(entry_point, "__module__", None) or ""
    )
    for name in (type(env).__module__, made_by):
        parts = name.split(".")
        names = (".".join(parts[:end]) for end in range(len(parts), 0, -1))
        yield from (sys.modules[name] for name in names if name in sys.modules)


def _declarations(module: ModuleType) -> dict[str, Environment]:
    values = [value for value in vars(module).values() if isinstance(value, Environment)]
    return {value.id: value for value in values}


def _limit_of(name: str) -> int | None:
    import gymnasium as gym  # slow to import

    return gym.registry[name].max_episode_steps if name in gym.registry else None
