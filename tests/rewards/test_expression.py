"""Formulas: what they compute, what is refused and where, and that nothing in them ever runs."""

from __future__ import annotations

import ast
import builtins
import contextlib
import difflib
import importlib
import inspect
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shaperun.envs.base import Array, Environment, Transition
from shaperun.envs.builtin import environments
from shaperun.rewards.compiler import FUNCTIONS, NAMESPACE, OPERATORS, ExpressionError
from shaperun.rewards.expression import difference_factor, expression_term

NAMES = ("x", "y", "speed", "last_push")
Formulas = dict[str, Callable[[Any], Any]]


def environment(action_size: int | None = None) -> Environment:
    return Environment(
        id="Nowhere-v0",
        observations=NAMES,
        outcome=lambda end: np.full(len(end), "over"),
        outcomes={"over": None},
        action_size=action_size,
    )


def transitions(n: int = 40, action_size: int | None = None) -> Transition:
    """Halves, so that zeros and equal numbers come up."""
    random = np.random.default_rng(n)
    shape = (n,) if action_size is None else (n, action_size)
    obs, next_obs = random.integers(-4, 5, (2, n, len(NAMES))) / 2
    action, last_action = random.integers(0, 4, (2, *shape))
    terminated, truncated = random.integers(0, 2, (2, n)).astype(bool)
    env_reward = random.normal(size=n)
    return Transition(obs, action, next_obs, env_reward, terminated, truncated, last_action)


def compiled(text: str, action_size: int | None = None) -> Callable[[Transition], Array]:
    return expression_term(environment(action_size), "term", text)


# Formulas of the state; the functions are given its columns (4, N).
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
    "clip(x, -1, 0.5)": lambda o: np.minimum(np.maximum(o[0], -1), 0.5),
    "clip(1, x, y)": lambda o: np.minimum(np.maximum(1, o[0]), o[1]),
    "pi * x": lambda o: np.pi * o[0],
    # Comparisons and truth.
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
    # Several numbers, and one number beside them.
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
    # One number is its own sum, and so on.
    "sum(x) + mean(x) + min(x) + max(x)": lambda o: 4 * o[0],
    "norm(x)": lambda o: np.abs(o[0]),
    "any(x) + all(x)": lambda o: 2 * (o[0] != 0),
    # Numbers only.
    "3": lambda o: np.full(o.shape[1], 3.0),
    "-pi / 2": lambda o: np.full(o.shape[1], -np.pi / 2),
    "True": lambda o: np.ones(o.shape[1]),
    "2 ** 10 - 7 // 2 - 7 % 4": lambda o: np.full(o.shape[1], 1018.0),
    "hypot(3, 4) + norm(-2) + max(1, 2)": lambda o: np.full(o.shape[1], 9.0),
    "1 < 2 < 3 and not 0": lambda o: np.ones(o.shape[1]),
    "x ** (1 + 1) / (3 - 1)": lambda o: o[0] * o[0] / 2,
    # As it may stand in a file.
    "  x": lambda o: o[0],
    "\n\t x\n  + y\n": lambda o: o[0] + o[1],
    "hypot(\n  x,\r\n  y,\n)": lambda o: np.hypot(o[0], o[1]),
    "1if x else(y)": lambda o: np.where(o[0] == 0, o[1], 1),
}

# Formulas of more than the state; the functions are given transitions.
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
@pytest.mark.parametrize("n", [0, 1, 40])
def test_what_a_formula_computes(
    text: str, action_size: int | None, expected: Callable[[Transition], Any], n: int
) -> None:
    batch = transitions(n, action_size)
    with np.errstate(all="ignore"):
        found = compiled(text, action_size)(batch)
        np.testing.assert_allclose(found, np.array(expected(batch)), rtol=1e-12, atol=1e-12)
    assert found.shape == (n,)
    assert found.dtype == np.float64


@each_case
def test_a_batch_is_as_good_as_its_rows(
    text: str, action_size: int | None, expected: Callable[[Transition], Any]
) -> None:
    function, batch = compiled(text, action_size), transitions(7, action_size)
    with np.errstate(all="ignore"):
        rows = [function(batch.take(np.array([row])))[0] for row in range(7)]
        np.testing.assert_allclose(function(batch), rows, rtol=1e-12)


