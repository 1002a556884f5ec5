"""Checkpoints: everything that a run needs to go on, in two generations, each with a checksum.

A memory is a tree of dictionaries and lists with numbers, text and numpy arrays at its ends. It is
stored as an npz archive without pickles: the arrays, and one more with the rest as JSON.

A checksum says that nothing was lost, not who wrote it. So a memory is read without taking more
than the file's size, and what it says beside the learner's and the environments' own is looked at.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from shaperun.common.files import parse_json, read_regular, write_atomically

StateDict = dict[str, Any]

TABLES = ("episodes", "evaluations", "updates")

_MAX_BYTES = 2_000_000_000
_LARGEST = 1e15  # no count of steps, bytes or seconds comes near
_TREE = "tree"
_ARRAY = "array:"  # text that begins so stands for an array
_DIGEST = hashlib.sha256().digest_size


class CorruptCheckpointError(RuntimeError):
    """A run could not go on from its memory; the message says what went wrong."""


def dump(memory: StateDict) -> bytes:
    """A memory as bytes, its SHA-256 first."""
    arrays: dict[str, Any] = {}
    tree = json.dumps(_without_arrays(memory, arrays)).encode()
    file = io.BytesIO()
    arrays[_TREE] = np.frombuffer(tree, np.uint8)
    np.savez(file, **arrays)
    return hashlib.sha256(file.getvalue()).digest() + file.getvalue()


def load(data: bytes) -> StateDict | None:
    """What was dumped; None where it is not what was dumped."""
    digest, archive = data[:_DIGEST], data[_DIGEST:]
    if hashlib.sha256(archive).digest() != digest:
        return None
    try:
        arrays = _arrays(archive)
        memory = _with_arrays(parse_json(arrays[_TREE].tobytes()), arrays)
    except Exception:  # whatever is raised at bytes that mean harm
        return None
    return memory if isinstance(memory, dict) else None


def _arrays(archive: bytes) -> dict[str, Any]:
    """Every array once: no name can have one read again and again."""
    with zipfile.ZipFile(io.BytesIO(archive)) as members:
        infos = members.infolist()
        packed = any(info.compress_type != zipfile.ZIP_STORED for info in infos)
        if packed or sum(info.file_size for info in infos) > len(archive):
            raise ValueError("it holds more than its own size")
    with np.load(io.BytesIO(archive), allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def _is_complete(memory: StateDict) -> bool:
    """Whether the parts are there that a run goes on from, and what it counts are numbers."""
    parts = ("made_by", "tables", "recording", "learner", "environments")
    if not all(isinstance(memory.get(part), dict) for part in parts):
        return False
    tables, recording = memory["tables"], memory["recording"]
    steps = [recording.get(name) for name in ("next_evaluation", "next_update")]
    counts = [memory.get("timesteps"), *steps, *tables.values()]
    return tables.keys() == set(TABLES) and all(map(_is_count, counts))


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value <= _LARGEST


def save(memory: StateDict, generations: tuple[Path, Path]) -> None:
    """Store a memory in place of the older of two generations.

    A memory counts its age in `timesteps`; the one with fewer, or a damaged one, is the older.

    Raises:
        OSError: it cannot be written; both generations are as they were.
    """
    older = min(generations, key=lambda path: _timesteps(_read(path)))
    write_atomically(older, dump(memory))


def latest(generations: tuple[Path, Path]) -> StateDict | None:
    """The newer generation that is whole; None if there is none."""
    return next(iter(load_all(generations)), None)


def load_all(generations: tuple[Path, Path]) -> list[StateDict]:
    """The generations that are whole, the newest first."""
    memories = [memory for path in generations if (memory := _read(path))]
    return sorted(memories, key=_timesteps, reverse=True)


def _read(path: Path) -> StateDict | None:
    try:
        memory = load(read_regular(path, _MAX_BYTES))
    except OSError:
        return None
    return memory if memory and _is_complete(memory) else None


def _timesteps(memory: StateDict | None) -> int:
    return int(memory["timesteps"]) if memory else -1


def _without_arrays(value: Any, arrays: dict[str, Any]) -> Any:
    if isinstance(value, dict):
        return {key: _without_arrays(inner, arrays) for key, inner in value.items()}
    if isinstance(value, list):
        return [_without_arrays(inner, arrays) for inner in value]
    if isinstance(value, np.ndarray):
        name = str(len(arrays))
        arrays[name] = value
        return f"{_ARRAY}{name}"
    return value


def _with_arrays(value: Any, arrays: Any) -> Any:
    if isinstance(value, dict):
        return {key: _with_arrays(inner, arrays) for key, inner in value.items()}
    if isinstance(value, list):
        return [_with_arrays(inner, arrays) for inner in value]
    if isinstance(value, str) and value.startswith(_ARRAY):
        return arrays[value.removeprefix(_ARRAY)]
    return value
