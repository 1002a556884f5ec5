"""Format numbers and names for people."""

from __future__ import annotations

import json
import math
import re
import shlex
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

LARGE = 1e8  # from here on numbers are written with an exponent
_UNUSUAL = re.compile(r"[^\n -~]")
_CONTROL_CATEGORIES = ("Cc", "Cf", "Co", "Cs")


def format_number(value: float) -> str:
    """Return a number with three significant digits, or all digits before the decimal point."""
    value = 0.0 if abs(value) < 1e-12 else value  # rounding residue of a sum
    plain = 100 <= abs(value) < LARGE
    return (f"{value:,.0f}" if plain else f"{value + 0.0:.3g}").replace("-", "−")


def format_fixed(value: float, digits: int = 0, *, sign: str = "") -> str:
    """Return a number with so many decimals; with `sign="+"`, positive ones have a sign, too."""
    rounded = round(value, digits) + 0.0  # avoids −0
    spec = f",.{digits}f" if abs(rounded) < LARGE else ".3g"
    return f"{rounded:{sign}{spec}}".replace("-", "−")


def format_exact(value: float) -> str:
    """Return an integer with all digits, or up to six significant digits of another number."""
    plain = abs(value) < LARGE and value == int(value)
    return f"{value + 0.0:{'.0f' if plain else 'g'}}".replace("-", "−")


def count_decimals(values: Iterable[float], significant: int) -> int:
    """Return the decimals that show so many digits of the largest of some numbers, at most 12."""
    sizes = (abs(value) for value in values)
    # Smaller numbers are rounding residues of sums, as in `format_number`.
    largest = max((size for size in sizes if 1e-12 <= size < math.inf), default=1000.0)
    return min(12, max(0, significant - 1 - math.floor(math.log10(largest))))


def format_column(values: Sequence[float], significant: int = 4) -> list[str]:
    """Return numbers with the same decimals, which show so many digits of the largest."""
    digits = count_decimals(values, significant)
    return [format_fixed(value, digits) for value in values]


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


def format_command(verb: str, path: str | Path, *options: str) -> str:
    """Return a command on a file or a study, quoted for a shell."""
    path = f"./{path}" if str(path).startswith("-") else str(path)  # or it would be an option
    return shlex.join(["shaperun", verb, path, *options])


def format_options(options: Mapping[str, Any]) -> str:
    """Return options as `name=value`, with values of at most 60 characters."""
    texts = {
        name: value if isinstance(value, str) else json.dumps(value)
        for name, value in options.items()
    }
    return ", ".join(f"{name}={truncate(text, 60)}" for name, text in texts.items())


def pluralize(count: int, noun: str) -> str:
    """Return a count with its noun."""
    return f"{count:,} {noun}{'s' * (count != 1)}"


def truncate(text: str, max_length: int = 70) -> str:
    """Shorten a text to at most so many characters."""
    return text if len(text) <= max_length else f"{text[: max_length - 1]}…"
