"""Translate formulas into numpy expressions, from an allowlist of syntax."""

from __future__ import annotations

import ast
import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from types import CodeType
from typing import Any

import numpy as np

from shaperun.envs.base import Environment

MAX_LENGTH = 500  # characters

MAX_PARTS = 200

MAX_DEPTH = 30

MAX_EXPONENT = 10

ELEMENTWISE: dict[str, int] = {  # numpy function -> how many arguments it takes
    **dict.fromkeys(("abs", "sign", "floor", "ceil", "square", "sqrt", "exp", "log"), 1),
    **dict.fromkeys(("sin", "cos", "tan", "arcsin", "arccos", "arctan", "tanh"), 1),
    **dict.fromkeys(("arctan2", "hypot"), 2),
    "clip": 3,
}

REDUCTIONS = {"sum", "mean", "norm", "any", "all", "min", "max"}

EXTREMES = {"min": "minimum", "max": "maximum"}

FUNCTIONS = {*ELEMENTWISE, *REDUCTIONS}

CONSTANTS = {"pi": math.pi}

OPERATORS: dict[type[ast.AST], str] = {
    ast.Add: "add",
    ast.Sub: "subtract",
    ast.Mult: "multiply",
    ast.Div: "divide",
    ast.FloorDiv: "floor_divide",
    ast.Mod: "remainder",
    ast.Pow: "power",
    ast.Lt: "less",
    ast.LtE: "less_equal",
    ast.Gt: "greater",
    ast.GtE: "greater_equal",
    ast.Eq: "equal",
    ast.NotEq: "not_equal",
    ast.And: "logical_and",
    ast.Or: "logical_or",
}

# What a compiled formula can reach, all of it.
NAMESPACE: dict[str, Any] = {
    "__builtins__": {},
    "norm": np.linalg.norm,
    **{
        name: getattr(np, name)
        for name in [*ELEMENTWISE, *OPERATORS.values(), *EXTREMES, *EXTREMES.values()]
    },
    **{name: getattr(np, name) for name in ("sum", "mean", "any", "all")},
    **{name: getattr(np, name) for name in ("negative", "logical_not", "where")},
}

BEFORE = "last_"
"""In front of `obs`, `action` and the names of observations: as it was one step earlier."""


STATE = "obs"

COLUMNS = {  # name -> where a transition has it; `obs` is the state that the step led to
    "obs": "next_obs",
    "last_obs": "obs",
    "action": "action",
    "last_action": "last_action",
    "env_reward": "env_reward",
    "terminated": "terminated",
    "truncated": "truncated",
}


class ExpressionError(ValueError):
    """What is wrong with a formula, and at which character of it, from 0."""

    def __init__(
        self, message: str, offset: int, known: Sequence[str] = (), name: str = ""
    ) -> None:
        super().__init__(message)
        self.offset, self.known, self.name = offset, list(known), name


@dataclass(frozen=True)
class _Part:
    """A piece of a formula as numpy calls, and what it comes to for every transition."""

    node: ast.expr
    width: int | None = None
    """How many numbers; None for a single one."""
    truth: bool = False
    names: frozenset[str] = frozenset()
    """The columns that it is made of; none for a constant."""


def _code(node: ast.expr, names: Sequence[str]) -> Callable[..., Any]:
    arguments = ast.arguments([], [ast.arg(name) for name in names], None, [], [], None, [])
    tree = ast.fix_missing_locations(ast.Expression(ast.Lambda(arguments, node)))
    code: CodeType = compile(tree, "<formula>", "eval")
    made: Callable[..., Any] = eval(code, dict(NAMESPACE))  # noqa: S307 (a tree built here)
    return made


def _line(text: str) -> str:
    """The text in one line: a formula may be folded in the file."""
    return text.replace("\n", " ").replace("\r", " ")


def _parse(text: str) -> ast.expr:
    if len(text) > MAX_LENGTH:
        raise ExpressionError(f"the formula is longer than {MAX_LENGTH} characters", MAX_LENGTH)
    if "#" in text:  # in one line it would hide all that comes after it
        raise ExpressionError("a comment (#) cannot stand in a formula", text.index("#"))
    line = _line(text)
    stripped = line.lstrip()
    indent = len(line) - len(stripped)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(stripped, mode="eval").body
    except SyntaxError as error:
        offset = indent + (error.offset or 1) - 1
        if error.offset == 0:  # the text ends too early
            offset = max(indent, len(line.rstrip()))
        raise ExpressionError(f"this is no formula: {error.msg}", min(offset, len(text))) from None
    except (ValueError, MemoryError, RecursionError):
        raise ExpressionError("this is no formula", 0) from None


