"""Parse formulas with Python's parser, without evaluating them."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Sequence

from shaperun.rewards import syntax


class ExpressionError(ValueError):
    """Error in a formula at character `offset`; for an unknown `name`, with the `known` ones."""

    def __init__(
        self, message: str, offset: int, known: Sequence[str] = (), name: str = ""
    ) -> None:
        super().__init__(message)
        self.offset, self.known, self.name = offset, list(known), name


class ParameterError(ExpressionError):
    """Error in a parameter of a formula, rather than at a character of it."""

    def __init__(self, message: str, parameter: str) -> None:
        super().__init__(message, 0)
        self.parameter = parameter


def parse_formula(text: str) -> ast.expr:
    """Parse a formula without evaluating it.

    Raises:
        ExpressionError: the text is too long, has a comment or is not a Python expression.
    """
    limit = syntax.MAX_LENGTH
    if len(text) > limit:
        raise ExpressionError(f"the formula is longer than {limit} characters", limit)
    if "#" in text:  # on one line it would hide the rest of the formula
        raise ExpressionError("a comment (#) is not allowed in a formula", text.index("#"))
    line = join_lines(text)
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
        raise ExpressionError(f"invalid formula: {error.msg}", min(offset, len(text))) from None
    except (ValueError, MemoryError, RecursionError):
        raise ExpressionError("invalid formula", 0) from None


def join_lines(text: str) -> str:
    """Return the text as one line: a formula may be folded in its file."""
    return text.replace("\n", " ").replace("\r", " ")


def explain_method(function: ast.Attribute) -> str:
    """Return the error about a method, which may be one of numpy's functions."""
    known = {**{full: short for short, full in syntax.EXTREMES.items()}, "absolute": "abs"}
    name = known.get(function.attr, function.attr)
    if name in syntax.FUNCTIONS:
        return f"an attribute (.) is not allowed in a formula; write {name}(…)"
    return "an attribute (.) is not allowed in a formula"


def describe_syntax(node: ast.AST) -> str:
    """Return the name of a piece of Python syntax for messages."""
    match node:
        case ast.Attribute():
            return "an attribute (.)"
        case ast.Constant():
            return f"{type(node.value).__name__} {node.value!r:.30}"
        case ast.operator() | ast.unaryop() | ast.cmpop():
            return f"the operator {type(node).__name__}"
    words = "".join(f" {c.lower()}" if c.isupper() else c for c in type(node).__name__)
    return f"a{words}"
