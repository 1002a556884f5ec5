"""One module an environment, or a few that share their maths. They are discovered by being here."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from shaperun.envs.base import Environment


@cache
def environments() -> dict[str, Environment]:
    """Every environment with a module of its own, by gymnasium id."""
    modules = (
        importlib.import_module(f"{__name__}.{m.name}") for m in pkgutil.iter_modules(__path__)
    )
    found = (thing for module in modules for thing in vars(module).values())
    return {e.id: e for e in found if isinstance(e, Environment)}