@pytest.mark.parametrize("text", STATE)
def test_a_formula_of_the_state(text: str) -> None:
    term = expression_term(environment(), "term", text)
    batch = transitions()
    assert term.state_only
    with np.errstate(all="ignore"):
        assert term.function(batch.next_obs).tobytes() == term(batch).tobytes()
    assert (term.name, term.formula) == ("term", text)


@pytest.mark.parametrize("text", TRANSITION | DISCRETE)
def test_a_formula_of_more_than_the_state(text: str) -> None:
    assert not expression_term(environment(), "term", text).state_only


def test_the_tables_leave_nothing_out() -> None:
    tables = [text for text, _, _ in CASES if "1if" not in text]
    trees = [ast.parse(" ".join(text.split()), mode="eval") for text in tables]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    assert {node.id for node in nodes if isinstance(node, ast.Name)} >= FUNCTIONS
    assert set(OPERATORS) <= {type(node) for node in nodes}


def test_everything_is_computed_in_double_precision() -> None:
    batch = transitions(10, 2)
    action = np.random.default_rng(0).normal(size=(10, 2)).astype(np.float32)
    narrow, wide = replace(batch, action=action), replace(batch, action=action.astype(np.float64))
    term = compiled("sum(square(action)) / 3", 2)
    assert term(narrow).tolist() == term(wide).tolist()
    counts = replace(transitions(2), action=np.array([2**31 - 1, 200], dtype=np.int32))
    assert compiled("action * action")(counts).tolist() == [float((2**31 - 1) ** 2), 40_000.0]


def test_an_observation_is_what_its_name_says() -> None:
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


