"""Terms defined by formulas.

A formula is parsed by Python's parser and never evaluated. Each node of its tree is looked up in
an allowlist (`rewards/syntax.py`), and a new tree of numpy calls is built; only that tree is
compiled, without access to builtins. Sizes are checked at compile time, so a formula that is not
one number per transition is refused before anything runs.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any

import numpy as np

from shaperun.envs.base import Array, Environment, Term, Transition
from shaperun.rewards.compiler import Expression, build_function, compile_formula, parse_formula
from shaperun.rewards.syntax import COLUMNS, CONSTANTS, FUNCTIONS, PREVIOUS, STATE


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


def difference_factor(text: str) -> float | None:
    """Return the factor a of a formula `a * f(now) - f(before)`; None for any other form.

    This form is potential-based shaping written as a formula, for which a must be the discount
    factor of the learner.

    Raises:
        ExpressionError: the text is not a formula.
    """
    try:
        return _find_factor(parse_formula(text), _PreviousStep().visit(parse_formula(text)))
    except (OverflowError, RecursionError):  # too large or too deep for a valid formula
        return None


def _find_factor(tree: ast.expr, previous: Any) -> float | None:
    if not (isinstance(tree, ast.BinOp) and isinstance(tree.op, ast.Sub)):
        return None
    forms = [(1.0, tree.left, previous.left)]
    if isinstance(tree.left, ast.BinOp) and isinstance(tree.left.op, ast.Mult):
        for number, other in (("left", "right"), ("right", "left")):
            factor = getattr(tree.left, number)
            if isinstance(factor, ast.Constant) and isinstance(factor.value, int | float):
                now = getattr(tree.left, other)
                forms.append((float(factor.value), now, getattr(previous.left, other)))
    subtrahend = ast.dump(tree.right)
    matches = (a for a, now, before in forms if ast.dump(before) == subtrahend != ast.dump(now))
    return next(matches, None)


class _PreviousStep(ast.NodeTransformer):
    """Moves a formula one step back, by adding the prefix to all names of values."""

    def visit_Name(self, node: ast.Name) -> ast.Name:
        is_fixed = node.id in FUNCTIONS or node.id in CONSTANTS
        return node if is_fixed else ast.Name(PREVIOUS + node.id, node.ctx)


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
