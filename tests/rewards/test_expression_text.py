"""Any text is a formula or an ExpressionError."""

from __future__ import annotations

import contextlib

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from shaperun.rewards.differences import find_difference
from shaperun.rewards.expression import expression_term
from shaperun.rewards.formula import ExpressionError
from tests.helpers.formulas import NAMES, environment, transitions

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
def formulas(draw: st.DrawFn, depth: int = 4) -> str:
    """Draw text with valid syntax and arbitrary sizes and indices."""
    if depth == 0 or draw(st.integers(0, 5)) == 0:
        return draw(st.sampled_from([*NAMES, "obs", "action", "last_x", "terminated", "0", "2.5"]))
    shape = draw(st.sampled_from(SHAPES))
    return shape.format(*(draw(formulas(depth - 1)) for _ in range(shape.count("{}"))))


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


def find_error(text: str, action_size: int | None) -> ExpressionError | None:
    """Return the error of a text; if it is None, check that the term has one value per row."""
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


def check_text(text: str, action_size: int | None) -> None:
    error = find_error(text, action_size)
    assert error is None or (str(error) and 0 <= error.offset <= len(text))
    with contextlib.suppress(ExpressionError):
        find_difference(text)


fuzzing = settings(deadline=1000, max_examples=250)


@fuzzing
@given(any_text | spaced, st.sampled_from([None, 1, 2]))
def test_any_text_is_a_formula_or_an_error(text: str, action_size: int | None) -> None:
    check_text(text, action_size)


@fuzzing
@given(formulas(), st.sampled_from([None, 1, 2]))
def test_random_formulas(text: str, action_size: int | None) -> None:
    check_text(text, action_size)
