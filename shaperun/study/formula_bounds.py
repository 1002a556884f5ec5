"""Bounds of a formula that follow from its text: a comparison is 0 or 1, whatever it compares."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from itertools import product
from math import inf, isfinite

from shaperun.envs.base import Bounds
from shaperun.rewards.compiled import Formula, InfoEntry, Remembered
from shaperun.rewards.syntax import BOOLEANS, PREDICATES

UNKNOWN: Bounds = (-inf, inf)
TRUTH: Bounds = (0.0, 1.0)
_TRUTHS = PREDICATES | {"any", "all"}
_WITHIN_1 = ("sin", "cos", "tanh", "sign")

_FUNCTIONS: dict[str, Callable[..., Bounds]] = {
    "where": lambda _test, a, b: _hull(a, b),
    "minimum": lambda a, b: (min(a[0], b[0]), min(a[1], b[1])),
    "maximum": lambda a, b: (max(a[0], b[0]), max(a[1], b[1])),
    "clip": lambda x, a, b: (min(max(x[0], a[0]), b[0]), min(max(x[1], a[1]), b[1])),
    "negative": lambda a: (-a[1], -a[0]),
    "add": lambda a, b: (a[0] + b[0], a[1] + b[1]),
    "subtract": lambda a, b: (a[0] - b[1], a[1] - b[0]),
    "multiply": lambda a, b: _multiply(a, b),
    "abs": lambda a: (max(0.0, a[0], -a[1]), max(-a[0], a[1])),
    **dict.fromkeys(_WITHIN_1, lambda _: (-1.0, 1.0)),
}


def bound_metric(formula: Formula, of: str, time_limit: int | None) -> Bounds | None:
    """Return the bounds of a formula over the steps of an episode; None unless both are finite.

    They follow from the text by interval arithmetic (Moore 1966), whatever the environment gives,
    and are not the narrowest. `of` makes one number of the steps, as in `EpisodeMetric`.
    """
    bounds = _Bounder(formula.inputs, time_limit or inf).bound(formula.result.node)
    low, high = _add_up(bounds, time_limit or inf) if of == "sum" else bounds
    return (low, high) if isfinite(low) and isfinite(high) else None


class _Bounder:
    """Bounds of the parts of one formula, in episodes of at most `limit` steps."""

    def __init__(self, inputs: Mapping[str, InfoEntry | Remembered], limit: float) -> None:
        self._inputs, self._limit = inputs, limit

    def bound(self, node: ast.expr) -> Bounds:
        match node:
            case ast.Constant(value=int() | float() as value):
                return float(value), float(value)
            case ast.Name(id=name) if name in BOOLEANS:
                return TRUTH
            case ast.Name(id=name) if isinstance(known := self._inputs.get(name), Remembered):
                return self._bound_remembered(known)
            case ast.Call(func=ast.Name(id=name)) if name in _TRUTHS:
                return TRUTH
            case ast.Call(func=ast.Name(id=name), args=parts) if name in _FUNCTIONS:
                return _FUNCTIONS[name](*map(self.bound, parts))
        return UNKNOWN

    def _bound_remembered(self, part: Remembered) -> Bounds:
        values = self.bound(part.values.node)
        match part.method:
            case "changed":
                return TRUTH
            case "steps":
                return 1.0, self._limit
            case "total":
                return _add_up(values, self._limit)
            case "previous" if part.start is not None:
                return _hull(values, (part.start, part.start))
            case "std_so_far":  # at most half of the range (Popoviciu 1935)
                return 0.0, (values[1] - values[0]) / 2
        return values  # of highest, lowest, mean_so_far


def _hull(a: Bounds, b: Bounds) -> Bounds:
    return min(a[0], b[0]), max(a[1], b[1])


def _multiply(a: Bounds, b: Bounds) -> Bounds:
    corners = [x * y if x and y else 0.0 for x, y in product(a, b)]  # 0 · ∞ is 0 here
    return min(corners), max(corners)


def _add_up(values: Bounds, limit: float) -> Bounds:
    """Return the bounds of a sum of one to `limit` values."""
    return _multiply(values, (1.0, limit))
