"""Numbers that environments report beside a step, in its `info`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from shaperun.common.errors import ContractError
from shaperun.common.text import truncate

Info = Mapping[str, Any]
"""Recorded info of a step: numbers and booleans by key, nested as the environment nests them."""


class InfoError(LookupError):
    """An entry of `info` that a term reads is missing or not a number."""


class NotANumber(NamedTuple):
    """Type and shape of an entry of `info` that is recorded without its value, as an array is."""

    type: type
    shape: tuple[int, ...] | None


def record_info(info: Mapping[str, Any]) -> dict[str, Any]:
    """Copy the numbers of a step's info, which the environment may reuse for the next one.

    Raises:
        ContractError: it is no mapping, or contains itself.
    """
    try:
        return {key: _record(value) for key, value in info.items()}
    except RecursionError:
        raise ContractError("the info of a step contains itself; correct the environment") from None
    except AttributeError:
        if isinstance(info, Mapping):
            raise
        raise ContractError(
            f"step returned {truncate(repr(info))} as info, not a dictionary; correct the "
            "environment"
        ) from None


def _record(value: Any) -> Any:
    if isinstance(value, (float, int)):  # booleans are integers
        return value
    if isinstance(value, Mapping):
        return {key: _record(entry) for key, entry in value.items()}
    if (
        isinstance(value, np.ndarray | np.generic)
        and value.size == 1
        and value.dtype.kind in "biuf"
    ):
        return value.item()
    return NotANumber(type(value), value.shape if isinstance(value, np.ndarray) else None)


def record_vector_info(info: Mapping[str, Any], n_envs: int) -> npt.NDArray[np.object_]:
    """Return the infos (N,) of environments from the info of a vector environment.

    In gymnasium's format, `info["_key"]` is the mask (N,) of the environments that have `key`, and
    the info of an episode that ended in a step which began the next one is in `final_info`.
    """
    rows: list[dict[str, Any]] = [{} for _ in range(n_envs)]
    for key, values in info.items():
        if key == "final_info" or (key.startswith("_") and key[1:] in info):
            continue
        if isinstance(values, Mapping):
            values = record_vector_info(values, n_envs)
        for index in np.flatnonzero(info.get(f"_{key}", np.ones(n_envs))):
            rows[index][key] = _record(values[index])
    if "final_info" in info:  # the others are of the reset there
        final = record_vector_info(info["final_info"], n_envs)
        for index in np.flatnonzero(info["_final_info"]):
            rows[index] = final[index]
    return np.array(rows, dtype=object)


def read_info(info: Info, keys: Sequence[str], default: float | None = None) -> float:
    """Return an entry of a recorded info; the default, if there is one, for a missing last key.

    Raises:
        InfoError: the entry is missing and has no default, or is not a number.
    """
    value: Any = info
    for depth, key in enumerate(keys):
        if not isinstance(value, Mapping):
            raise InfoError(f"{format_path(keys[:depth])} is {_describe(value)}, not a mapping")
        if key not in value:
            if default is not None:
                return default
            raise InfoError(_explain_missing(value, keys[: depth + 1]))
        value = value[key]
    if not isinstance(value, float | int):
        raise InfoError(f"{format_path(keys)} is {_describe(value)}, not a number")
    try:
        return float(value)
    except OverflowError:
        raise InfoError(f"{format_path(keys)} is an integer beyond the largest number") from None


def format_path(keys: Sequence[str]) -> str:
    """Return the text that a formula reads an entry with."""
    return "info" + "".join(f'["{key}"]' for key in keys)


def _describe(value: Any) -> str:
    if isinstance(value, NotANumber):
        shape = "" if value.shape is None else f" of shape {value.shape}"
        return f"a value of type {value.type.__name__}{shape}"
    if isinstance(value, Mapping):
        return "a mapping"
    return f"a {'boolean' if isinstance(value, bool) else 'number'} ({value})"


def _explain_missing(value: Mapping[str, Any], keys: Sequence[str]) -> str:
    known = truncate(", ".join(map(str, value)), 200) or "nothing"
    *path, key = keys
    return (
        f'{format_path(path)} has no "{key}" at this step (it has {known}); if only some steps '
        f'have it, give a default, {format_path(path)}.get("{key}", 0)'
    )
