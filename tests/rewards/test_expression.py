"""Values of formulas."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from shaperun.envs.base import Environment, Transition
from shaperun.envs.builtin import environments
from shaperun.rewards.expression import expression_term
from shaperun.rewards.formula import ExpressionError
from shaperun.rewards.syntax import FUNCTIONS, MEMORY, OPERATORS
from tests.helpers.formulas import environment, make_term, transitions

Formulas = dict[str, Callable[[Any], Any]]

# State formulas; the functions take the observation's columns (4, N).
STATE: Formulas = {
    "x": lambda o: o[0],
    "last_push": lambda o: o[3],
    "obs[0]": lambda o: o[0],
    "obs[-1] - obs[-4]": lambda o: o[3] - o[0],
    "+x - -y": lambda o: o[0] + o[1],
    "-x**2": lambda o: -(o[0] ** 2),
    "x ** 3 * 2": lambda o: o[0] ** 3 * 2,
    "x ** -2": lambda o: 1 / o[0] ** 2,
    "x ** (1 / 2)": lambda o: np.sqrt(o[0]),
    "x ** 10": lambda o: o[0] ** 10,
    "x / y": lambda o: o[0] / o[1],
    "x // y": lambda o: np.floor(o[0] / o[1]),
    "x // 2": lambda o: np.floor(o[0] / 2),
    "x % 1.5": lambda o: o[0] - 1.5 * np.floor(o[0] / 1.5),
    "1_000 * x + 0x10 + 1e-3": lambda o: 1000 * o[0] + 16.001,
    "2 - (x - (y - 1))": lambda o: 1 - o[0] + o[1],
    "abs(x)": lambda o: np.where(o[0] < 0, -o[0], o[0]),
    "sign(x)": lambda o: 1.0 * (o[0] > 0) - 1.0 * (o[0] < 0),
    "floor(x) + ceil(y) * 10": lambda o: np.floor(o[0]) + np.ceil(o[1]) * 10,
    "square(x)": lambda o: o[0] * o[0],
    "sqrt(x)": lambda o: o[0] ** 0.5,
    "exp(x)": lambda o: np.e ** o[0],
    "log(x)": lambda o: np.log2(o[0]) / np.log2(np.e),
    "sin(x) + 2 * cos(x)": lambda o: np.sin(o[0]) + 2 * np.cos(o[0]),
    "tan(x)": lambda o: np.sin(o[0]) / np.cos(o[0]),
    "arcsin(x) + arccos(x)": lambda o: np.where(np.abs(o[0]) > 1, np.nan, np.pi / 2),
    "arcsin(x)": lambda o: np.arcsin(o[0]),
    "arctan(x)": lambda o: np.arctan2(o[0], np.ones_like(o[0])),
    "tanh(x)": lambda o: 1 - 2 / (np.exp(2 * o[0]) + 1),
    "arctan2(x, y)": lambda o: np.angle(o[1] + 1j * o[0]),
    "hypot(x, y)": lambda o: np.abs(o[0] + 1j * o[1]),
    "sum(obs[::2]) + 10 * sum(obs[::-2])": lambda o: o[0] + o[2] + 10 * (o[3] + o[1]),
    "x in (0, 1.5, y)": lambda o: 1.0 * ((o[0] == 0) | (o[0] == 1.5) | (o[0] == o[1])),
    "x not in [0, 1]": lambda o: 1.0 * ((o[0] != 0) & (o[0] != 1)),
    "sum(obs in (1, 2))": lambda o: ((o == 1) | (o == 2)).sum(axis=0),
    "clip(x, -1, 0.5)": lambda o: np.minimum(np.maximum(o[0], -1), 0.5),
    "clip(1, x, y)": lambda o: np.minimum(np.maximum(1, o[0]), o[1]),
    "pi * x": lambda o: np.pi * o[0],
    # Comparisons and booleans.
    "x < y": lambda o: o[0] < o[1],
    "x <= y": lambda o: o[0] <= o[1],
    "x > y": lambda o: o[0] > o[1],
    "x >= y": lambda o: o[0] >= o[1],
    "x == y": lambda o: o[0] == o[1],
    "x != y": lambda o: o[0] != o[1],
    "(x < y) + (x > y) + 0.5": lambda o: (o[0] != o[1]) + 0.5,
    "-1 < x <= y < 2": lambda o: (o[0] > -1) & (o[0] <= o[1]) & (o[1] < 2),
    "0 < 1 < x": lambda o: o[0] > 1,
    "2 < 1 < x": lambda o: np.zeros(o.shape[1]),
    "0 <= (0 < x < 2) < 1": lambda o: ~((o[0] > 0) & (o[0] < 2)),
    "x and y": lambda o: (o[0] != 0) & (o[1] != 0),
    "x or y or speed": lambda o: (o[0] != 0) | (o[1] != 0) | (o[2] != 0),
    "x or y and speed": lambda o: (o[0] != 0) | ((o[1] != 0) & (o[2] != 0)),
    "not x": lambda o: o[0] == 0,
    "not x < y": lambda o: o[0] >= o[1],
    "-(not x)": lambda o: -1.0 * (o[0] == 0),
    "x if y else speed": lambda o: np.where(o[1] == 0, o[2], o[0]),
    "1 if x > 0 else -1 if x < 0 else 0": lambda o: np.sign(o[0]),
    "x if True else y": lambda o: o[0],
    "x and True": lambda o: o[0] != 0,
    "True * x + False": lambda o: o[0],
    # Several values, alone and with a scalar.
    "sum(obs)": lambda o: o[0] + o[1] + o[2] + o[3],
    "mean(obs)": lambda o: (o[0] + o[1] + o[2] + o[3]) / 4,
    "norm(obs)": lambda o: np.sqrt((o**2).sum(axis=0)),
    "min(obs)": lambda o: np.sort(o, axis=0)[0],
    "max(obs)": lambda o: np.sort(o, axis=0)[-1],
    "any(obs)": lambda o: (o != 0).any(axis=0),
    "all(obs)": lambda o: (o != 0).all(axis=0),
    "any(obs > 1) + all(obs < 1)": lambda o: 1.0 * (o.max(0) > 1) + (o.max(0) < 1),
    "sum(obs[1:3])": lambda o: o[1] + o[2],
    "sum(obs[:2]) - sum(obs[2:])": lambda o: o[0] + o[1] - o[2] - o[3],
    "sum(obs[-3:-1]) + sum(obs[:])": lambda o: o.sum(axis=0) + o[1] + o[2],
    "obs[1:][1]": lambda o: o[2],
    "obs[2:3]": lambda o: o[2],
    "obs[0:4][-4:][0]": lambda o: o[0],
    "(obs - x)[1]": lambda o: o[1] - o[0],
    "(x * obs + 1)[3]": lambda o: o[0] * o[3] + 1,
    "(obs > 0)[2]": lambda o: o[2] > 0,
    "sum(obs[:2] * obs[2:])": lambda o: o[0] * o[2] + o[1] * o[3],
    "sum(obs if x else -obs)": lambda o: np.where(o[0] == 0, -1, 1) * o.sum(axis=0),
    "sum(x if obs > 0 else 1)": lambda o: np.where(o > 0, o[0], 1).sum(axis=0),
    "sum(clip(obs, 0, x))": lambda o: np.minimum(np.maximum(o, 0), o[0]).sum(axis=0),
    "sum(not obs)": lambda o: (o == 0).sum(axis=0),
    "sum(obs and x)": lambda o: ((o != 0) & (o[0] != 0)).sum(axis=0),
    "sum(-1 < obs < x)": lambda o: ((o > -1) & (o < o[0])).sum(axis=0),
    "sum(hypot(obs, y))": lambda o: np.sqrt(o**2 + o[1] ** 2).sum(axis=0),
    "max(x, y)": lambda o: np.where(o[0] > o[1], o[0], o[1]),
    "min(x, y, 0)": lambda o: np.sort([o[0], o[1], 0 * o[0]], axis=0)[0],
    "sum(max(obs, x, 1))": lambda o: np.maximum(np.maximum(o, o[0]), 1).sum(axis=0),
    # Reductions of a scalar.
    "sum(x) + mean(x) + min(x) + max(x)": lambda o: 4 * o[0],
    "norm(x)": lambda o: np.abs(o[0]),
    "any(x) + all(x)": lambda o: 2 * (o[0] != 0),
    # Constants.
    "3": lambda o: np.full(o.shape[1], 3.0),
    "-pi / 2": lambda o: np.full(o.shape[1], -np.pi / 2),
    "True": lambda o: np.ones(o.shape[1]),
    "2 ** 10 - 7 // 2 - 7 % 4": lambda o: np.full(o.shape[1], 1018.0),
    "hypot(3, 4) + norm(-2) + max(1, 2)": lambda o: np.full(o.shape[1], 9.0),
    "1 < 2 < 3 and not 0": lambda o: np.ones(o.shape[1]),
    "x ** (1 + 1) / (3 - 1)": lambda o: o[0] * o[0] / 2,
    # Whitespace and line breaks.
    "  x": lambda o: o[0],
    "\n\t x\n  + y\n": lambda o: o[0] + o[1],
    "hypot(\n  x,\r\n  y,\n)": lambda o: np.hypot(o[0], o[1]),
    "1if x else(y)": lambda o: np.where(o[0] == 0, o[1], 1),
}

# Transition formulas; the functions take transitions.
TRANSITION: Formulas = {
    "x - last_x": lambda t: t.next_obs[:, 0] - t.obs[:, 0],
    "last_push - last_last_push": lambda t: t.next_obs[:, 3] - t.obs[:, 3],
    "last_obs[1]": lambda t: t.obs[:, 1],
    "norm(obs - last_obs)": lambda t: np.sqrt(((t.next_obs - t.obs) ** 2).sum(axis=1)),
    "0.9 * abs(y) - abs(last_y)": lambda t: 0.9 * np.abs(t.next_obs[:, 1]) - np.abs(t.obs[:, 1]),
    "env_reward": lambda t: t.env_reward,
    "-env_reward if terminated else 0": lambda t: np.where(t.terminated, -t.env_reward, 0),
    "terminated": lambda t: t.terminated,
    "truncated * 2": lambda t: 2.0 * t.truncated,
    "terminated + truncated": lambda t: 1.0 * t.terminated + t.truncated,
    "terminated or truncated": lambda t: t.terminated | t.truncated,
    "not terminated and x > 0": lambda t: ~t.terminated & (t.next_obs[:, 0] > 0),
    "x + 0 * truncated": lambda t: t.next_obs[:, 0],
    "any(terminated) + all(truncated)": lambda t: 1.0 * t.terminated + t.truncated,
    "terminated == truncated": lambda t: t.terminated == t.truncated,
}
DISCRETE: Formulas = {
    "action": lambda t: t.action,
    "action == 2 or action == 3": lambda t: t.action >= 2,
    "action != last_action": lambda t: t.action != t.last_action,
    "sum(obs * action)": lambda t: t.next_obs.sum(axis=1) * t.action,
    "action / 2": lambda t: t.action / 2,
    "-1 if action == 0 else action ** -1": lambda t: np.where(t.action == 0, -1, 1 / t.action),
}
TWO: Formulas = {
    "action[0] - last_action[-1]": lambda t: t.action[:, 0] - t.last_action[:, 1],
    "-norm(action)": lambda t: -np.hypot(t.action[:, 0], t.action[:, 1]),
    "sum(abs(action - last_action))": lambda t: np.abs(t.action - t.last_action).sum(axis=1),
    "sum(action * x)": lambda t: t.action.sum(axis=1) * t.next_obs[:, 0],
    "sum(action * obs[:2])": lambda t: (t.action * t.next_obs[:, :2]).sum(axis=1),
    "mean(square(action))": lambda t: (t.action[:, 0] ** 2 + t.action[:, 1] ** 2) / 2,
}
ONE: Formulas = {
    "action": lambda t: t.action[:, 0],
    "-square(action) * x": lambda t: -(t.action[:, 0] ** 2) * t.next_obs[:, 0],
    "action[0] + sum(action)": lambda t: 2 * t.action[:, 0],
    "x if action > last_action else y": lambda t: np.where(
        t.action[:, 0] > t.last_action[:, 0], t.next_obs[:, 0], t.next_obs[:, 1]
    ),
    "not action": lambda t: t.action[:, 0] == 0,
    "max(action, x, obs[1:2])": lambda t: np.max(
        [t.action[:, 0], t.next_obs[:, 0], t.next_obs[:, 1]], axis=0
    ),
}
CASES = [
    *[(text, None, lambda t, f=f: f(t.next_obs.T)) for text, f in STATE.items()],
    *[(text, 2, function) for text, function in (TRANSITION | TWO).items()],
    *[(text, None, function) for text, function in (TRANSITION | DISCRETE).items()],
    *[(text, 1, function) for text, function in ONE.items()],
]
each_case = pytest.mark.parametrize(
    ("text", "action_size", "expected"), CASES, ids=[f"{text}-{size}" for text, size, _ in CASES]
)


@each_case
def test_values_of_a_formula(
    text: str, action_size: int | None, expected: Callable[[Transition], Any]
) -> None:
    for n in (0, 1, 40):
        batch = transitions(n, action_size)
        with np.errstate(all="ignore"):
            values = make_term(text, action_size)(batch)
            np.testing.assert_allclose(values, np.array(expected(batch)), rtol=1e-12, atol=1e-12)
        assert values.shape == (n,)
        assert values.dtype == np.float64


@each_case
def test_batch_matches_single_transitions(
    text: str, action_size: int | None, expected: Callable[[Transition], Any]
) -> None:
    function, batch = make_term(text, action_size), transitions(7, action_size)
    with np.errstate(all="ignore"):
        rows = [function(batch.take(np.array([row])))[0] for row in range(7)]
        np.testing.assert_allclose(function(batch), rows, rtol=1e-12)


@pytest.mark.parametrize("text", STATE)
def test_state_formula(text: str) -> None:
    term = expression_term(environment(), "term", text)
    batch = transitions()
    assert term.state_only
    with np.errstate(all="ignore"):
        assert term.function(batch.next_obs).tobytes() == term(batch).tobytes()
    assert (term.name, term.formula) == ("term", text)


@pytest.mark.parametrize("text", TRANSITION | DISCRETE)
def test_transition_formula(text: str) -> None:
    assert not expression_term(environment(), "term", text).state_only


def test_cases_cover_all_functions_and_operators() -> None:
    tables = [text for text, _, _ in CASES if "1if" not in text]
    trees = [ast.parse(" ".join(text.split()), mode="eval") for text in tables]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    assert {node.id for node in nodes if isinstance(node, ast.Name)} >= FUNCTIONS - MEMORY.keys()
    assert set(OPERATORS) <= {type(node) for node in nodes}


def test_formulas_use_double_precision() -> None:
    batch = transitions(10, 2)
    action = np.random.default_rng(0).normal(size=(10, 2)).astype(np.float32)
    narrow, wide = replace(batch, action=action), replace(batch, action=action.astype(np.float64))
    term = make_term("sum(square(action)) / 3", 2)
    assert term(narrow).tolist() == term(wide).tolist()
    counts = replace(transitions(2), action=np.array([2**31 - 1, 200], dtype=np.int32))
    assert make_term("action * action")(counts).tolist() == [float((2**31 - 1) ** 2), 40_000.0]


def test_names_of_observations_take_precedence() -> None:
    named = Environment(
        id="Nowhere-v0",
        observations=("action", "sin", "last_sin"),
        outcome=lambda end: np.full(len(end), "over"),
        outcomes={"over": None},
    )
    obs = np.array([[1.0, 2.0, 3.0]])
    for text, value in {"action": 1.0, "sin": 2.0, "last_sin": 3.0, "sin(sin)": np.sin(2)}.items():
        term = expression_term(named, "term", text)
        assert term.state_only
        assert term.function(obs).tolist() == [value]
    assert not expression_term(named, "term", "last_last_sin").state_only


GRIDS: Formulas = {  # the functions take observations (N, 2, 3, 4)
    "obs[0, 2, 3]": lambda o: o[:, 0, 2, 3],
    "obs[-1, -2][1]": lambda o: o[:, 1, 1, 1],
    "sum(obs[:, 1])": lambda o: o[:, :, 1].sum(axis=(1, 2)),
    "sum(obs[1, ::2, 1:3])": lambda o: o[:, 1, ::2, 1:3].sum(axis=(1, 2)),
    "norm(obs)": lambda o: np.sqrt((o**2).sum(axis=(1, 2, 3))),
    "max(obs[0] - obs[1])": lambda o: (o[:, 0] - o[:, 1]).max(axis=(1, 2)),
    "mean(obs * obs[0, 0, 0] > 0)": lambda o: (o * o[:, :1, :1, :1] > 0).mean(axis=(1, 2, 3)),
    "any(obs[:, 2, -1] == 1)": lambda o: 1.0 * (o[:, :, 2, -1] == 1).any(axis=1),
    "obs[0:1, 0:1, 0:1]": lambda o: o[:, 0, 0, 0],
}


@pytest.mark.parametrize("text", GRIDS)
def test_arrays_are_indexed_as_the_environment_returns_them(text: str) -> None:
    grid = replace(environment(), observations=(), layout=(2, 3, 4))
    obs = np.random.default_rng(0).integers(-2, 3, (7, 2, 3, 4)).astype(float)
    term = expression_term(grid, "term", text)
    for some in (obs, obs[:1], obs[:0]):
        np.testing.assert_allclose(
            term.at_states(some.reshape(len(some), 24)), GRIDS[text](some), rtol=1e-12
        )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("obs[0]", "this has 3 × 4 values, and a term must be a single number"),
        ("sum(obs[0] + obs[:, 0])", "sizes do not match: 3 × 4 and 2 × 4 values"),
        ("obs[0, 3, 0]", "the index must be an integer from 0 to 2"),
        ("obs[0, 0, 0, 0]", "4 indices for 2 × 3 × 4 values are too many"),
    ],
)
def test_wrong_sizes_of_arrays_are_refused(text: str, message: str) -> None:
    grid = replace(environment(), observations=(), layout=(2, 3, 4))
    with pytest.raises(ExpressionError, match=re.escape(message)):
        expression_term(grid, "term", text)


def test_unnamed_observations() -> None:
    unnamed = Environment(
        id="Nowhere-v0",
        observations=(),
        layout=(1,),
        outcome=lambda end: np.full(len(end), "over"),
        outcomes={"over": None},
    )
    term = expression_term(unnamed, "term", "obs == 15")
    assert term.function(np.array([[15.0], [3.0]])).tolist() == [1.0, 0.0]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("distance", "-hypot(x, y)"),
        ("velocity", "-hypot(vx, vy)"),
        ("angle", "-abs(angle)"),
        ("legs", "left_leg + right_leg"),
    ],
)
def test_formula_matches_the_built_in_term_exactly(name: str, text: str) -> None:
    lander = environments()["LunarLander-v3"]
    obs = np.random.default_rng(3).normal(size=(1000, 8))
    copy = expression_term(lander, "copy", text)
    assert copy.function(obs).tobytes() == lander.terms[name].function(obs).tobytes()
    assert copy.state_only
