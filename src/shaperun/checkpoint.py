"""Checkpoints: everything that a run needs to go on, in two generations, each with a checksum.

A memory is a tree of dictionaries and lists with numbers, text and numpy arrays at its ends. It is
stored as an npz archive without pickles: the arrays, and one more with the rest as JSON.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from shaperun.files import write_atomically

Memory = dict[str, Any]

_TREE = "tree"
_ARRAY = "array:"  # text that begins so stands for an array
_DIGEST = hashlib.sha256().digest_size


def dump(memory: Memory) -> bytes:
    """A memory as bytes, its SHA-256 first."""
    arrays: dict[str, Any] = {}
    tree = json.dumps(_without_arrays(memory, arrays)).encode()
    file = io.BytesIO()
    arrays[_TREE] = np.frombuffer(tree, np.uint8)
    np.savez(file, **arrays)
    return hashlib.sha256(file.getvalue()).digest() + file.getvalue()


def load(data: bytes) -> Memory | None:
    """What was dumped; None where it is not what was dumped."""
    digest, archive = data[:_DIGEST], data[_DIGEST:]
    if hashlib.sha256(archive).digest() != digest:
        return None
    try:
        with np.load(io.BytesIO(archive), allow_pickle=False) as arrays:
            memory = _with_arrays(json.loads(arrays[_TREE].tobytes()), arrays)
    except (ValueError, KeyError, OSError, zipfile.BadZipFile):
        return None
    return memory if isinstance(memory, dict) else None


def save(memory: Memory, generations: tuple[Path, Path]) -> None:
    """Store a memory in place of the older of two generations.

    A memory counts its age in `timesteps`; the one with fewer, or a damaged one, is the older.

    Raises:
        OSError: it cannot be written; both generations are as they were.
    """
    older = min(generations, key=lambda path: _timesteps(_read(path)))
    write_atomically(older, dump(memory))


def latest(generations: tuple[Path, Path]) -> Memory | None:
    """The newer generation that is whole; None if there is none."""
    memories = [memory for path in generations if (memory := _read(path))]
    return max(memories, key=_timesteps, default=None)


def _read(path: Path) -> Memory | None:
    try:
        return load(path.read_bytes())
    except OSError:
        return None


def _timesteps(memory: Memory | None) -> int:
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