def test_observations_without_names() -> None:
    unnamed = Environment(
        id="Nowhere-v0",
        observations=(),
        anonymous_size=1,
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
def test_a_formula_gives_the_bytes_of_the_built_in_term(name: str, text: str) -> None:
    lander = environments()["LunarLander-v3"]
    obs = np.random.default_rng(3).normal(size=(1000, 8))
    copy = expression_term(lander, "copy", text)
    assert copy.function(obs).tobytes() == lander.terms[name].function(obs).tobytes()
    assert copy.state_only


# What is refused. The mark ▸ stands in front of the character that the error points to.
CANNOT = "cannot stand in a formula"
LONG = "the formula is too long, make two terms of it"
PLACES = "the index must be a whole number from 0 to 3"
EXPONENT = "an exponent is a number from −10 to 10"
REFUSED = [
    # Pieces of Python that are no pieces of a formula.
    ("1 + ▸x.real", f"an attribute (.) {CANNOT}"),
    ("▸obs.__class__", f"an attribute (.) {CANNOT}"),
    ("▸x.__class__.__mro__[1]", f"an attribute (.) {CANNOT}"),
    ("▸obs.sum()", f"an attribute (.) {CANNOT}"),
    ("▸(lambda: x)()", f"a lambda {CANNOT}"),
    ("▸lambda: x", f"a lambda {CANNOT}"),
    ("x + ▸[x]", f"a list {CANNOT}"),
    ("▸{x}", f"a set {CANNOT}"),
    ("▸{1: x}[1]", f"a dict {CANNOT}"),
    ("▸x, y", f"a tuple {CANNOT}"),
    ("sum(▸[x for x in obs])", f"a list comp {CANNOT}"),
    ("sum▸(x for x in obs)", f"a generator exp {CANNOT}"),
    ("1 + ▸f'{x}'", f"a joined str {CANNOT}"),
    ("▸'x'", f"str 'x' {CANNOT}"),
    ("x + ▸b'x'", f"bytes b'x' {CANNOT}"),
    ("x + ▸1j", f"complex 1j {CANNOT}"),
    ("▸None", f"NoneType None {CANNOT}"),
    ("x + ▸...", f"ellipsis Ellipsis {CANNOT}"),
    ("(▸z := x)", f"a named expr {CANNOT}"),
    ("1 + (▸await x)", f"a await {CANNOT}"),
    ("(▸yield)", f"a yield {CANNOT}"),
    ("(▸yield from obs)", f"a yield from {CANNOT}"),
    ("sum(▸*obs)", f"a starred {CANNOT}"),
    ("x + ▸x @ y", f"the operator MatMult {CANNOT}"),
    ("▸x << 2", f"the operator LShift {CANNOT}"),
    ("▸x & y", f"the operator BitAnd {CANNOT}"),
    ("x + ▸~y", f"the operator Invert {CANNOT}"),
    ("1 + (▸x is y)", f"the operator Is {CANNOT}"),
    ("▸x in obs", f"the operator In {CANNOT}"),
    ("x ▸# the place\n+ y", f"a comment (#) {CANNOT}"),
    # Names and calls.
    ("x + ▸nothing", "there is no name nothing"),
    ("▸__builtins__", "there is no name __builtins__"),
    ("▸__import__", "there is no name __import__"),
    ("▸next_obs[0]", "there is no name next_obs"),
    ("▸last_env_reward", "there is no name last_env_reward"),
    ("▸last_last_x", "there is no name last_last_x"),
    ("▸last_pi", "there is no name last_pi"),
    ("x + ▸π", "there is no name π"),
    ("1 + ▸abs", "abs is a function, write abs(…)"),
    ("1 + ▸__import__('os')", "there is no function __import__"),
    ("▸eval('x')", "there is no function eval"),
    ("▸x(1)", "there is no function x"),
    ("▸where(x, 1, 2)", "there is no function where"),
    ("▸power(x, 99)", "there is no function power"),
    ("1 + ▸sum()", "sum takes its arguments in order"),
    ("▸sum(obs, axis=1)", "sum takes its arguments in order"),
    ("▸sum(**obs)", "sum takes its arguments in order"),
    ("1 + ▸hypot(x)", "hypot takes 2 arguments, not 1"),
    ("▸abs(x, y)", "abs takes 1 arguments, not 2"),
    ("▸sum(x, y)", "sum takes 1 arguments, not 2"),
    ("▸clip(x, 1)", "clip takes 3 arguments, not 2"),
    # Numbers that are none, or too many of them.
    ("1 + ▸1e999", "this comes to inf, not to a finite number"),
    ("▸" + "9" * 400, "this comes to inf, not to a finite number"),
    ("x + ▸exp(1000)", "this comes to inf"),
    ("▸1e308 * 10", "this comes to inf"),
    ("1 + ▸sqrt(-1)", "this comes to nan"),
    ("▸0 ** -1", "this comes to inf"),
    ("▸log(0)", "this comes to -inf"),
    ("x / ▸0", "this divides by zero"),
    ("x // (▸1 - 1)", "this divides by zero"),
    ("1 / ▸-0.0", "this divides by zero"),
    ("x % ▸False", "this divides by zero"),
    ("x ** ▸11", EXPONENT),
    ("x ** ▸-10.5", EXPONENT),
    ("2 ** ▸x", EXPONENT),
    ("x ** ▸y", EXPONENT),
    ("9 ** ▸9 ** 9", EXPONENT),
    ("x ** ▸terminated", EXPONENT),
    ("10 ** ▸10 ** 10", EXPONENT),
    # Sizes and places.
    ("▸obs", "this is 4 numbers and a term is one; take one of them, [0], or their sum()"),
    ("▸obs[1:3] * 2", "this is 2 numbers and a term is one"),
    ("▸1 if obs > 0 else 2", "this is 4 numbers and a term is one"),
    ("sum(▸obs + obs[1:])", "these do not fit together: 4 against 3 numbers"),
    ("▸obs[:2] < obs", "these do not fit together: 2 against 4 numbers"),
    ("▸obs[0:1] + obs", "these do not fit together: 1 against 4 numbers"),
    ("sum(▸obs[:2] and obs)", "these do not fit together"),
    ("max(▸hypot(obs, obs[:3]))", "these do not fit together"),
    ("1 + ▸x[0]", "this is a single number, it has no parts to take by [ ]"),
    ("▸sum(obs)[0]", "this is a single number"),
    ("▸obs[0][0]", "this is a single number"),
    ("▸pi[0]", "this is a single number"),
    ("obs[▸4]", PLACES),
    ("obs[-▸5]", PLACES),
    ("obs[▸99999999999999999999]", PLACES),
    ("obs[▸1.0]", PLACES),
    ("obs[▸True]", PLACES),
    ("obs[▸x]", PLACES),
    ("obs[▸'x']", PLACES),
    ("obs[▸0, 1]", PLACES),
    ("obs[▸1 + 1]", PLACES),
    ("obs[▸...]", PLACES),
    ("obs[▸None]", PLACES),
    ("obs[-▸-1]", PLACES),
    ("obs[▸5:]", PLACES),
    ("obs[:▸x]", PLACES),
    ("obs[1:3][▸2]", "the index must be a whole number from 0 to 1"),
    ("▸obs[::2]", "a range is written [from:to], without a step"),
    ("sum(▸obs[0:4:1])", "a range is written [from:to], without a step"),
    ("sum(▸obs[2:2])", "this range is empty"),
    ("sum(▸obs[3:1])", "this range is empty"),
    ("sum(▸obs[4:])", "this range is empty"),
    # No formula at all.
    ("▸", "this is no formula"),
    ("   ▸", "this is no formula"),
    (" \n\t\n▸", "this is no formula"),
    ("x ▸= 1", "this is no formula"),
    ("x ▸= 1\ny", "this is no formula"),
    ("x▸; y", "this is no formula"),
    ("x ▸y", "this is no formula"),
    ("▸import os", "this is no formula"),
    ("x\n▸y", "this is no formula"),
    ("x ▸− y", "this is no formula: invalid character '−' (U+2212)"),
    ("hypot▸(x, y", "this is no formula: '(' was never closed"),
    ("x +▸ ", "this is no formula"),
    ("x + y -▸", "this is no formula"),
    (" é *▸\n\n", "this is no formula"),
    ("x if y else▸", "this is no formula"),
    ("▸x + \0", "this is no formula"),
    ("▸x + \ud800", "this is no formula"),
    # Too much.
    (" " * 500 + "▸x", "the formula is longer than 500 characters"),
    ("x + " * 125 + "▸x", "the formula is longer than 500 characters"),
    ("-" * 500 + "▸" + "-" * 500 + "x", "the formula is longer than 500 characters"),
    ("-" * 31 + "▸" + "-" * 400 + "x", LONG),
    ("(" * 200 + "▸" + "(" * 40 + "x" + ")" * 240, "too many nested parentheses"),
    ("abs(" * 31 + "▸" + "abs(" * 40 + "x" + ")" * 71, LONG),
    ("▸x" + "[0]" * 100, LONG),
    ("0<(" * 30 + "▸0<(x" + ")" * 31, LONG),
    ("▸x" + "+x" * 40, LONG),
    ("x if y else " * 30 + "x if ▸y else x", LONG),
    # Not the beginning of the line but of the text counts, and characters do, not bytes.
    *[
        (before + marked, message)
        for before in ("", " ", "\n\n", "\t \n ", " \r\n ", "\u2003")
        for marked, message in [
            ("x + ▸é", "there is no name é"),
            ("é if ▸nothing else 1", "there is no name nothing"),
            ("'日本' if ▸nothing else 1", "there is no name nothing"),
            ("'😀' if x\n > ▸nothing else 1", "there is no name nothing"),
            ("é ▸− y", "this is no formula"),
            ("'😀' ▸? y", "this is no formula"),
            ("x +\n ▸nothing", "there is no name nothing"),
            ("(x +\r ▸nothing)", "there is no name nothing"),
            ("(x +\r\n ▸nothing)", "there is no name nothing"),
            ("(x +\r ▸? 1)", "this is no formula"),
        ]
    ],
]


def refusal(text: str, action_size: int | None = None) -> ExpressionError:
    with pytest.raises(ExpressionError) as caught:
        expression_term(environment(action_size), "term", text)
    return caught.value


@pytest.mark.parametrize(("marked", "message"), REFUSED)
def test_what_is_refused_and_where(marked: str, message: str) -> None:
    before, after = marked.split("▸")
    error = refusal(before + after)
    assert message in str(error)
    assert error.offset == len(before)


@pytest.mark.parametrize(
    ("text", "name", "nearest"),
    [
        ("sped + 1", "sped", "speed"),
        ("X", "X", "x"),
        ("env_rewards", "env_rewards", "env_reward"),
        ("act", "act", "action"),
        ("last_ob[0]", "last_ob", "last_obs"),
        ("Pi", "Pi", "pi"),
        ("hypo(x, y)", "hypo", "hypot"),
        ("minimum(x, y)", "minimum", "min"),
    ],
)
def test_the_names_there_are(text: str, name: str, nearest: str) -> None:
    error = refusal(text)
    assert error.name == name
    assert name not in error.known
    assert difflib.get_close_matches(name.lower(), error.known, n=1, cutoff=0.5) == [nearest]


def test_names_and_functions_are_not_mixed() -> None:
    assert {"x", "last_push", "obs", "action", "truncated", "pi"} <= set(refusal("z").known)
    assert not FUNCTIONS & set(refusal("z").known)
    assert set(refusal("z(x)").known) == FUNCTIONS
    assert not refusal("x.y").known


def test_the_size_of_an_action() -> None:
    assert "this is a single number" in str(refusal("action[0]", None))
    assert "a whole number from 0 to 0" in str(refusal("action[1]", 1))
    assert "a whole number from 0 to 1" in str(refusal("action[2]", 2))
    assert "this is 2 numbers" in str(refusal("action * last_action", 2))
    assert "2 against 4" in str(refusal("sum(action + obs)", 2))


def test_long_formulas_that_will_do() -> None:
    batch = transitions()
    x = batch.next_obs[:, 0]
    assert compiled("x" + "+x" * 25)(batch).tolist() == (26 * x).tolist()
    assert compiled("(" * 150 + "x" + ")" * 150)(batch).tolist() == x.tolist()
    assert compiled("-" * 28 + "x")(batch).tolist() == x.tolist()
    assert compiled("max(" + "x, " * 150 + "x)")(batch).tolist() == x.tolist()
    assert compiled("x".rjust(500))(batch).tolist() == x.tolist()


def test_chains_inside_chains_do_not_multiply() -> None:
    """Each one compares its middle twice; 18 of them would be a quarter of a million parts."""
    text = "x"
    for _ in range(18):
        text = f"0<({text})<2"
    assert str(refusal(text)) == LONG


# Formulas that would do something if Python ever ran them.
TOUCH = "__import__('pathlib').Path('sentinel').touch()"
DISGUISES = [
    TOUCH,
    f"  \n {TOUCH}",
    f"1 and {TOUCH}",
    f"0 if True and {TOUCH} else 1",
    f"(lambda: {TOUCH})()",
    f"(lambda z={TOUCH}: z)",
    f"[{TOUCH} for z in (1,)]",
    f"sum({TOUCH} or 1 for z in (1,))",
    f'f"{{{TOUCH}}}"',
    f"(z := {TOUCH})",
    f"{{1: {TOUCH}}}",
    f"obs[{TOUCH} or 0]",
    f"obs[0:{TOUCH} or 1]",
    f"abs(*[{TOUCH} or 1])",
    f"sum(obs, **{{'start': {TOUCH} or 0}})",
    f"sum(obs, start={TOUCH} or 0)",
    f"1 < 2 < ({TOUCH} or 3)",
    f"x + ({TOUCH} or 1)",
    f"-({TOUCH} or 1)",
    f"2 ** ({TOUCH} or 1)",
    f"1 / ({TOUCH} or 1)",
    f"eval({TOUCH!r})",
    f"exec({TOUCH!r})",
    f"eval(compile({TOUCH!r}, '', 'eval'))",
    "open('sentinel', 'w')",
    "ｏｐｅｎ('sentinel', 'w')",
    "abs.__self__.open('sentinel', 'w')",
    "getattr(abs.__self__, 'op' + 'en')('sentinel', 'w')",
    "__builtins__['open']('sentinel', 'w')",
    "().__class__.__base__.__subclasses__() and open('sentinel', 'w')",
    "'{0.__class__}'.format(open('sentinel', 'w'))",
    "x.tofile('sentinel')",
    "(x + 1).tofile('sentinel')",
    "obs.dump('sentinel')",
    "np.ndarray.tofile(obs, 'sentinel')",
]


@pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)
@pytest.mark.parametrize("text", DISGUISES)
def test_nothing_in_a_formula_ever_runs(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    refusal(text)
    with contextlib.suppress(ExpressionError):
        difference_factor(text)
    assert not Path("sentinel").exists()
    scope = {"__builtins__": vars(builtins), "np": np, "x": np.ones(1), "obs": np.ones(1)}
    with contextlib.suppress(Exception):
        eval(text.strip(), scope)  # noqa: S307 (our own text, in a folder of its own)
    assert Path("sentinel").exists()  # so there was something to refuse


def test_what_a_formula_can_reach() -> None:
    assert NAMESPACE["__builtins__"] == {}
    for name, function in NAMESPACE.items():
        if name != "__builtins__":
            module = "numpy.linalg" if name == "norm" else "numpy"
            assert function is getattr(importlib.import_module(module), name)


@pytest.mark.parametrize("text", ["x + 1", "x - last_x", "3"])
def test_a_formula_reaches_nothing_else(text: str) -> None:
    term = expression_term(environment(), "term", text)
    code = inspect.getclosurevars(term.function).nonlocals["code"]
    assert code.__globals__ == NAMESPACE
    assert code.__globals__ is not NAMESPACE
    assert code.__closure__ is None


# Potential-based shaping by hand.


@pytest.mark.parametrize(
    ("text", "factor"),
    [
        ("0.99 * x - last_x", 0.99),
        ("x * 0.99 - last_x", 0.99),
        ("x - last_x", 1.0),
        ("1 * x - last_x", 1.0),
        (" \n 0.9 * hypot(x, y)\n - hypot(last_x, last_y)", 0.9),
        ("hypot(x, y) * 0.5 - hypot(last_x, last_y)", 0.5),
        ("0.99 * obs[0] - last_obs[0]", 0.99),
        ("obs[-1] - last_obs[-1]", 1.0),
        ("0.99 * norm(obs[:2]) - norm(last_obs[:2])", 0.99),
        ("0.99 * (x + y) - (last_x + last_y)", 0.99),
        ("0.99 * -abs(x / pi) - -abs(last_x / pi)", 0.99),
        ("0.99 * (x if y > 0 else 1) - (last_x if last_y > 0 else 1)", 0.99),
        ("0.99 * (3 * x) - 3 * last_x", 0.99),
        ("3 * x - 3 * last_x", 1.0),
        # Other forms.
        ("x", None),
        ("-x", None),
        ("0.99 * x + last_x", None),
        ("last_x - 0.99 * x", None),
        ("last_x - x", None),
        ("x - 0.99 * last_x", None),
        ("(0.99 * x - last_x) * 2", None),
        ("y * x - last_x", None),
        ("0.99 / x - last_x", None),
        # The same moment.
        ("x - x", None),
        ("0.99 * x - x", None),
        ("last_x - last_x", None),
        ("0.99 * obs[0] - obs[0]", None),
        ("1 - 1", None),
        ("0.99 * 1 - 1", None),
        ("0.99 * pi - pi", None),
        ("0.99 * abs(2) - abs(2)", None),
        # Another thing.
        ("0.99 * x - last_y", None),
        ("0.99 * obs[0] - last_obs[1]", None),
        ("0.99 * abs(x) - last_x", None),
        ("0.99 * x * y - last_x", None),
        ("0.99 * (x + y) - (last_x + y)", None),
        ("0.99 * hypot(x, y) - hypot(last_y, last_x)", None),
    ],
)
def test_the_factor_of_a_difference(text: str, factor: float | None) -> None:
    assert difference_factor(text) == factor
    compiled(text)


@pytest.mark.parametrize(
    "text",
    [
        "-" * 495 + "x-y",
        "y-" + "-" * 495 + "x",
        "x" + "[0]" * 160,
        "9" * 400 + " * x - last_x",
    ],
)
def test_a_difference_beyond_all_bounds(text: str) -> None:
    assert difference_factor(text) is None


def test_the_difference_of_no_formula() -> None:
    with pytest.raises(ExpressionError, match="this is no formula"):
        difference_factor("x -")


# Whatever the text, there is one kind of error.

TOKENS = [
    *("x", "y", "speed", "obs", "last_obs", "action", "last_x", "env_reward", "terminated", "pi"),
    *("abs", "sum", "norm", "clip", "min", "hypot", "any", "exp", "obs.__class__", "x.y"),
    *("(", ")", "(", ")", "[", "]", "{", "}", ",", ":", ".", ";", "=", ":=", "#", "\\", "@", "\0"),
    *("+", "-", "*", "/", "//", "%", "**", "<", "<=", "==", "!=", "~", "&", "|", "^", "<<"),
    *("and", "or", "not", "if", "else", "in", "is", "for", "lambda", "await", "yield", "import"),
    *(
        "0",
        "1",
        "2",
        "10",
        "11",
        "0.5",
        "1e308",
        "9" * 60,
        "1j",
        "0x",
        "1_0",
        "True",
        "None",
        "...",
    ),
    *("__import__", "__import__('os')", "eval", "'", '"', "f'{", "}'", "b'", '"""', "é", "−", "ｘ"),
    *(" ", " ", "\n", "\t", "\r", "\f", "\u2003", "\ufeff", "😀", "\ud800"),
]
any_text = st.text(max_size=60) | st.lists(st.sampled_from(TOKENS), max_size=25).map("".join)
spaced = st.lists(st.sampled_from(TOKENS), max_size=20).map(" ".join)


@st.composite
def grown(draw: st.DrawFn, depth: int = 4) -> str:
    """Text that Python can read, with sizes and places as they come."""
    if depth == 0 or draw(st.integers(0, 5)) == 0:
        return draw(st.sampled_from([*NAMES, "obs", "action", "last_x", "terminated", "0", "2.5"]))
    shape = draw(st.sampled_from(SHAPES))
    return shape.format(*(draw(grown(depth - 1)) for _ in range(shape.count("{}"))))


SHAPES = [
    *(
        "({} + {})",
        "({} * {})",
        "({} / {})",
        "({} % {})",
        "({}) ** 2",
        "-{}",
        "not {}",
        "({}) ** {}",
    ),
    *("({} < {})", "({} <= {} < {})", "({} and {})", "({} or {})", "({} if {} else {})"),
    *(
        "sum({})",
        "norm({})",
        "min({}, {})",
        "max({})",
        "any({})",
        "hypot({}, {})",
        "clip({}, {}, {})",
    ),
    *("{}[0]", "{}[-1]", "{}[1:3]", "({})[1]", "exp({})", "log({})", "sqrt({})", "abs({})"),
]


def problem(text: str, action_size: int | None) -> ExpressionError | None:
    """What is wrong with a text; if nothing is, it gives one number a transition."""
    try:
        term = expression_term(environment(action_size), "term", text)
    except ExpressionError as error:
        return error
    for n in (0, 3):
        with np.errstate(all="ignore"):
            values = term(transitions(n, action_size))
        assert values.shape == (n,)
        assert values.dtype == np.float64
    return None


def attempt(text: str, action_size: int | None) -> None:
    error = problem(text, action_size)
    assert error is None or (str(error) and 0 <= error.offset <= len(text))
    with contextlib.suppress(ExpressionError):
        difference_factor(text)


quickly = settings(deadline=1000, max_examples=250)


@quickly
@given(any_text | spaced, st.sampled_from([None, 1, 2]))
def test_any_text_is_a_formula_or_an_error(text: str, action_size: int | None) -> None:
    attempt(text, action_size)


@quickly
@given(grown(), st.sampled_from([None, 1, 2]))
def test_formulas_by_chance(text: str, action_size: int | None) -> None:
    attempt(text, action_size)
