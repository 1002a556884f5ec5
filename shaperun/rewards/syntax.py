"""The allowlist of formulas: names, functions, operators and limits."""

from __future__ import annotations

import ast
import math
from typing import Any

import numpy as np

MAX_LENGTH = 500  # characters
MAX_NODES = 200
MAX_DEPTH = 30
MAX_EXPONENT = 10

ELEMENTWISE: dict[str, int] = {  # numpy function -> number of arguments
    **dict.fromkeys(("abs", "sign", "floor", "ceil", "square", "sqrt", "exp", "log"), 1),
    **dict.fromkeys(("sin", "cos", "tan", "arcsin", "arccos", "arctan", "tanh"), 1),
    **dict.fromkeys(("arctan2", "hypot"), 2),
    "clip": 3,
}
REDUCTIONS = {"sum", "mean", "norm", "any", "all", "min", "max"}
EXTREMES = {"min": "minimum", "max": "maximum"}
MEMORY = {  # functions of the episode so far -> number of arguments
    **dict.fromkeys(("highest", "lowest", "total", "mean_so_far", "std_so_far"), 1),
    **dict.fromkeys(("previous", "changed"), 1),
    "steps": 0,
}
STARTED = {"previous", "changed"}
"""Functions of the episode so far that take a second argument: the value before the first step."""
FUNCTIONS = {*ELEMENTWISE, *REDUCTIONS, *MEMORY}
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

PREDICATES = {  # numpy functions with boolean values
    *("less", "less_equal", "greater", "greater_equal", "equal", "not_equal"),
    *("logical_and", "logical_or", "logical_not", "changed"),
}

# The only names that a compiled formula can reach.
NAMESPACE: dict[str, Any] = {
    "__builtins__": {},
    "norm": np.linalg.norm,
    **{
        name: getattr(np, name)
        for name in [
            *ELEMENTWISE,
            *OPERATORS.values(),
            *EXTREMES,
            *EXTREMES.values(),
            *("sum", "mean", "any", "all", "negative", "logical_not", "where"),
        ]
    },
}

STATE = "obs"
ENV_REWARD = "env_reward"
INFO = "info"
PREVIOUS = "last_"
"""Prefix of `obs`, `action` and names of observations for their values one step earlier."""

COLUMNS = {  # name -> field of a transition; `obs` is the state after the step
    "obs": "next_obs",
    "last_obs": "obs",
    "action": "action",
    "last_action": "last_action",
    ENV_REWARD: "env_reward",
    "terminated": "terminated",
    "truncated": "truncated",
}
BOOLEANS = {"terminated", "truncated"}
