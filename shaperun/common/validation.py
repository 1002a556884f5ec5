"""Strict pydantic models and the types that several of them share."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationInfo,
)
from pydantic_core import PydanticCustomError

STRICT = ConfigDict(extra="forbid", strict=True, frozen=True, serialize_by_alias=True)


def to_integer(value: object) -> object:
    """1e6 and 1.0 as the integers that they are; anything else as it is."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Integer = Annotated[int, BeforeValidator(to_integer)]
"""An integer; 1e6 is one too."""


Seed = Annotated[Integer, Field(ge=0, lt=2**32)]


# A leading hyphen would read as an option on a command line and as a formula in a spreadsheet.
NAME = r"^[A-Za-z0-9_][A-Za-z0-9_-]{0,63}$"

Name = Annotated[str, StringConstraints(pattern=NAME)]


class Model(BaseModel):
    """Strict and frozen: no unknown keys, no silent conversions, no changes after validation."""

    model_config = STRICT


def unknown_name_error(
    kind: str, name: str, known: Collection[str], shown: str | None = None
) -> PydanticCustomError:
    """The error that something of this kind is not there.

    Args:
        kind: what it would be.
        name: how it was called.
        known: what there is.
        shown: what there is in words, where that is too much to list.
    """
    short = name if len(name) <= 70 else f"{name[:67]}…"
    return PydanticCustomError(
        "unknown",
        "there is no {kind} named {short}",
        {"kind": kind, "name": name, "short": short, "known": [*known], "shown": shown},
    )


def validation_context(info: ValidationInfo, key: str) -> Any:
    """What `parse_study` knows beside the data; None outside of it."""
    return (info.context or {}).get(key)
