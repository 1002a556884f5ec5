"""Declared environments: one module per environment or family; every module here is loaded."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from shaperun.envs.base import Environment


@cache
def environments() -> dict[str, Environment]:
    """Return every declared environment, by gymnasium id."""
    modules = (
        importlib.import_module(f"{__name__}.{m.name}") for m in pkgutil.iter_modules(__path__)
    )
    values = (value for module in modules for value in vars(module).values())
    return {value.id: value for value in values if isinstance(value, Environment)}
