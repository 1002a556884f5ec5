"""Terms that are Python functions: installed ones by name, others by module:function."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from inspect import Parameter, signature
from typing import Any

import numpy as np

from shaperun.envs.base import Array, Term, Transition, evaluate_rows
from shaperun.envs.memory import Recall

ENTRY_POINT_GROUP = "shaperun.terms"


@cache
def installed_terms() -> dict[str, EntryPoint]:
    """Return the terms that installed packages declare, by name, without importing them."""
    return {point.name: point for point in entry_points(group=ENTRY_POINT_GROUP)}


def python_term(name: str, python: str | Callable[[Any], Any], *, state_only: bool) -> Term:
    """Return the term of a function, or of a reference to one.

    A reference is imported on the first call: reading results imports no code. A function with two
    parameters takes the transitions and the `Recall` of their episodes.

    Raises:
        ImportError: on a call, if the function cannot be imported.
        ValueError: on a call, if the function returns an array of another shape than (N,).
    """

    @cache
    def load() -> tuple[Callable[..., Any], bool]:
        compute = _load(python) if isinstance(python, str) else python
        return compute, _takes_memory(compute)

    def function(argument: Any, recall: Recall | None = None) -> Array:
        compute, takes_memory = load()
        if takes_memory or not isinstance(argument, Transition):
            memory = [recall] if takes_memory else []
            return _checked(compute(_read_only(argument), *memory), len(argument))
        return evaluate_rows(
            lambda part, _: _checked(compute(_read_only(part)), len(part)), argument
        )

    shown = python if isinstance(python, str) else getattr(python, "__qualname__", repr(python))
    formula, uses = f"Python function {shown}.", not state_only
    return Term(name, formula, function, state_only, remembers=uses, reads_info=uses)


def _takes_memory(function: Callable[..., Any]) -> bool:
    """Return whether a function has a second parameter, for the memory of the episode."""
    try:
        parameters = signature(function).parameters.values()
    except (TypeError, ValueError):  # as functions written in C
        return False
    positional = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
    return sum(p.kind in positional and p.default is Parameter.empty for p in parameters) > 1


def _checked(values: Any, size: int) -> Array:
    result: Array = np.asarray(values, dtype=np.float64)
    if result.shape != (size,):
        raise ValueError(f"expected an array of shape ({size},), not {result.shape}")
    return result


def _read_only(argument: Any) -> Any:
    """Return read-only views, so that a term cannot change the data of training."""
    if isinstance(argument, Transition):
        return argument.apply(_read_only)
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
