"""One module an environment. They are discovered: adding a file is all it takes."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from shaperun.terms import Environment


@cache
def environments() -> dict[str, Environment]:
    """Every environment with a module of its own, by gymnasium id."""
    modules = (
        importlib.import_module(f"{__name__}.{m.name}") for m in pkgutil.iter_modules(__path__)
    )
    found = (thing for module in modules for thing in vars(module).values())
    return {e.id: e for e in found if isinstance(e, Environment)}
