"""Terms defined by formulas.

A formula is parsed by Python's parser and never evaluated. Each node of its tree is looked up in
an allowlist (`rewards/syntax.py`), and a new tree of numpy calls is built; only that tree is
compiled, without access to builtins. Sizes are checked at compile time, so a formula that is not
one number per transition is refused before anything runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from shaperun.common.text import format_exact
from shaperun.envs.base import Array, Environment, Need, Term, Transition
from shaperun.envs.memory import Recall
from shaperun.envs.transition import evaluate_rows
from shaperun.rewards.compiled import (
    Expression,
    Formula,
    InfoEntry,
    Remembered,
    build_function,
)
from shaperun.rewards.compiler import compile_formula
from shaperun.rewards.syntax import COLUMNS, ENV_REWARD, STATE

Inputs = Mapping[str, Array]
"""Values (N,) of the columns that a formula needs beyond those of a transition."""


def expression_term(
    environment: Environment, name: str, text: str, parameters: Mapping[str, float] | None = None
) -> Term:
    """Return the term that a formula defines on an environment; parameters are its constants.

    It is a state term if it depends only on `obs` and names of observations.

    Raises:
        ExpressionError: the formula is invalid, or is not one number per transition.
    """
    formula = compile_formula(environment, text, parameters)
    if parameters:
        text = f"{text} with {', '.join(f'{k} = {format_exact(v)}' for k, v in parameters.items())}"
    if formula.columns <= {STATE} and not formula.inputs:
        return Term(name, text, _state_function(formula.result), state_only=True)
    kinds: dict[type, Need] = {InfoEntry: "info", Remembered: "memory"}
    needs = {kinds[type(value)] for value in formula.inputs.values()}
    if ENV_REWARD in formula.columns:
        needs.add("env_reward")
    return Term(
        name,
        text,
        _transition_function(formula, environment.action_size),
        state_only=False,
        needs=frozenset(needs),
    )


def _state_function(expression: Expression) -> Callable[[Array], Array]:
    evaluate = build_function(expression)
    if expression.columns:
        return lambda obs: np.asarray(evaluate(obs), dtype=np.float64)
    return lambda obs: np.full(len(obs), evaluate(), dtype=np.float64)


def _transition_function(formula: Formula, action_size: int | None) -> Callable[..., Array]:
    inputs = {
        name: value
        if isinstance(value, InfoEntry)
        else (value, _evaluator(value.values, action_size))
        for name, value in formula.inputs.items()
    }
    result = _evaluator(formula.result, action_size)

    def function(transition: Transition, recall: Recall | None = None) -> Array:
        known: dict[str, Array] = {}
        for name, value in inputs.items():
            if isinstance(value, InfoEntry):
                known[name] = transition.read_info(*value.keys, default=value.default)
            else:
                remembered, evaluate = value
                start = [] if remembered.start is None else [remembered.start]
                method = getattr(recall, remembered.method)
                known[name] = method(name, evaluate(transition, known), *start)
        return result(transition, known)

    return function


def _evaluator(
    expression: Expression, action_size: int | None
) -> Callable[[Transition, Inputs], Array]:
    """Return a function of transitions, and of values computed before, to values (N,)."""
    evaluate, names = build_function(expression), sorted(expression.columns)

    def column(transition: Transition, field: str) -> Array:
        values = np.asarray(getattr(transition, field), dtype=np.float64)
        if action_size is None or not field.endswith("action"):
            return values
        return values.reshape(len(transition), action_size)

    def compute(transition: Transition, inputs: Inputs) -> Array:
        def part_values(part: Transition, rows: slice) -> Array:
            columns = [
                inputs[name][rows] if name in inputs else column(part, COLUMNS[name])
                for name in names
            ]
            values = np.asarray(evaluate(*columns), dtype=np.float64)
            return values if columns else np.full(len(part), values)

        return evaluate_rows(part_values, transition)

    return compute
