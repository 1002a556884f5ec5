"""Serialization of models that have gained fields."""

from __future__ import annotations

from pydantic import Field

from shaperun.common.validation import Model


class Earlier(Model):
    size: int = 1


class Later(Earlier):
    added_later = frozenset({"names", "start"})

    names: list[str] = Field([], validate_default=True)
    start: str | None = None


class Holder(Model):
    part: Earlier | None = None


def test_fields_added_later_are_written_unless_at_their_default() -> None:
    earlier = {"size": 1}
    assert Earlier().model_dump() == Later().model_dump() == Later(names=[]).model_dump() == earlier
    changed = Later(names=["a"], start="")
    assert changed.model_dump() == {**earlier, "names": ["a"], "start": ""}
    assert Later.model_validate_json(changed.model_dump_json()) == changed
    assert Later.model_validate_json(Later().model_dump_json()) == Later()


def test_a_model_within_another_is_written_alike() -> None:
    assert Holder(part=Earlier(size=2)).model_dump(mode="json") == {"part": {"size": 2}}
    assert Holder().model_dump(mode="json") == {"part": None}  # only what is named is left out
