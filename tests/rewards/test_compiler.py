"""Invalid formulas: their errors, and the characters that these point to."""

from __future__ import annotations

import difflib

import pytest

from shaperun.rewards.syntax import FUNCTIONS
from tests.helpers.formulas import error_of, make_term, transitions

# Errors; ▸ precedes the character that the error points to.
FORBIDDEN = "is not allowed in a formula"
LONG = "the formula is too long; split it into two terms"
INDEX = "the index must be an integer from 0 to 3"
EXPONENT = "an exponent must be a number from −10 to 10"
REFUSED = [
    # Python syntax that is not allowed.
    ("1 + ▸x.real", f"an attribute (.) {FORBIDDEN}"),
    ("▸obs.__class__", f"an attribute (.) {FORBIDDEN}"),
    ("▸x.__class__.__mro__[1]", f"an attribute (.) {FORBIDDEN}"),
    ("▸obs.sum()", f"an attribute (.) {FORBIDDEN}"),
    ("▸(lambda: x)()", f"a lambda {FORBIDDEN}"),
    ("▸lambda: x", f"a lambda {FORBIDDEN}"),
    ("x + ▸[x]", f"a list {FORBIDDEN}"),
    ("▸{x}", f"a set {FORBIDDEN}"),
    ("▸{1: x}[1]", f"a dict {FORBIDDEN}"),
    ("▸x, y", f"a tuple {FORBIDDEN}"),
    ("sum(▸[x for x in obs])", f"a list comp {FORBIDDEN}"),
    ("sum▸(x for x in obs)", f"a generator exp {FORBIDDEN}"),
    ("1 + ▸f'{x}'", f"a joined str {FORBIDDEN}"),
    ("▸'x'", f"str 'x' {FORBIDDEN}"),
    ("x + ▸b'x'", f"bytes b'x' {FORBIDDEN}"),
    ("x + ▸1j", f"complex 1j {FORBIDDEN}"),
    ("▸None", f"NoneType None {FORBIDDEN}"),
    ("x + ▸...", f"ellipsis Ellipsis {FORBIDDEN}"),
    ("(▸z := x)", f"a named expr {FORBIDDEN}"),
    ("1 + (▸await x)", f"a await {FORBIDDEN}"),
    ("(▸yield)", f"a yield {FORBIDDEN}"),
    ("(▸yield from obs)", f"a yield from {FORBIDDEN}"),
    ("sum(▸*obs)", f"a starred {FORBIDDEN}"),
    ("x + ▸x @ y", f"the operator MatMult {FORBIDDEN}"),
    ("▸x << 2", f"the operator LShift {FORBIDDEN}"),
    ("▸x & y", f"the operator BitAnd {FORBIDDEN}"),
    ("x + ▸~y", f"the operator Invert {FORBIDDEN}"),
    ("1 + (▸x is y)", f"the operator Is {FORBIDDEN}"),
    ("x in ▸obs", "write the values after in as (0, 2)"),
    ("x not in ▸()", "write the values after in as (0, 2)"),
    ("▸x in (1, 2) in (3, 4)", f"the operator In {FORBIDDEN}"),
    ("x ▸# the place\n+ y", f"a comment (#) {FORBIDDEN}"),
    # Names and calls.
    ("x + ▸nothing", "unknown name nothing"),
    ("▸__builtins__", "unknown name __builtins__"),
    ("▸__import__", "unknown name __import__"),
    ("▸next_obs[0]", "unknown name next_obs"),
    ("▸last_env_reward", "unknown name last_env_reward"),
    ("▸last_last_x", "unknown name last_last_x"),
    ("▸last_pi", "unknown name last_pi"),
    ("x + ▸π", "unknown name π"),
    ("1 + ▸abs", "abs is a function; write abs(…)"),
    ("1 + ▸__import__('os')", "unknown function __import__"),
    ("▸eval('x')", "unknown function eval"),
    ("▸x(1)", "unknown function x"),
    ("▸where(x, 1, 2)", "unknown function where"),
    ("▸power(x, 99)", "unknown function power"),
    ("1 + ▸sum()", "sum takes positional arguments, at least one"),
    ("▸sum(obs, axis=1)", "sum takes positional arguments, at least one"),
    ("▸sum(**obs)", "sum takes positional arguments, at least one"),
    ("1 + ▸hypot(x)", "hypot takes 2 arguments, not 1"),
    ("▸abs(x, y)", "abs takes 1 argument, not 2"),
    ("▸sum(x, y)", "sum takes 1 argument, not 2"),
    ("▸clip(x, 1)", "clip takes 3 arguments, not 2"),
    # Numbers that are not finite, or out of range.
    ("1 + ▸1e999", "this evaluates to inf, which is not finite"),
    ("▸" + "9" * 400, "this evaluates to inf, which is not finite"),
    ("x + ▸exp(1000)", "this evaluates to inf"),
    ("▸1e308 * 10", "this evaluates to inf"),
    ("1 + ▸sqrt(-1)", "this evaluates to nan"),
    ("▸0 ** -1", "this evaluates to inf"),
    ("▸log(0)", "this evaluates to -inf"),
    ("x / ▸0", "division by zero"),
    ("x // (▸1 - 1)", "division by zero"),
    ("1 / ▸-0.0", "division by zero"),
    ("x % ▸False", "division by zero"),
    ("x ** ▸11", EXPONENT),
    ("x ** ▸-10.5", EXPONENT),
    ("2 ** ▸x", EXPONENT),
    ("x ** ▸y", EXPONENT),
    ("9 ** ▸9 ** 9", EXPONENT),
    ("x ** ▸terminated", EXPONENT),
    ("10 ** ▸10 ** 10", EXPONENT),
    # Sizes and indices.
    ("▸obs", "this has 4 values, and a term must be a single number; index it, [0], or"),
    ("▸obs[1:3] * 2", "this has 2 values, and a term"),
    ("▸1 if obs > 0 else 2", "this has 4 values, and a term"),
    ("sum(▸obs + obs[1:])", "sizes do not match: 4 and 3 values"),
    ("▸obs[:2] < obs", "sizes do not match: 2 and 4 values"),
    ("▸obs[0:1] + obs", "sizes do not match: 1 and 4 values"),
    ("sum(▸obs[:2] and obs)", "sizes do not match"),
    ("max(▸hypot(obs, obs[:3]))", "sizes do not match"),
    ("1 + ▸x[0]", "this is a single number and cannot be indexed with [ ]"),
    ("▸sum(obs)[0]", "this is a single number"),
    ("▸obs[0][0]", "this is a single number"),
    ("▸pi[0]", "this is a single number"),
    ("obs[▸4]", INDEX),
    ("obs[-▸5]", INDEX),
    ("obs[▸99999999999999999999]", INDEX),
    ("obs[▸1.0]", INDEX),
    ("obs[▸True]", INDEX),
    ("obs[▸x]", INDEX),
    ("obs[▸'x']", INDEX),
    ("▸obs[0, 1]", "2 indices for 4 values are too many"),
    ("obs[▸1 + 1]", INDEX),
    ("obs[▸...]", INDEX),
    ("obs[▸None]", INDEX),
    ("obs[-▸-1]", INDEX),
    ("obs[▸5:]", "the bounds and the step of a slice must be integers from −4 to 4"),
    ("obs[:▸x]", "the bounds and the step of a slice must be integers from −4 to 4"),
    ("obs[:▸99]", "the bounds and the step of a slice must be integers from −4 to 4"),
    ("obs[-1:▸-5:-1]", "the bounds and the step of a slice must be integers from −4 to 4"),
    ('info["arr"][▸1]', "arrays in info cannot be read by position"),
    ('info["arr"][▸0:2]', "arrays in info cannot be read by position"),
    ("▸info.x_velocity", 'not allowed in a formula; write info["x_velocity"]'),
    ('▸info["a"].b', 'not allowed in a formula; write info["a"]["b"]'),
    ("▸np.minimum(1, 2)", "not allowed in a formula; write min(…)"),
    ("▸np.absolute(x)", "not allowed in a formula; write abs(…)"),
    ("▸numpy.sum(obs)", "not allowed in a formula; write sum(…)"),
    ("obs[1:3][▸2]", "the index must be an integer from 0 to 1"),
    ("▸obs[::2]", "this has 2 values, and a term"),
    ("sum(▸obs[::0])", "the step of a slice must not be 0"),
    ("obs[::▸1.5]", "the bounds and the step of a slice must be integers from −4 to 4"),
    ("sum(▸obs[2:2])", "this slice is empty"),
    ("sum(▸obs[3:1])", "this slice is empty"),
    ("sum(▸obs[4:])", "this slice is empty"),
    # Syntax errors.
    ("▸", "invalid formula"),
    ("   ▸", "invalid formula"),
    (" \n\t\n▸", "invalid formula"),
    ("x ▸= 1", "invalid formula"),
    ("x ▸= 1\ny", "invalid formula"),
    ("x▸; y", "invalid formula"),
    ("x ▸y", "invalid formula"),
    ("▸import os", "invalid formula"),
    ("x\n▸y", "invalid formula"),
    ("x ▸− y", "invalid formula: invalid character '−' (U+2212)"),
    ("hypot▸(x, y", "invalid formula: '(' was never closed"),
    ("x +▸ ", "invalid formula"),
    ("x + y -▸", "invalid formula"),
    (" é *▸\n\n", "invalid formula"),
    ("x if y else▸", "invalid formula"),
    ("▸x + \0", "invalid formula"),
    ("▸x + \ud800", "invalid formula"),
    # Limits.
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
    # Offsets count characters, not bytes, from the start of the text.
    *[
        (before + marked, message)
        for before in ("", " ", "\n\n", "\t \n ", " \r\n ", "\u2003")
        for marked, message in [
            ("x + ▸é", "unknown name é"),
            ("é if ▸nothing else 1", "unknown name nothing"),
            ("'日本' if ▸nothing else 1", "unknown name nothing"),
            ("'😀' if x\n > ▸nothing else 1", "unknown name nothing"),
            ("é ▸− y", "invalid formula"),
            ("'😀' ▸? y", "invalid formula"),
            ("x +\n ▸nothing", "unknown name nothing"),
            ("(x +\r ▸nothing)", "unknown name nothing"),
            ("(x +\r\n ▸nothing)", "unknown name nothing"),
            ("(x +\r ▸? 1)", "invalid formula"),
        ]
    ],
]