class _Compiler:
    """One formula on its way from Python's tree to numpy's."""

    def __init__(self, environment: Environment, text: str) -> None:
        self._text = text
        self._size = environment.observation_size
        self._widths = {
            **dict.fromkeys(["obs", "last_obs"], self._size),
            **dict.fromkeys(["action", "last_action"], environment.action_size),
            **dict.fromkeys(["env_reward", "terminated", "truncated"]),
        }
        self._places = {name: place for place, name in enumerate(environment.observations)}
        self._parts = 0

    def compile(self) -> _Part:
        """The whole formula: one number a transition."""
        tree = _parse(self._text)
        part = self._number(self._visit(tree, 0))
        if part.width == 1:
            part = _Part(_column(part.node, 0), None, names=part.names)
        if part.width is not None:
            raise self._error(
                tree,
                f"this is {part.width} numbers and a term is one; take one of them, [0], "
                "or their sum(), mean(), norm(), min() or max()",
            )
        return part

    def _visit(self, node: ast.expr, depth: int) -> _Part:
        self._parts += 1
        if self._parts > MAX_PARTS or depth > MAX_DEPTH:
            raise self._error(node, "the formula is too long, make two terms of it")
        compilers: dict[type[ast.expr], Callable[[Any, int], _Part]] = {
            ast.Constant: self._constant,
            ast.Name: self._name,
            ast.Subscript: self._subscript,
            ast.UnaryOp: self._unary,
            ast.BinOp: self._binary,
            ast.BoolOp: self._boolean,
            ast.Compare: self._compare,
            ast.IfExp: self._choice,
            ast.Call: self._function,
        }
        if type(node) not in compilers:
            raise self._error(node, f"{_kind(node)} cannot stand in a formula")
        return compilers[type(node)](node, depth + 1)

    def _boolean(self, node: ast.BoolOp, depth: int) -> _Part:
        parts = [self._truth(self._visit(value, depth)) for value in node.values]
        return self._chain(node, OPERATORS[type(node.op)], parts)

    def _choice(self, node: ast.IfExp, depth: int) -> _Part:
        test = self._truth(self._visit(node.test, depth))
        cases = [self._number(self._visit(n, depth)) for n in (node.body, node.orelse)]
        return self._call(node, "where", [test, *cases])

    def _constant(self, node: ast.Constant, _depth: int) -> _Part:
        if isinstance(node.value, bool):
            return _Part(ast.Constant(node.value), truth=True)
        if not isinstance(node.value, int | float):
            raise self._error(node, f"{_kind(node)} cannot stand in a formula")
        try:
            value = float(node.value)
        except OverflowError:
            value = math.inf
        return self._finite(node, value)

    def _finite(self, node: ast.expr, value: float) -> _Part:
        if not math.isfinite(value):
            raise self._error(node, f"this comes to {value}, not to a finite number")
        return _Part(ast.Constant(value))

    def _name(self, node: ast.Name, _depth: int) -> _Part:
        name = node.id
        if name in CONSTANTS:
            return _Part(ast.Constant(CONSTANTS[name]))
        # An observation may itself be named last_…, or like a column; it is what its name says.
        for column, known in ((STATE, name), (BEFORE + STATE, name.removeprefix(BEFORE))):
            place = self._places.get(known)
            if place is not None and (column == STATE or name.startswith(BEFORE)):
                return _Part(_column(_load(column), place), names=frozenset({column}))
        if name in self._widths:
            truth = name in ("terminated", "truncated")
            return _Part(_load(name), self._widths[name], truth, frozenset({name}))
        if name in FUNCTIONS:
            raise self._error(node, f"{name} is a function, write {name}(…)")
        raise self._error(node, f"there is no name {name}", self._known(), name)

    def _known(self) -> list[str]:
        return [*self._places, *COLUMNS, *CONSTANTS]

    def _subscript(self, node: ast.Subscript, depth: int) -> _Part:
        part = self._visit(node.value, depth)
        if part.width is None:
            raise self._error(node, "this is a single number, it has no parts to take by [ ]")
        place = node.slice
        if isinstance(place, ast.Slice):
            bounds = [self._index(n, part.width) for n in (place.lower, place.upper)]
            if place.step is not None:
                raise self._error(node, "a range is written [from:to], without a step")
            width = len(range(part.width)[slice(*bounds)])
            if width == 0:
                raise self._error(node, "this range is empty")
            low, high = (None if b is None else ast.Constant(b) for b in bounds)
            return _Part(_rows(part.node, ast.Slice(low, high)), width, part.truth, part.names)
        index = self._index(place, part.width)
        if index is None or not -part.width <= index < part.width:
            last = part.width - 1
            raise self._error(place, f"the index must be a whole number from 0 to {last}")
        return _Part(_column(part.node, index), None, part.truth, part.names)

    def _index(self, node: ast.expr | None, width: int) -> int | None:
        if node is None:
            return None
        sign = 1
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            sign, node = -1, node.operand
        if isinstance(node, ast.Constant) and type(node.value) is int and node.value <= width:
            return sign * node.value
        raise self._error(node, f"the index must be a whole number from 0 to {width - 1}")

    def _unary(self, node: ast.UnaryOp, depth: int) -> _Part:
        part = self._visit(node.operand, depth)
        match node.op:
            case ast.Not():
                return self._call(node, "logical_not", [self._truth(part)], truth=True)
            case ast.USub():
                return self._call(node, "negative", [self._number(part)])
            case ast.UAdd():
                return self._number(part)
        raise self._error(node, f"{_kind(node.op)} cannot stand in a formula")

    def _binary(self, node: ast.BinOp, depth: int) -> _Part:
        if type(node.op) not in OPERATORS:
            raise self._error(node, f"{_kind(node.op)} cannot stand in a formula")
        left, right = (self._number(self._visit(n, depth)) for n in (node.left, node.right))
        fixed = _fixed(right)
        if isinstance(node.op, ast.Pow) and not (fixed is not None and abs(fixed) <= MAX_EXPONENT):
            message = f"an exponent is a number from −{MAX_EXPONENT} to {MAX_EXPONENT}"
            raise self._error(node.right, message)
        if isinstance(node.op, ast.Div | ast.Mod | ast.FloorDiv) and fixed == 0:
            raise self._error(node.right, "this divides by zero")
        return self._call(node, OPERATORS[type(node.op)], [left, right])

    def _compare(self, node: ast.Compare, depth: int) -> _Part:
        results = []
        for operator, pair in zip(node.ops, pairwise([node.left, *node.comparators]), strict=True):
            if type(operator) not in OPERATORS:
                raise self._error(node, f"{_kind(operator)} cannot stand in a formula")
            # What stands in the middle is computed twice, so it counts twice.
            values = [self._number(self._visit(n, depth)) for n in pair]
            results.append(self._call(node, OPERATORS[type(operator)], values, truth=True))
        return self._chain(node, "logical_and", results)

    def _chain(self, node: ast.expr, function: str, parts: Sequence[_Part]) -> _Part:
        result = parts[0]
        for part in parts[1:]:
            result = self._call(node, function, [result, part], truth=True)
        return result

    def _function(self, node: ast.Call, depth: int) -> _Part:
        if not isinstance(node.func, ast.Name):
            raise self._error(node, f"{_kind(node.func)} cannot stand in a formula")
        name = node.func.id
        if name not in FUNCTIONS:
            functions = sorted(FUNCTIONS)
            raise self._error(node, f"there is no function {name}", functions, name)
        if node.keywords or not node.args:
            raise self._error(node, f"{name} takes its arguments in order, between its brackets")
        parts = [self._visit(argument, depth) for argument in node.args]
        if name in EXTREMES and len(parts) > 1:
            return self._extreme(node, EXTREMES[name], [self._number(part) for part in parts])
        wanted = ELEMENTWISE.get(name, 1)
        if len(parts) != wanted:
            raise self._error(node, f"{name} takes {wanted} arguments, not {len(parts)}")
        if name in ELEMENTWISE:
            return self._call(node, name, [self._number(part) for part in parts])
        return self._reduce(node, name, parts[0])

    def _extreme(self, node: ast.expr, function: str, parts: Sequence[_Part]) -> _Part:
        result = parts[0]
        for part in parts[1:]:
            result = self._call(node, function, [result, part])
        return result

    def _reduce(self, node: ast.expr, name: str, part: _Part) -> _Part:
        truth = name in ("any", "all")
        part = self._truth(part) if truth else self._number(part)
        if part.width is None:  # one number is its own sum, and so on
            return self._call(node, "abs", [part]) if name == "norm" else part
        axis = ast.keyword("axis", ast.Constant(1))
        return _Part(ast.Call(_load(name), [part.node], [axis]), None, truth, part.names)

    def _call(
        self, node: ast.expr, function: str, parts: Sequence[_Part], *, truth: bool = False
    ) -> _Part:
        """A numpy function of parts that are brought to one width."""
        widths = {part.width for part in parts if part.width is not None}
        if len(widths) > 1:
            sizes = " against ".join(str(part.width) for part in parts if part.width is not None)
            raise self._error(node, f"these do not fit together: {sizes} numbers")
        width = next(iter(widths), None)
        nodes = [_widened(part, width) for part in parts]
        names = frozenset[str]().union(*(part.names for part in parts))
        made = _Part(ast.Call(_load(function), nodes, []), width, truth, names)
        return made if names else self._fold(node, made)

    def _fold(self, node: ast.expr, part: _Part) -> _Part:
        """A part that is made of numbers only as the number that it comes to."""
        with np.errstate(all="ignore"):
            value = _code(part.node, [])()
        if part.truth:
            return _Part(ast.Constant(bool(value)), truth=True)
        return self._finite(node, float(value))

    def _number(self, part: _Part) -> _Part:
        if not part.truth:
            return part
        fixed = _fixed(part)
        if fixed is not None:
            return _Part(ast.Constant(fixed))
        node = ast.Call(_load("multiply"), [part.node, ast.Constant(1.0)], [])
        return _Part(node, part.width, names=part.names)

    def _truth(self, part: _Part) -> _Part:
        if part.truth:
            return part
        fixed = _fixed(part)
        if fixed is not None:
            return _Part(ast.Constant(bool(fixed)), truth=True)
        node = ast.Call(_load("not_equal"), [part.node, ast.Constant(0.0)], [])
        return _Part(node, part.width, truth=True, names=part.names)

    def _error(
        self, node: ast.AST, message: str, known: Sequence[str] = (), name: str = ""
    ) -> ExpressionError:
        """The error at a node: Python counts bytes of the line, people count characters."""
        line = _line(self._text)
        indent = len(line) - len(line.lstrip())
        column = getattr(node, "col_offset", 0)
        before = line.lstrip().encode()[:column].decode(errors="ignore")
        return ExpressionError(message, indent + len(before), known, name)


