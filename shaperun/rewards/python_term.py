"""Terms that are Python functions: installed ones by name, others by module:function."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import cache, partial
from importlib.metadata import EntryPoint, entry_points
from inspect import Parameter, signature
from typing import Any

import numpy as np

from shaperun.common.errors import describe_exception, exits_as_errors
from shaperun.envs.base import Array, Term, Transition
from shaperun.envs.contract import check_shape
from shaperun.envs.memory import Recall
from shaperun.envs.transition import evaluate_rows, evaluate_steps

ENTRY_POINT_GROUP = "shaperun.terms"


@cache
def installed_terms() -> dict[str, EntryPoint]:
    """Return the terms that installed packages declare, by name, without importing them."""
    return {point.name: point for point in entry_points(group=ENTRY_POINT_GROUP)}


def python_term(name: str, python: str | Callable[..., Any], *, state_only: bool) -> Term:
    """Return the term of a function, or of a reference to one.

    A reference is imported on the first call: reading results imports no code. A function with two
    parameters takes the transitions and the `Recall` of their episodes.

    Raises:
        TermImportError: on a call, if the function cannot be imported.
        ContractError: on a call, if the function returns an array of another shape than (N,).
        StateFunctionError: on a call, if the function of a state term has two parameters.
    """

    @cache
    def load() -> tuple[Callable[..., Any], bool]:
        compute = _load(python) if isinstance(python, str) else python
        if state_only:
            check_state_function(compute)
        return compute, _takes_memory(compute)

    def at_states(obs: Array) -> Array:
        return _call(load()[0], obs)

    def function(transition: Transition, recall: Recall) -> Array:
        compute, remembers = load()
        if remembers:
            return evaluate_steps(partial(_call, compute), transition, recall)
        return evaluate_rows(lambda part, _: _call(compute, part), transition)

    shown = python if isinstance(python, str) else getattr(python, "__qualname__", repr(python))
    formula = f"Python function {shown}."
    if state_only:
        return Term(name, formula, at_states, state_only=True)
    return Term(name, formula, function, state_only=False, needs=None)


class TermImportError(ImportError):
    """The function of a term cannot be imported."""


class StateFunctionError(ValueError):
    """A function of observations has a second parameter."""


def check_state_function(function: Callable[..., Any]) -> None:
    """Refuse a function of observations that has a second parameter.

    Raises:
        StateFunctionError: names the function.
    """
    if _takes_memory(function):
        raise StateFunctionError(
            f"{getattr(function, '__qualname__', function)} takes the memory of the episode as its "
            "second parameter, which a term with state_only: true does not have; remove either"
        )


def _takes_memory(function: Callable[..., Any]) -> bool:
    """Return whether a function has a second parameter, for the memory of the episode."""
    try:
        parameters = signature(function).parameters.values()
    except (TypeError, ValueError):  # as functions written in C
        return False
    positional = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
    return sum(p.kind in positional and p.default is Parameter.empty for p in parameters) > 1


def _call(compute: Callable[..., Any], argument: Any, *memory: Recall) -> Array:
    """Return the values (N,) of a function of N transitions or observations."""
    result: Array = np.asarray(compute(_read_only(argument), *memory), dtype=np.float64)
    check_shape(result, len(argument))
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
        TermImportError: the import fails for any reason, or the object is not callable.
    """
    try:
        with exits_as_errors():
            if reference in installed_terms():
                function: Callable[[Any], Array] = installed_terms()[reference].load()
            else:
                module, _, attribute = reference.partition(":")
                function = getattr(importlib.import_module(module), attribute)
    except Exception as error:  # the module may raise anything
        why = describe_exception(error)
        raise TermImportError(f"{reference} cannot be imported: {why}") from error
    if not callable(function):
        raise TermImportError(f"{reference} is not callable")
    return function
