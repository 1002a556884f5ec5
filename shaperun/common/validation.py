"""Strict pydantic models and shared field types."""

from __future__ import annotations

from collections.abc import Collection
from numbers import Real
from typing import Annotated, Any, ClassVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    FiniteFloat,
    SerializerFunctionWrapHandler,
    StringConstraints,
    ValidationInfo,
    model_serializer,
)
from pydantic_core import PydanticCustomError

from shaperun.common.text import truncate

STRICT = ConfigDict(extra="forbid", strict=True, frozen=True, serialize_by_alias=True)


def to_integer(value: object) -> object:
    """Return floats such as 1e6 as integers, and any other value unchanged."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def is_number(value: object) -> bool:
    """Return whether a value is a real number; True and False are not."""
    return isinstance(value, Real) and not isinstance(value, bool)


Integer = Annotated[int, BeforeValidator(to_integer)]
"""An integer, which may be written as 1e6."""

Bounded = Annotated[FiniteFloat, Field(ge=-1e12, le=1e12)]
"""A number that can be multiplied by others of its kind and stay within the range of a float."""

Seed = Annotated[Integer, Field(ge=0, lt=2**32)]

# A leading hyphen would be an option on a command line and a formula in a spreadsheet.
NAME = r"^[A-Za-z0-9_][A-Za-z0-9_-]{0,63}$"
Name = Annotated[str, StringConstraints(pattern=NAME)]


class Model(BaseModel):
    """Strict and frozen base model: no unknown keys, type coercion or later changes."""

    model_config = STRICT

    added_later: ClassVar[frozenset[str]] = frozenset()
    """Fields left out while at their default, so that earlier runs keep their identity."""

    @model_serializer(mode="wrap")
    def serialize_compatibly(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out fields that were added later while they are at their defaults."""
        data: dict[str, Any] = handler(self)
        fields = type(self).model_fields
        unused = {n for n in self.added_later if getattr(self, n) == fields[n].default}
        return {key: value for key, value in data.items() if key not in unused}


def unknown_name_error(
    kind: str,
    name: str,
    known: Collection[str],
    shown: str | None = None,
    path: tuple[str, ...] = (),
) -> PydanticCustomError:
    """Return the validation error for an unknown name of a kind, such as "arm".

    The message lists the known names, or says `shown`; `path` leads to the name.
    """
    short = truncate(name)
    return PydanticCustomError(
        "unknown",
        "unknown {kind} {short}",
        {
            "kind": kind,
            "name": name,
            "short": short,
            "known": [*known],
            "shown": shown,
            "path": path,
        },
    )


def located_error(problem: str, *path: str | int) -> PydanticCustomError:
    """Return the validation error for a part of the value: the keys that lead to it."""
    return PydanticCustomError("part", "{problem}", {"problem": problem, "path": path})


def validation_context(info: ValidationInfo, key: str) -> Any:
    """Return an entry of the context that `parse_study` passes along; None without a context."""
    return (info.context or {}).get(key)
