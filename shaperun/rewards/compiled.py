"""Compiled formulas and their parts: syntax trees of numpy calls."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from types import CodeType
from typing import Any

from shaperun.envs.layout import Layout, layout_size
from shaperun.rewards import syntax


@dataclass(frozen=True)
class Expression:
    """Part of a formula as numpy calls, evaluated for each transition."""

    node: ast.expr
    shape: tuple[int, ...] = ()  # of the values per transition
    is_boolean: bool = False
    columns: frozenset[str] = frozenset()  # columns it depends on; none for a constant
    entries: Mapping[str | int, Expression] = field(default_factory=dict)  # of a Dict or Tuple


@dataclass(frozen=True)
class InfoEntry:
    """Entry of `info` that a formula reads; without a default, every step must have it."""

    keys: tuple[str, ...]
    default: float | None = None


@dataclass(frozen=True)
class Remembered:
    """Value of the episode so far: a method of `Recall` applied to an expression.

    `start` is the value before the first step, for methods that take one.
    """

    method: str
    values: Expression
    start: float | None = None

    def __eq__(self, other: object) -> bool:
        """Return whether this is the same method of the same expression."""
        if not isinstance(other, Remembered):
            return False
        one, two = ((r.method, r.start, ast.dump(r.values.node)) for r in (self, other))
        return one == two


@dataclass(frozen=True)
class Formula:
    """A compiled formula: its result, and the columns it needs beyond those of a transition.

    These are in an order in which each depends on earlier ones only.
    """

    result: Expression
    inputs: Mapping[str, InfoEntry | Remembered]

    @property
    def columns(self) -> frozenset[str]:
        """Columns of a transition that the formula depends on."""
        values = [v.values for v in self.inputs.values() if isinstance(v, Remembered)]
        every = frozenset[str]().union(*(part.columns for part in (self.result, *values)))
        return every - self.inputs.keys()


def build_function(expression: Expression) -> Callable[..., Any]:
    """Return a function of the expression's columns, in sorted order."""
    names = [ast.arg(name) for name in sorted(expression.columns)]
    arguments = ast.arguments([], names, None, [], [], None, [])
    tree = ast.fix_missing_locations(ast.Expression(ast.Lambda(arguments, expression.node)))
    code: CodeType = compile(tree, "<formula>", "eval")
    function: Callable[..., Any] = eval(code, dict(syntax.NAMESPACE))  # noqa: S307 (a tree built here)
    return function


def arrange_row(column: str, layout: Layout, first: int | None = None) -> Expression:
    """Return a column of flat rows in its layout, or the part of the rows from `first` on."""
    node, size, columns = load(column), layout_size(layout), frozenset({column})
    part: ast.expr = node
    if first is not None:
        part = take(node, [ast.Slice(ast.Constant(first), ast.Constant(first + size))])
    if isinstance(layout, Mapping):
        starts = accumulate(map(layout_size, layout.values()), initial=first or 0)
        entries = {
            key: arrange_row(column, entry, start)
            for (key, entry), start in zip(layout.items(), starts, strict=False)
        }
        return Expression(part, (size,), columns=columns, entries=entries)
    if first is not None and not layout:
        part = take(node, [ast.Constant(first)])
    return Expression(reshape(part, *layout) if len(layout) > 1 else part, layout, columns=columns)


def to_number(part: Expression) -> Expression:
    """Return a part as numbers: 1 for true, 0 for false."""
    return _convert(part, float, "multiply", 1.0) if part.is_boolean else part


def to_boolean(part: Expression) -> Expression:
    """Return a part as booleans: nonzero is true."""
    return part if part.is_boolean else _convert(part, bool, "not_equal", 0.0)


def _convert(part: Expression, to: type[float], function: str, operand: float) -> Expression:
    constant = constant_value(part)
    if constant is None:
        node: ast.expr = ast.Call(load(function), [part.node, ast.Constant(operand)], [])
    else:
        node = ast.Constant(to(constant))
    return replace(part, node=node, is_boolean=to is bool)


def constant_value(part: Expression) -> float | None:
    """Return the value of a constant; None for any other part."""
    node = part.node
    is_constant = isinstance(node, ast.Constant) and isinstance(node.value, int | float)
    return float(node.value) if is_constant else None  # type: ignore[attr-defined]


def load(name: str) -> ast.Name:
    """Return a name."""
    return ast.Name(name, ast.Load())


def take(node: ast.expr, indices: Sequence[ast.expr]) -> ast.expr:
    """Return node[:, *indices]."""
    return ast.Subscript(node, ast.Tuple([ast.Slice(), *indices], ast.Load()), ast.Load())


def reshape(node: ast.expr, *sizes: int) -> ast.expr:
    """Return node.reshape(-1, *sizes)."""
    method = ast.Attribute(node, "reshape", ast.Load())
    return ast.Call(method, [ast.Constant(size) for size in (-1, *sizes)], [])


def broadcast(part: Expression, shape: Sequence[int]) -> ast.expr:
    """Give a scalar per transition the axes of the other parts."""
    is_scalar = not part.shape and part.columns
    return take(part.node, [ast.Constant(None)] * len(shape)) if is_scalar and shape else part.node


def format_shape(shape: Sequence[int]) -> str:
    """Return a shape for messages, as 3 × 4."""
    return " × ".join(map(str, shape))
