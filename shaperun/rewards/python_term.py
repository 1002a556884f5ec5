"""Terms that are Python functions: installed ones by name, others by module:function."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import numpy as np

from shaperun.envs.base import Array, Term, Transition

ENTRY_POINT_GROUP = "shaperun.terms"


@cache
def installed_terms() -> dict[str, EntryPoint]:
    """Return the terms that installed packages declare, by name, without importing them."""
    return {point.name: point for point in entry_points(group=ENTRY_POINT_GROUP)}


def python_term(name: str, python: str | Callable[[Any], Any], *, state_only: bool) -> Term:
    """Return the term of a function, or of a reference to one.

    A reference is imported on the first call: reading results imports no code.

    Raises:
        ImportError: on a call, if the function cannot be imported.
        ValueError: on a call, if the function returns an array of another shape than (N,).
    """

    def function(argument: Any) -> Array:
        compute = _load(python) if isinstance(python, str) else python
        values = np.asarray(compute(_read_only(argument)), dtype=np.float64)
        if values.shape != (len(argument),):
            raise ValueError(f"expected an array of shape ({len(argument)},), not {values.shape}")
        return values

    shown = python if isinstance(python, str) else getattr(python, "__qualname__", repr(python))
    return Term(name, f"Python function {shown}.", function, state_only)


def _read_only(argument: Any) -> Any:
    """Return read-only views, so that a term cannot change the data of training."""
    if isinstance(argument, Transition):
        fields = argument.__dataclass_fields__
        return Transition(**{name: _read_only(getattr(argument, name)) for name in fields})
    view = argument.view()
    view.flags.writeable = False
    return view


@cache
def _load(reference: str) -> Callable[[Any], Array]:
    """Import a function.

    Raises:
        ImportError: the import fails for any reason, or the object is not callable.
    """
    try:
        if reference in installed_terms():
            function: Callable[[Any], Array] = installed_terms()[reference].load()
        else:
            module, _, attribute = reference.partition(":")
            function = getattr(importlib.import_module(module), attribute)
    except Exception as error:  # the module may raise anything
        raise ImportError(f"{reference} cannot be imported: {error}") from error
    if not callable(function):
        raise ImportError(f"{reference} is not callable")
    return function