def _fixed(part: _Part) -> float | None:
    """The value of a constant; None for anything else."""
    node = part.node
    known = isinstance(node, ast.Constant) and isinstance(node.value, int | float)
    return float(node.value) if known else None  # type: ignore[attr-defined]


def _load(name: str) -> ast.Name:
    return ast.Name(name, ast.Load())


def _rows(node: ast.expr, place: ast.expr) -> ast.expr:
    """Every row, at one place of it: node[:, place]."""
    return ast.Subscript(node, ast.Tuple([ast.Slice(), place], ast.Load()), ast.Load())


def _column(node: ast.expr, place: int) -> ast.expr:
    return _rows(node, ast.Constant(place))


def _widened(part: _Part, width: int | None) -> ast.expr:
    """One number a row beside several: as a column, which numpy then repeats."""
    single = width is not None and part.width is None and part.names
    return _rows(part.node, ast.Constant(None)) if single else part.node


def _kind(node: ast.AST) -> str:
    """What people call a piece of Python."""
    match node:
        case ast.Attribute():
            return "an attribute (.)"
        case ast.Constant():
            return f"{type(node.value).__name__} {node.value!r:.30}"
        case ast.operator() | ast.unaryop() | ast.cmpop():
            return f"the operator {type(node).__name__}"
    words = "".join(f" {c.lower()}" if c.isupper() else c for c in type(node).__name__)
    return f"a{words}"
