"""Numbers and names as people read them."""

from __future__ import annotations

import math

import pytest

from shaperun.common.text import (
    count_decimals,
    format_column,
    format_exact,
    format_fixed,
    format_number,
    pluralize,
    truncate,
)


@pytest.mark.parametrize(
    ("value", "digits", "sign", "text"),
    [
        (-1234.56, 1, "", "−1,234.6"),
        (-0.04, 1, "", "0.0"),
        (19.4, 0, "+", "+19"),
        (-7.2, 0, "+", "−7"),
    ],
)
def test_fixed_numbers_have_a_true_minus_and_no_negative_zero(
    value: float, digits: int, sign: str, text: str
) -> None:
    assert format_fixed(value, digits, sign=sign) == text


def test_exact_numbers_have_no_trailing_zeros() -> None:
    assert [format_exact(value) for value in (-0.25, 3.0, -0.0)] == ["−0.25", "3", "0"]
    assert format_exact(12_345_678) == "12345678"


def test_large_numbers_have_an_exponent() -> None:
    for value, text in ((99_999_999, "99,999,999"), (-1e300, "−1e+300"), (123_456_789, "1.23e+08")):
        assert (format_number(value), format_fixed(value)) == (text, text)
    assert format_fixed(1e9, 2, sign="+") == "+1e+09"
    assert (format_exact(1e300), format_exact(math.inf)) == ("1e+300", "inf")
    assert format_number(0.00001234) == "1.23e−05"


def test_numbers_of_a_column_have_the_same_decimals() -> None:
    assert format_column([500.0, -22.85, 0.0]) == ["500.0", "−22.9", "0.0"]
    assert format_column([0.5, 0.0123]) == ["0.5000", "0.0123"]
    assert format_column([1000, 72.9]) == ["1,000", "73"]
    assert format_column([0.0, math.nan]) == ["0", "nan"]
    assert format_column([]) == []
    assert format_column([0.0002361, -3e-05], 3) == ["0.000236", "−0.000030"]


def test_truncated_text_has_the_given_length() -> None:
    assert truncate("abcdef", 6) == "abcdef"
    assert truncate("abcdefg", 6) == "abcde…"


def test_only_one_is_singular() -> None:
    assert [pluralize(count, "trial") for count in (0, 1, 2)] == ["0 trials", "1 trial", "2 trials"]


@pytest.mark.parametrize(
    ("values", "decimals"),
    [
        ([335.2, -1.0], 0),
        ([45.0], 0),
        ([6.2, 0.001], 1),
        ([0.28, -0.07], 2),
        ([0.0], 0),
        ([2e-9], 10),
        ([1e-16], 0),
        ([], 0),
    ],
)
def test_decimals_of_the_largest(values: list[float], decimals: int) -> None:
    assert count_decimals(values, 2) == decimals
