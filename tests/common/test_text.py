"""Numbers and names as people read them."""

from __future__ import annotations

import pytest

from shaperun.common.text import format_exact, format_fixed, pluralize, truncate


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


def test_truncated_text_has_the_given_length() -> None:
    assert truncate("abcdef", 6) == "abcdef"
    assert truncate("abcdefg", 6) == "abcde…"


def test_only_one_is_singular() -> None:
    assert [pluralize(count, "trial") for count in (0, 1, 2)] == ["0 trials", "1 trial", "2 trials"]
