"""How figures and names are written for people."""

from __future__ import annotations

import json
import re
import unicodedata

_UNUSUAL = re.compile(r"[^\n -~]")
_HIDDEN = ("Cc", "Cf", "Co", "Cs")


def format_number(value: float) -> str:
    """A value with three digits that count, or all that are before the point."""
    value = 0.0 if abs(value) < 1e-12 else value  # what rounding leaves of a sum
    text = f"{value:,.0f}" if abs(value) >= 100 else f"{value + 0.0:.3g}"
    return text.replace("-", "−")


def humanize(name: str) -> str:
    """A name with its underscores as spaces."""
    return name.replace("_", " ")


def escape_control_chars(text: str) -> str:
    """A text whose marks that steer a terminal, turn text around or hide are written out.

    They are written as in JSON, so that a JSON document stays the one it was.
    """
    return _UNUSUAL.sub(_escaped, text)


def _escaped(mark: re.Match[str]) -> str:
    character = mark[0]
    return json.dumps(character)[1:-1] if unicodedata.category(character) in _HIDDEN else character