@pytest.mark.parametrize(("marked", "message"), REFUSED)
def test_invalid_formula_and_its_offset(marked: str, message: str) -> None:
    before, after = marked.split("▸")
    error = error_of(before + after)
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
def test_unknown_name_lists_known_names(text: str, name: str, nearest: str) -> None:
    error = error_of(text)
    assert error.name == name
    assert name not in error.known
    assert difflib.get_close_matches(name.lower(), error.known, n=1, cutoff=0.5) == [nearest]


def test_known_names_and_functions_are_separate() -> None:
    assert {"x", "last_push", "obs", "action", "truncated", "pi"} <= set(error_of("z").known)
    assert not FUNCTIONS & set(error_of("z").known)
    assert set(error_of("z(x)").known) == FUNCTIONS
    assert not error_of("x.y").known


def test_action_sizes() -> None:
    assert "this is a single number" in str(error_of("action[0]", None))
    assert "an integer from 0 to 0" in str(error_of("action[1]", 1))
    assert "an integer from 0 to 1" in str(error_of("action[2]", 2))
    assert "this has 2 values" in str(error_of("action * last_action", 2))
    assert "2 and 4" in str(error_of("sum(action + obs)", 2))


def test_formulas_within_the_limits() -> None:
    batch = transitions()
    x = batch.next_obs[:, 0]
    assert make_term("x" + "+x" * 25)(batch).tolist() == (26 * x).tolist()
    assert make_term("(" * 150 + "x" + ")" * 150)(batch).tolist() == x.tolist()
    assert make_term("-" * 28 + "x")(batch).tolist() == x.tolist()
    assert make_term("max(" + "x, " * 150 + "x)")(batch).tolist() == x.tolist()
    assert make_term("x".rjust(500))(batch).tolist() == x.tolist()


def test_nested_comparisons_are_limited() -> None:
    """Each comparison doubles its operand; 18 of them would have a quarter of a million nodes."""
    text = "x"
    for _ in range(18):
        text = f"0<({text})<2"
    assert str(error_of(text)) == LONG


def test_membership_counts_its_left_side_once_per_value() -> None:
    text = "x"
    for _ in range(14):
        text = f"({text} in (0, 1, 2))"
    assert str(error_of(text)) == LONG
