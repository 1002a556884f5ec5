"""Terms written as formulas: text -> a function of transitions, or what is wrong with it.

The text is parsed by Python's own parser and never evaluated. What its tree consists of is looked
up in the allowlists below, piece by piece, and a new tree of numpy calls is built from what was
found there; only that tree is compiled, with no builtins in reach. Sizes are known beforehand, so
a formula that does not come to one number a transition is refused before anything runs.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any

import numpy as np

from shaperun.envs.base import Array, Environment, Term, Transition
from shaperun.rewards.compiler import (
    BEFORE,
    COLUMNS,
    CONSTANTS,
    FUNCTIONS,
    STATE,
    _code,
    _Compiler,
    _parse,
    _Part,
)


def expression_term(environment: Environment, name: str, text: str) -> Term:
    """The term that a formula defines on an environment.

    It is a term of the state if it speaks of nothing but `obs` and the names of observations.

    Raises:
        ExpressionError: the formula uses what is not allowed or not there, or comes to anything
            but one number a transition.
    """
    part = _Compiler(environment, text).compile()
    code = _code(part.node, sorted(part.names))
    state_only = part.names <= {STATE}
    function = (
        _of_states(code, part)
        if state_only
        else _of_transitions(code, part, environment.action_size)
    )
    return Term(name, text, function, state_only)


def difference_factor(text: str) -> float | None:
    """The factor a of a formula of the form `a * f(now) - f(before)`; None for any other form.

    People write potential-based shaping by hand this way; a should be the learner's γ then.

    Raises:
        ExpressionError: the text is no formula.
    """
    try:
        return _difference_factor(_parse(text), _Earlier().visit(_parse(text)))
    except (OverflowError, RecursionError):  # too large or too deep for any formula
        return None


def _difference_factor(tree: ast.expr, earlier: Any) -> float | None:
    if not (isinstance(tree, ast.BinOp) and isinstance(tree.op, ast.Sub)):
        return None
    forms = [(1.0, tree.left, earlier.left)]
    if isinstance(tree.left, ast.BinOp) and isinstance(tree.left.op, ast.Mult):
        for number, other in (("left", "right"), ("right", "left")):
            factor = getattr(tree.left, number)
            if isinstance(factor, ast.Constant) and isinstance(factor.value, int | float):
                now = getattr(tree.left, other)
                forms.append((float(factor.value), now, getattr(earlier.left, other)))
    before = ast.dump(tree.right)
    fitting = (a for a, now, then in forms if ast.dump(then) == before != ast.dump(now))
    return next(fitting, None)


class _Earlier(ast.NodeTransformer):
    """The same formula, one step earlier."""

    def visit_Name(self, node: ast.Name) -> ast.Name:
        known = node.id in FUNCTIONS or node.id in CONSTANTS
        return node if known else ast.Name(BEFORE + node.id, node.ctx)


def _of_states(code: Callable[..., Any], part: _Part) -> Callable[[Array], Array]:
    if part.names:
        return lambda obs: np.asarray(code(obs), dtype=np.float64)
    return lambda obs: np.full(len(obs), code(), dtype=np.float64)


def _of_transitions(
    code: Callable[..., Any], part: _Part, width: int | None
) -> Callable[[Transition], Array]:
    fields = [COLUMNS[name] for name in sorted(part.names)]

    def column(transition: Transition, field: str) -> Array:
        values = np.asarray(getattr(transition, field), dtype=np.float64)
        if width is None or not field.endswith("action"):
            return values
        return values.reshape(len(transition), width)

    def function(transition: Transition) -> Array:
        columns = [column(transition, field) for field in fields]
        return np.asarray(code(*columns), dtype=np.float64)

    return function
