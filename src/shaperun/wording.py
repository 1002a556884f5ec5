"""How figures and names are written for people."""

from __future__ import annotations


def number(value: float) -> str:
    """A value with three digits that count, or all that are before the point."""
    value = 0.0 if abs(value) < 1e-12 else value  # what rounding leaves of a sum
    text = f"{value:,.0f}" if abs(value) >= 100 else f"{value + 0.0:.3g}"
    return text.replace("-", "−")


def words(name: str) -> str:
    """A name with its underscores as spaces."""
    return name.replace("_", " ")
