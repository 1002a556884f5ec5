"""Compile formulas to numpy expressions from an allowlist of syntax."""

from __future__ import annotations

import ast
import json
import keyword
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import reduce
from itertools import pairwise
from typing import Any

import numpy as np

from shaperun.envs.base import Environment
from shaperun.envs.info import format_path
from shaperun.envs.layout import Layout
from shaperun.rewards import syntax
from shaperun.rewards.compiled import (
    Expression,
    Formula,
    InfoEntry,
    Remembered,
    arrange_row,
    broadcast,
    build_function,
    constant_value,
    format_shape,
    load,
    reshape,
    take,
    to_boolean,
    to_number,
)
from shaperun.rewards.formula import (
    ExpressionError,
    ParameterError,
    describe_syntax,
    explain_method,
    join_lines,
    parse_formula,
)


def compile_formula(
    environment: Environment, text: str, parameters: Mapping[str, float] | None = None
) -> Formula:
    """Compile a formula that gives one number per transition; parameters are named constants.

    Raises:
        ExpressionError: the formula is invalid, a parameter has a name that means something else,
            or the formula does not use it.
    """
    return _Compiler(environment, text, parameters or {}).compile()


class _Compiler(ast.NodeVisitor):
    """Translator of one formula to numpy calls; syntax without a method here is not allowed."""

    def __init__(
        self, environment: Environment, text: str, parameters: Mapping[str, float]
    ) -> None:
        self._text = text
        self._unused = dict.fromkeys(parameters)
        self._n_nodes = self._depth = 0
        self._inputs: dict[str, InfoEntry | Remembered] = {}
        self._known = [*environment.observations, *syntax.COLUMNS, syntax.INFO, *syntax.CONSTANTS]
        n_actions = environment.action_size
        actions = () if n_actions is None else (n_actions,)
        layouts: dict[str, Layout] = {
            **dict.fromkeys(["obs", "last_obs"], environment.observation_layout),
            **dict.fromkeys(["action", "last_action"], actions),
        }
        self._names: dict[str, Expression] = {}
        for column in syntax.COLUMNS:
            part = arrange_row(column, layouts.get(column, ()))
            self._names[column] = replace(part, is_boolean=column in syntax.BOOLEANS)
        # Names of observations take precedence, even if they start with last_ or equal a column.
        for prefix in (syntax.PREVIOUS, ""):
            column = prefix + syntax.STATE
            for index, entry in enumerate(environment.observations):
                node = take(load(column), [ast.Constant(index)])
                self._names[prefix + entry] = Expression(node, columns=frozenset({column}))
        for constant, value in syntax.CONSTANTS.items():
            self._names[constant] = Expression(ast.Constant(value))
        for parameter, number in parameters.items():
            self._add_parameter(parameter, number)

    def _add_parameter(self, name: str, value: float) -> None:
        taken = {*self._names, *syntax.FUNCTIONS, syntax.INFO, *keyword.kwlist}
        if name in taken:
            raise ParameterError(f"{name} means something else in formulas; rename it", name)
        self._names[name] = Expression(ast.Constant(value))
        self._known.append(name)

    def compile(self) -> Formula:
        tree = parse_formula(self._text)
        result = to_number(self.visit(tree))
        if math.prod(result.shape) == 1:
            first = [ast.Constant(0)] * len(result.shape)
            result = replace(
                result, node=take(result.node, first) if first else result.node, shape=()
            )
        if result.shape:
            raise self._error(
                tree,
                f"this has {format_shape(result.shape)} values, and a term must be a single "
                f"number; index it, {[0] * len(result.shape)}, or reduce it with sum(), mean(), "
                "norm(), min() or max()",
            )
        for name in self._unused:
            raise ParameterError(f"the formula does not use {name}; remove it", name)
        return Formula(result, self._inputs)

    def visit(self, node: ast.AST) -> Expression:
        self._n_nodes += 1
        if self._n_nodes > syntax.MAX_NODES or self._depth > syntax.MAX_DEPTH:
            raise self._error(node, "the formula is too long; split it into two terms")
        self._depth += 1
        part: Expression = super().visit(node)
        self._depth -= 1
        return part

    def generic_visit(self, node: ast.AST) -> Any:
        raise self._not_allowed(node, node)

    def visit_BoolOp(self, node: ast.BoolOp) -> Expression:
        parts = [to_boolean(self.visit(value)) for value in node.values]
        return self._chain(node, syntax.OPERATORS[type(node.op)], parts)

    def visit_IfExp(self, node: ast.IfExp) -> Expression:
        test = to_boolean(self.visit(node.test))
        cases = [to_number(self.visit(n)) for n in (node.body, node.orelse)]
        return self._apply(node, "where", [test, *cases])

    def visit_Constant(self, node: ast.Constant) -> Expression:
        if isinstance(node.value, bool):
            return Expression(ast.Constant(node.value), is_boolean=True)
        if not isinstance(node.value, int | float):
            raise self._not_allowed(node, node)
        try:
            value = float(node.value)
        except OverflowError:
            value = math.inf
        return self._finite_constant(node, value)

    def _finite_constant(self, node: ast.expr, value: float) -> Expression:
        if not math.isfinite(value):
            raise self._error(node, f"this evaluates to {value}, which is not finite")
        return Expression(ast.Constant(value))

    def visit_Name(self, node: ast.Name) -> Expression:
        name = node.id
        if name in self._names:
            self._unused.pop(name, None)
            return self._names[name]
        if name in syntax.FUNCTIONS:
            raise self._error(node, f"{name} is a function; write {name}(…)")
        if name == syntax.INFO:
            raise self._error(node, 'info has entries; read one with info["key"]')
        known = [format_path([name]) if k == syntax.INFO else k for k in self._known]
        raise self._error(node, f"unknown name {name}", known, name)

    def visit_Attribute(self, node: ast.Attribute) -> Expression:
        if self._is_info(node.value):
            path = format_path((*self._info_keys(node.value), node.attr))
            raise self._error(node, f"an attribute (.) is not allowed in a formula; write {path}")
        raise self._not_allowed(node, node)

    def visit_Subscript(self, node: ast.Subscript) -> Expression:
        if self._is_info(node.value):
            return self._read_info(self._info_keys(node))
        part = self.visit(node.value)
        if part.entries:
            return self._read_entry(node, part)
        if not part.shape:
            raise self._error(node, "this is a single number and cannot be indexed with [ ]")
        indices = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        if len(indices) > len(part.shape):
            raise self._error(
                node, f"{len(indices)} indices for {format_shape(part.shape)} values are too many"
            )
        taken: list[ast.expr] = []
        lengths: list[int] = []
        for index, size in zip(indices, part.shape, strict=False):
            if isinstance(index, ast.Slice):
                bounds, length = self._read_slice(node, index, size)
                taken.append(bounds)
                lengths.append(length)
            else:
                taken.append(ast.Constant(self._read_index(index, size)))
        return replace(
            part, node=take(part.node, taken), shape=(*lengths, *part.shape[len(indices) :])
        )

    def _read_entry(self, node: ast.Subscript, part: Expression) -> Expression:
        key = node.slice.value if isinstance(node.slice, ast.Constant) else None
        if not isinstance(key, str | int) or key not in part.entries:
            known = ", ".join(json.dumps(key, ensure_ascii=False) for key in part.entries)
            raise self._error(node.slice, f"the key must be one of {known}")
        return part.entries[key]

    def _read_slice(self, node: ast.expr, index: ast.Slice, size: int) -> tuple[ast.Slice, int]:
        bounds = [
            None if part is None else self._read_bound(part, size)
            for part in (index.lower, index.upper, index.step)
        ]
        if bounds[2] == 0:
            raise self._error(node, "the step of a slice must not be 0")
        length = len(range(size)[slice(*bounds)])
        if length == 0:
            raise self._error(node, "this slice is empty")
        return ast.Slice(*(None if b is None else ast.Constant(b) for b in bounds)), length

    def _read_bound(self, node: ast.expr, size: int) -> int:
        try:
            return self._read_integer(node, size)
        except ExpressionError:
            message = (
                f"the bounds and the step of a slice must be integers from −{size} to {size}, "
                f"as in [1:{size}]"
            )
            raise self._error(node, message) from None

    def _read_index(self, node: ast.expr, size: int) -> int:
        position = self._read_integer(node, size)
        if not -size <= position < size:
            raise self._error(node, f"the index must be an integer from 0 to {size - 1}")
        return position

    def _read_integer(self, node: ast.expr, size: int) -> int:
        sign = 1
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            sign, node = -1, node.operand
        if isinstance(node, ast.Constant) and type(node.value) is int and node.value <= size:
            return sign * node.value
        raise self._error(node, f"the index must be an integer from 0 to {size - 1}")

    def visit_UnaryOp(self, node: ast.UnaryOp) -> Expression:
        part = self.visit(node.operand)
        match node.op:
            case ast.Not():
                return self._apply(node, "logical_not", [to_boolean(part)])
            case ast.USub():
                return self._apply(node, "negative", [to_number(part)])
            case ast.UAdd():
                return to_number(part)
        raise self._not_allowed(node, node.op)

    def visit_BinOp(self, node: ast.BinOp) -> Expression:
        if type(node.op) not in syntax.OPERATORS:
            raise self._not_allowed(node, node.op)
        left, right = (to_number(self.visit(n)) for n in (node.left, node.right))
        constant = constant_value(right)
        limit = syntax.MAX_EXPONENT
        if isinstance(node.op, ast.Pow) and (constant is None or abs(constant) > limit):
            message = f"an exponent must be a number from −{limit} to {limit}"
            raise self._error(node.right, message)
        if isinstance(node.op, ast.Div | ast.Mod | ast.FloorDiv) and constant == 0:
            raise self._error(node.right, "division by zero")
        return self._apply(node, syntax.OPERATORS[type(node.op)], [left, right])

    def visit_Compare(self, node: ast.Compare) -> Expression:
        if len(node.ops) == 1 and isinstance(node.ops[0], ast.In | ast.NotIn):
            return self._contains(node, node.comparators[0], isinstance(node.ops[0], ast.In))
        results = []
        for operator, pair in zip(node.ops, pairwise([node.left, *node.comparators]), strict=True):
            if type(operator) not in syntax.OPERATORS:
                raise self._not_allowed(node, operator)
            # Operands in the middle are computed twice, so their nodes count twice.
            values = [to_number(self.visit(n)) for n in pair]
            results.append(self._apply(node, syntax.OPERATORS[type(operator)], values))
        return self._chain(node, "logical_and", results)

    def _contains(self, node: ast.Compare, values: ast.expr, expected: bool) -> Expression:
        if not isinstance(values, ast.Tuple | ast.List) or not values.elts:
            raise self._error(values, "write the values after in as (0, 2)")
        # The left side is computed once per value, so its nodes count as often.
        pairs = [[node.left, value] for value in values.elts]
        equal = [self._apply(node, "equal", [to_number(self.visit(n)) for n in p]) for p in pairs]
        part = self._chain(node, "logical_or", equal)
        return part if expected else self._apply(node, "logical_not", [part])

    def visit_Call(self, node: ast.Call) -> Expression:
        if isinstance(node.func, ast.Attribute) and self._is_info(node.func.value):
            return self._get_info(node, node.func)
        if isinstance(node.func, ast.Attribute):
            raise self._error(node, explain_method(node.func))
        if not isinstance(node.func, ast.Name):
            raise self._not_allowed(node, node.func)
        name = node.func.id
        if name not in syntax.FUNCTIONS:
            raise self._error(node, f"unknown function {name}", sorted(syntax.FUNCTIONS), name)
        if node.keywords or not (node.args or name in syntax.MEMORY):
            raise self._error(node, f"{name} takes positional arguments, at least one")
        parts = [self.visit(argument) for argument in node.args]
        if name in syntax.EXTREMES and len(parts) > 1:
            return self._chain(node, syntax.EXTREMES[name], [to_number(part) for part in parts])
        least = {**syntax.ELEMENTWISE, **syntax.MEMORY}.get(name, 1)
        counts = [least, least + 1] if name in syntax.STARTED else [least]
        if len(parts) not in counts:
            arguments = "argument" if counts == [1] else "arguments"
            expected = " or ".join(map(str, counts))
            raise self._error(node, f"{name} takes {expected} {arguments}, not {len(parts)}")
        if name in syntax.ELEMENTWISE:
            return self._apply(node, name, [to_number(part) for part in parts])
        if name in syntax.MEMORY:
            return self._remember(node, name, [to_number(part) for part in parts])
        return self._reduce(node, name, parts[0])

    def _is_info(self, node: ast.expr) -> bool:
        """Return whether a node is `info` or a subscript of it, and not an observation."""
        while isinstance(node, ast.Subscript):
            node = node.value
        is_name = isinstance(node, ast.Name) and node.id == syntax.INFO
        return is_name and syntax.INFO not in self._names

    def _info_keys(self, node: ast.expr) -> tuple[str, ...]:
        if not isinstance(node, ast.Subscript):
            return ()
        return *self._info_keys(node.value), self._read_key(node.slice)

    def _read_key(self, node: ast.expr) -> str:
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            return node.value
        if isinstance(node, ast.Constant | ast.UnaryOp | ast.Slice | ast.Tuple):
            message = (
                "arrays in info cannot be read by position, only numbers by their keys, as in "
                'info["x_velocity"]; report the entry as a number of its own'
            )
            raise self._error(node, message)
        raise self._error(node, 'a key of info is a text, as in info["x_velocity"]')

    def _get_info(self, node: ast.Call, function: ast.Attribute) -> Expression:
        if function.attr != "get" or len(node.args) != 2 or node.keywords:
            raise self._error(node, 'write info.get("key", 0), with the value for steps without it')
        key, default = self._read_key(node.args[0]), constant_value(self.visit(node.args[1]))
        if default is None:
            raise self._error(node.args[1], "the default must be a number")
        return self._read_info((*self._info_keys(function.value), key), default)

    def _read_info(self, keys: tuple[str, ...], default: float | None = None) -> Expression:
        return self._add_input(InfoEntry(keys, default))

    def _remember(self, node: ast.Call, name: str, parts: Sequence[Expression]) -> Expression:
        """Apply a function of the episode so far, a method of `Recall`."""
        if any(part.shape for part in parts):
            raise self._error(node, f"{name} takes a single number per step; index or reduce it")
        values = parts[0] if parts else Expression(ast.Constant(1.0))
        start = constant_value(parts[1]) if len(parts) > 1 else None
        if len(parts) > 1 and start is None:
            raise self._error(node.args[1], "the value before the first step must be a constant")
        result = self._add_input(Remembered(name, values, start))
        return to_boolean(result) if name in syntax.PREDICATES else result

    def _add_input(self, value: InfoEntry | Remembered) -> Expression:
        for name, known in self._inputs.items():
            if known == value:
                return Expression(load(name), columns=frozenset({name}))
        name = f"_{len(self._inputs)}"  # which no formula can name: its names are looked up
        self._inputs[name] = value
        return Expression(load(name), columns=frozenset({name}))

    def _reduce(self, node: ast.expr, name: str, part: Expression) -> Expression:
        is_boolean = name in ("any", "all")
        part = to_boolean(part) if is_boolean else to_number(part)
        if not part.shape:  # the reduction of a scalar is the scalar
            return self._apply(node, "abs", [part]) if name == "norm" else part
        many = len(part.shape) > 1
        flat = reshape(part.node, math.prod(part.shape)) if many else part.node
        axis = ast.keyword("axis", ast.Constant(1))
        call = ast.Call(load(name), [flat], [axis])
        return Expression(call, (), is_boolean, part.columns)

    def _chain(self, node: ast.expr, function: str, parts: Sequence[Expression]) -> Expression:
        """Apply a function of two arguments to all parts, from left to right."""
        return reduce(lambda left, right: self._apply(node, function, [left, right]), parts)

    def _apply(self, node: ast.expr, function: str, parts: Sequence[Expression]) -> Expression:
        """Apply a numpy function to parts that are scalars or have one shape."""
        shapes = [part.shape for part in parts if part.shape]
        if len(set(shapes)) > 1:
            values = " and ".join(map(format_shape, shapes))
            raise self._error(node, f"sizes do not match: {values} values")
        shape = shapes[0] if shapes else ()
        call = ast.Call(load(function), [broadcast(part, shape) for part in parts], [])
        columns = frozenset[str]().union(*(part.columns for part in parts))
        result = Expression(call, shape, function in syntax.PREDICATES, columns)
        return result if columns else self._fold(node, result)

    def _fold(self, node: ast.expr, part: Expression) -> Expression:
        """Replace a constant expression with its value."""
        with np.errstate(all="ignore"):
            value = build_function(part)()
        if part.is_boolean:
            return Expression(ast.Constant(bool(value)), is_boolean=True)
        return self._finite_constant(node, float(value))

    def _not_allowed(self, node: ast.AST, what: ast.AST) -> ExpressionError:
        return self._error(node, f"{describe_syntax(what)} is not allowed in a formula")

    def _error(
        self, node: ast.AST, message: str, known: Sequence[str] = (), name: str = ""
    ) -> ExpressionError:
        """Return the error at a node, with its offset in characters: Python counts bytes."""
        line = join_lines(self._text)
        indent = len(line) - len(line.lstrip())
        column = getattr(node, "col_offset", 0)
        before = line.lstrip().encode()[:column].decode(errors="ignore")
        return ExpressionError(message, indent + len(before), known, name)
