"""Potential-based shaping that is written out as a formula is recognized."""

import pytest

from shaperun.rewards.differences import Difference, find_difference
from shaperun.rewards.formula import ExpressionError


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
        # Any order, scale and number of parts.
        ("last_x - x", 1.0),
        ("last_x - 0.99 * x", 0.99),
        ("-last_x + x", 1.0),
        ("(0.99 * x - last_x) * 2", 0.99),
        ("10 * (x - last_x)", 1.0),
        ("(0.9 * x - last_x) / 0.02", 0.9),
        ("-(last_x - x)", 1.0),
        ("0.99 * x * y - last_x * last_y", 0.99),
        ("0.99 * x + 0.99 * 2 * y - last_x - 2 * last_y", 0.99),
        ("x - 0.5 * last_x", 2.0),
        ("x - last_x + 1 - 1 + 0 * y", 1.0),
    ],
)
def test_difference(text: str, factor: float) -> None:
    found = find_difference(text)
    assert found
    assert found.factor == pytest.approx(factor, rel=1e-12)
    assert not found.positive_part


def test_parameters_are_constants() -> None:
    text = "scale * (g * x - last_x)"
    assert find_difference(text, {"scale": 2.0, "g": 0.9}) == Difference(0.9, positive_part=False)


@pytest.mark.parametrize(
    "text",
    [
        "max(0, x - last_x)",
        "max(x - last_x, 0)",
        "5 * max(0, x - last_x)",
        "max(0.0, 3 * (x - last_x))",
        "clip(x - last_x, 0, 1)",
    ],
)
def test_positive_part_of_a_difference(text: str) -> None:
    assert find_difference(text) == Difference(1.0, positive_part=True)


@pytest.mark.parametrize(
    "text",
    [
        "x",
        "-x",
        "0.99 * x + last_x",
        "y * x - last_x",
        "0.99 / x - last_x",
        "x / 0 - last_x",
        "x - last_x + y",
        "x - last_x + 1",
        "x - 2 * last_x + 0.4 * y - last_y",
        "max(0, x)",
        "max(1, x - last_x)",
        "-max(0, x - last_x)",
        "action - last_action",
        "x * action - last_x * last_action",
        # Both at the same step.
        "x - x",
        "0.99 * x - x",
        "last_x - last_x",
        "0.99 * obs[0] - obs[0]",
        "1 - 1",
        "0.99 * 1 - 1",
        "0.99 * pi - pi",
        "0.99 * abs(2) - abs(2)",
        # Different expressions.
        "0.99 * x - last_y",
        "0.99 * obs[0] - last_obs[1]",
        "0.99 * abs(x) - last_x",
        "0.99 * x * y - last_x",
        "0.99 * (x + y) - (last_x + y)",
        "0.99 * hypot(x, y) - hypot(last_y, last_x)",
        # No valid formulas.
        "-" * 495 + "x-y",
        "x" + "[0]" * 160,
        "9" * 400 + " * x - last_x",
    ],
)
def test_other_forms(text: str) -> None:
    assert find_difference(text) is None


def test_invalid_formula() -> None:
    with pytest.raises(ExpressionError, match="invalid formula"):
        find_difference("x -")
