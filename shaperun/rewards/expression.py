"""Terms defined by formulas.

A formula is parsed by Python's parser and never evaluated. Each node of its tree is looked up in
an allowlist (`rewards/syntax.py`), and a new tree of numpy calls is built; only that tree is
compiled, without access to builtins. Sizes are checked at compile time, so a formula that is not
one number per transition is refused before anything runs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from shaperun.envs.base import Array, Environment, Term, Transition
from shaperun.rewards.compiler import Expression, build_function, compile_formula
from shaperun.rewards.syntax import COLUMNS, STATE


def expression_term(environment: Environment, name: str, text: str) -> Term:
    """Return the term that a formula defines on an environment.

    It is a state term if it depends only on `obs` and names of observations.

    Raises:
        ExpressionError: the formula is invalid, or is not one number per transition.
    """
    expression = compile_formula(environment, text)
    state_only = expression.columns <= {STATE}
    if state_only:
        function: Callable[[Any], Array] = _state_function(expression)
    else:
        function = _transition_function(expression, environment.action_size)
    return Term(name, text, function, state_only)


def _state_function(expression: Expression) -> Callable[[Array], Array]:
    evaluate = build_function(expression)
    if expression.columns:
        return lambda obs: np.asarray(evaluate(obs), dtype=np.float64)
    return lambda obs: np.full(len(obs), evaluate(), dtype=np.float64)


def _transition_function(
    expression: Expression, action_size: int | None
) -> Callable[[Transition], Array]:
    evaluate = build_function(expression)
    fields = [COLUMNS[name] for name in sorted(expression.columns)]

    def column(transition: Transition, field: str) -> Array:
        values = np.asarray(getattr(transition, field), dtype=np.float64)
        if action_size is None or not field.endswith("action"):
            return values
        return values.reshape(len(transition), action_size)

    def function(transition: Transition) -> Array:
        columns = [column(transition, field) for field in fields]
        return np.asarray(evaluate(*columns), dtype=np.float64)

    return function
