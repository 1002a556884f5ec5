"""Terms that are Python functions: installed ones by name, any other by module:function."""

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
    """The terms that installed packages declare, by name; none of their code is imported."""
    return {point.name: point for point in entry_points(group=ENTRY_POINT_GROUP)}


def python_term(name: str, reference: str, *, state_only: bool) -> Term:
    """A term whose function is imported when it is first called.

    Reading results must never import code, so nothing happens before that.
    """

    def function(argument: Any) -> Array:
        values = np.asarray(_load(reference)(_read_only(argument)), dtype=np.float64)
        if values.shape != (len(argument),):
            raise ValueError(
                f"an array of shape ({len(argument)},) was expected, and it is {values.shape}"
            )
        return values

    return Term(name, f"Python function {reference}.", function, state_only)


def _read_only(argument: Any) -> Any:
    """The same arrays for reading only: what a term does to them would change the training."""
    if isinstance(argument, Transition):
        fields = argument.__dataclass_fields__
        return Transition(**{name: _read_only(getattr(argument, name)) for name in fields})
    view = argument.view()
    view.flags.writeable = False
    return view


@cache
def _load(reference: str) -> Callable[[Any], Array]:
    """The function itself.

    Raises:
        ImportError: it cannot be had; the message says why.
    """
    try:
        if reference in installed_terms():
            found = installed_terms()[reference].load()
        else:
            module, _, attribute = reference.partition(":")
            found = getattr(importlib.import_module(module), attribute)
    except Exception as error:  # whatever its module raises
        raise ImportError(f"{reference} cannot be imported: {error}") from error
    if not callable(found):
        raise ImportError(f"{reference} is no function")
    made: Callable[[Any], Array] = found
    return made
