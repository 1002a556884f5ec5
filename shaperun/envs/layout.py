"""Layout of observations: how an array, or a Dict or Tuple of arrays, becomes one flat row."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

Layout = tuple[int, ...] | Mapping[Any, Any]
"""Shape of an array, or the layout of each entry of a Dict (by key) or Tuple (by index)."""


def layout_size(layout: Layout) -> int:
    """Return the number of entries of a flat row."""
    if isinstance(layout, Mapping):
        return sum(map(layout_size, layout.values()))
    return prod(layout)


def flatten_rows(obs: Any, layout: Layout = ()) -> npt.NDArray[Any]:
    """Return observations as the kernel takes them: a copy with one flat row each, (N, size).

    They are a sequence of N observations or, as vector environments return them, an array or a Dict
    or Tuple of arrays with N rows. The type of the rows is float64, or uint8 if that is the type of
    all entries: pictures would take eight times their bytes.
    """
    if isinstance(layout, Mapping):
        batched = isinstance(obs, Mapping | tuple)
        columns = [
            flatten_rows(obs[key] if batched else [single[key] for single in obs], entry)
            for key, entry in layout.items()
        ]
        return np.concatenate(columns, axis=1)
    # Always a copy: a vector environment may return the same buffer at every step.
    copy = np.array(obs)
    if copy.dtype != np.uint8:
        copy = copy.astype(np.float64, copy=False)
    return copy.reshape(len(copy), -1)


def flatten_row(obs: Any, layout: Mapping[Any, Any]) -> npt.NDArray[Any]:
    """Return one observation of a Dict or Tuple as `flatten_rows` returns its row, (size,)."""
    entries = list(_iter_entries(obs, layout))
    is_bytes = all(getattr(entry, "dtype", None) == np.uint8 for entry in entries)
    return np.concatenate(entries, axis=None, dtype=np.uint8 if is_bytes else np.float64)


def _iter_entries(obs: Any, layout: Mapping[Any, Any]) -> Iterator[Any]:
    for key, entry in layout.items():
        if isinstance(entry, Mapping):
            yield from _iter_entries(obs[key], entry)
        else:
            yield obs[key]


def iter_arrays(name: str, layout: Layout) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield how a formula reads each array of an observation, and its shape."""
    if isinstance(layout, Mapping):
        for key, entry in layout.items():
            yield from iter_arrays(f"{name}[{json.dumps(key, ensure_ascii=False)}]", entry)
    else:
        yield name, layout
