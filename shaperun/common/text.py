"""Format numbers and names for people."""

from __future__ import annotations

import json
import re
import unicodedata

_UNUSUAL = re.compile(r"[^\n -~]")
_CONTROL_CATEGORIES = ("Cc", "Cf", "Co", "Cs")


def format_number(value: float) -> str:
    """Return a number with three significant digits, or all digits before the decimal point."""
    value = 0.0 if abs(value) < 1e-12 else value  # rounding residue of a sum
    text = f"{value:,.0f}" if abs(value) >= 100 else f"{value + 0.0:.3g}"
    return text.replace("-", "−")


def format_fixed(value: float, digits: int = 0, *, sign: str = "") -> str:
    """Return a number with so many decimals; with `sign="+"`, positive ones have a sign, too."""
    rounded = round(value, digits) + 0.0  # avoids −0
    return f"{rounded:{sign},.{digits}f}".replace("-", "−")


def format_exact(value: float) -> str:
    """Return a number with up to six significant digits, and without trailing zeros."""
    return f"{value + 0.0:g}".replace("-", "−")


def humanize(name: str) -> str:
    """Return a name with its underscores replaced by spaces."""
    return name.replace("_", " ")


def escape_control_chars(text: str) -> str:
    r"""Escape characters that control a terminal, reorder text or are invisible.

    The escapes are those of JSON (`\u001b`), so that an escaped JSON document keeps its value.
    """
    return _UNUSUAL.sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    character = match[0]
    is_control = unicodedata.category(character) in _CONTROL_CATEGORIES
    return json.dumps(character)[1:-1] if is_control else character


def pluralize(count: int, noun: str) -> str:
    """Return a count with its noun."""
    return f"{count} {noun}{'s' * (count != 1)}"


def truncate(text: str, max_length: int = 70) -> str:
    """Shorten a text to at most so many characters."""
    return text if len(text) <= max_length else f"{text[: max_length - 1]}…"
