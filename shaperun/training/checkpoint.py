"""Checkpoints: everything that a run needs to resume, in two generations, each with a checksum.

A state is a tree of dictionaries and lists of numbers, text and numpy arrays. It is stored as an
npz archive without pickles: the arrays, and one more with the rest as JSON.

A checksum proves that a file is complete, not who wrote it. So reading takes no more memory than
the file's size, and everything but the states of learner and environments is validated here.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from shaperun.common.files import open_regular, parse_json, read_regular, write_atomically

StateDict = dict[str, Any]

TABLES = ("episodes", "evaluations", "updates")
_MAX_BYTES = 200_000_000  # the largest networks take 120 MB, with the state of their optimizers
_MAX_ARRAYS = 50_000  # 1,024 environments take a tenth
_MAX_COUNT = 1e15  # of steps or bytes
_MEMBER = b"PK\x01\x02"  # in the table of contents of a zip archive, once per member
_TREE = "tree"
_ARRAY = "array:"  # prefix of text that refers to an array
_DIGEST = hashlib.sha256().digest_size


class CorruptCheckpointError(RuntimeError):
    """A run could not resume from its checkpoint; the message says why."""


def dump(state: StateDict) -> bytes:
    """Return a state as bytes, its SHA-256 first."""
    arrays: dict[str, Any] = {}
    tree = json.dumps(_extract_arrays(state, arrays)).encode()
    file = io.BytesIO()
    arrays[_TREE] = np.frombuffer(tree, np.uint8)
    np.savez(file, **arrays)
    return hashlib.sha256(file.getvalue()).digest() + file.getvalue()


def load(data: bytes) -> StateDict | None:
    """Return the state that was dumped; None if the bytes are damaged."""
    if hashlib.sha256(memoryview(data)[_DIGEST:]).digest() != data[:_DIGEST]:
        return None
    try:
        arrays = _read_arrays(data)
        state = _insert_arrays(parse_json(arrays[_TREE].tobytes()), arrays)
    except Exception:  # malicious bytes may raise anything
        return None
    return state if isinstance(state, dict) else None


def _read_arrays(data: bytes) -> dict[str, Any]:
    """Read every array of an archive once, so that many references to one cost nothing."""
    if data.count(_MEMBER) > _MAX_ARRAYS:
        raise ValueError("it has too many members")
    file = io.BytesIO(data)  # no copy; what precedes a zip archive is skipped
    with zipfile.ZipFile(file) as members:
        infos = members.infolist()
        compressed = any(info.compress_type != zipfile.ZIP_STORED for info in infos)
        if compressed or sum(info.file_size for info in infos) > len(data):
            raise ValueError("it would expand beyond its size")
    file.seek(_DIGEST)
    with np.load(file, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def _is_complete(state: StateDict) -> bool:
    """Return whether all parts are present and all counts are valid."""
    parts = ("made_by", "tables", "recording", "learner", "environments")
    if not all(isinstance(state.get(part), dict) for part in parts):
        return False
    tables, recording = state["tables"], state["recording"]
    steps = [recording.get(name) for name in ("next_evaluation", "next_update")]
    counts = [state.get("timesteps"), *steps, *tables.values()]
    return tables.keys() == set(TABLES) and all(map(_is_count, counts))


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value <= _MAX_COUNT


def save(state: StateDict, generations: tuple[Path, Path]) -> None:
    """Write a state over the older of two generations: fewer `timesteps`, or damaged.

    Raises:
        OSError: it cannot be written; both generations are unchanged.
    """
    older = min(generations, key=lambda path: _timesteps(_read(path)))
    write_atomically(older, dump(state))


def load_latest(generations: tuple[Path, Path]) -> StateDict | None:
    """Return the newest intact generation, if any."""
    return next(iter(load_all(generations)), None)


def load_all(generations: tuple[Path, Path]) -> list[StateDict]:
    """Return the intact generations, the newest first."""
    states = [state for path in generations if (state := _read(path))]
    return sorted(states, key=_timesteps, reverse=True)


def _read(path: Path) -> StateDict | None:
    try:
        state = load(read_regular(path, _MAX_BYTES)) if _is_intact(path) else None
    except OSError:
        return None
    return state if state and _is_complete(state) else None


def _is_intact(path: Path) -> bool:
    """Return whether a file has its checksum, without holding it in memory."""
    with open_regular(path) as file:
        if os.fstat(file.fileno()).st_size > _MAX_BYTES:
            return False
        return file.read(_DIGEST) == hashlib.file_digest(file, "sha256").digest()


def _timesteps(state: StateDict | None) -> int:
    return int(state["timesteps"]) if state else -1


def _extract_arrays(value: Any, arrays: dict[str, Any]) -> Any:
    if isinstance(value, dict):
        return {key: _extract_arrays(inner, arrays) for key, inner in value.items()}
    if isinstance(value, list):
        return [_extract_arrays(inner, arrays) for inner in value]
    if isinstance(value, np.ndarray):
        name = str(len(arrays))
        arrays[name] = value
        return f"{_ARRAY}{name}"
    return value


def _insert_arrays(value: Any, arrays: Any) -> Any:
    if isinstance(value, dict):
        return {key: _insert_arrays(inner, arrays) for key, inner in value.items()}
    if isinstance(value, list):
        return [_insert_arrays(inner, arrays) for inner in value]
    if isinstance(value, str) and value.startswith(_ARRAY):
        return arrays[value.removeprefix(_ARRAY)]
    return value
