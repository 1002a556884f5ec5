"""Recognize potential-based shaping that a formula writes out as a difference of two states."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from functools import reduce

from shaperun.rewards.formula import parse_formula
from shaperun.rewards.syntax import CONSTANTS, FUNCTIONS, PREVIOUS


@dataclass(frozen=True)
class Difference:
    """A formula c · (factor · f(now) − f(before)), or the positive part of one."""

    factor: float
    positive_part: bool


def find_difference(text: str, parameters: Mapping[str, float] | None = None) -> Difference | None:
    """Return the difference that a formula with parameters is, or None for any other form.

    It is one of states: actions make no potential. Constants may multiply or divide any part, and
    both states may come in any order. The formula is potential-based shaping if its factor is the
    discount factor of the learner, and if it is not the positive part only, as in
    max(0, f(now) − f(before)).

    Raises:
        ExpressionError: the text is not a formula.
    """
    try:
        tree = _Parameters(parameters or {}).visit(parse_formula(text))
        inner = _inside_maximum(tree)
        factor = _find_factor(inner or tree)
    except (OverflowError, RecursionError, ZeroDivisionError):  # no valid formula
        return None
    return None if factor is None else Difference(factor, inner is not None)


def _inside_maximum(tree: ast.expr) -> ast.expr | None:
    """Return x of max(0, x) or max(x, 0), in any positive multiple; None for other formulas."""
    multiple, factors = _factors(tree)
    match factors if multiple > 0 else []:
        case [ast.Call(func=ast.Name(id="max"), args=[one, other])]:
            values = [argument for argument in (one, other) if _constant(argument) != 0]
            return values[0] if len(values) == 1 else None
        case [ast.Call(func=ast.Name(id="clip"), args=[value, low, _])] if _constant(low) == 0:
            return value
    return None


def _find_factor(tree: ast.expr) -> float | None:
    """Return −a/b if the sum is a f(now) + b f(before) for all its parts f, with a b < 0."""
    coefficients: dict[str, float] = {}
    shown: dict[str, ast.expr] = {}
    for coefficient, part in _summands(tree, 1.0):
        text = ast.dump(part)
        coefficients[text] = coefficients.get(text, 0.0) + coefficient
        shown[text] = part
    coefficients = {text: coefficient for text, coefficient in coefficients.items() if coefficient}
    factors = set()
    before = {text for text in coefficients if _is_before(shown[text])}
    for text in coefficients.keys() - before:
        earlier = ast.dump(_PreviousStep().visit(deepcopy(shown[text])))
        if earlier not in before or "action" in _names(shown[text]):
            return None
        before.discard(earlier)
        factors.add(round(-coefficients[text] / coefficients[earlier], 12))
    [factor] = factors if len(factors) == 1 and not before else [0.0]
    return factor if factor > 0 else None


def _summands(tree: ast.expr, coefficient: float) -> Iterator[tuple[float, ast.expr]]:
    """Yield coefficients and parts of a sum, with constant factors multiplied out."""
    match tree:
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            yield from _summands(operand, -coefficient)
        case ast.BinOp(left=left, op=ast.Add() | ast.Sub() as op, right=right):
            yield from _summands(left, coefficient)
            yield from _summands(right, coefficient if isinstance(op, ast.Add) else -coefficient)
        case _:
            constant, factors = _factors(tree)
            coefficient *= constant
            if len(factors) == 1 and factors[0] is not tree:
                yield from _summands(factors[0], coefficient)
            elif factors or coefficient:
                yield coefficient, reduce(_multiply, factors or [ast.Constant(1.0)])


def _factors(tree: ast.expr) -> tuple[float, list[ast.expr]]:
    """Return the constant of a product, and its other factors."""
    match tree:
        case ast.Constant(value=int() | float() as value):
            return float(value), []
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            constant, factors = _factors(operand)
            return -constant, factors
        case ast.BinOp(left=left, op=ast.Mult(), right=right):
            pairs = _factors(left), _factors(right)
            return pairs[0][0] * pairs[1][0], pairs[0][1] + pairs[1][1]
        case ast.BinOp(left=left, op=ast.Div(), right=right) if divisor := _constant(right):
            constant, factors = _factors(left)
            return constant / divisor, factors
    return 1.0, [tree]


def _multiply(left: ast.expr, right: ast.expr) -> ast.expr:
    return ast.BinOp(left, ast.Mult(), right)


def _constant(tree: ast.expr) -> float | None:
    """Return the value of a number, or of products and quotients of numbers; else None."""
    constant, factors = _factors(tree)
    return None if factors else constant


def _is_before(tree: ast.expr) -> bool:
    return any(name.startswith(PREVIOUS) for name in _names(tree))


def _names(tree: ast.expr) -> set[str]:
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}


class _Parameters(ast.NodeTransformer):
    """Replaces the names of parameters by their values."""

    def __init__(self, parameters: Mapping[str, float]) -> None:
        self._parameters = parameters

    def visit_Name(self, node: ast.Name) -> ast.expr:
        value = self._parameters.get(node.id)
        return node if value is None else ast.Constant(value)


class _PreviousStep(ast.NodeTransformer):
    """Moves a formula one step back, by adding the prefix to all names of values."""

    def visit_Name(self, node: ast.Name) -> ast.Name:
        is_fixed = node.id in FUNCTIONS or node.id in CONSTANTS
        return node if is_fixed else ast.Name(PREVIOUS + node.id, node.ctx)
