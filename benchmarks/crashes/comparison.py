"""What of a finished run must be the same bytes, however often it was killed."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from typing import Any

import torch

from shaperun.runs.run_folder import RunFolder

TENSORS = ("policy.pth", "policy.optimizer.pth")


def outcome(folder: RunFolder) -> dict[str, bytes]:
    """The tables, the statistics of the observations, and every tensor of policy and optimiser."""
    files = (folder.episodes, folder.evaluations, folder.updates, folder.normalization)
    found = {file.name: file.read_bytes() for file in files if file.exists()}
    with zipfile.ZipFile(folder.policy) as archive:
        for name in TENSORS:
            kept = torch.load(io.BytesIO(archive.read(name)), weights_only=True)
            found[name] = b"".join(_tensors(kept))
    return found


def _tensors(value: Any) -> Iterator[bytes]:
    if isinstance(value, torch.Tensor):
        yield value.numpy().tobytes()
    elif isinstance(value, dict):
        for key in value:
            yield str(key).encode()
            yield from _tensors(value[key])
    elif isinstance(value, list):
        for inner in value:
            yield from _tensors(inner)
    else:
        yield repr(value).encode()


def differences(folder: RunFolder, expected: dict[str, bytes]) -> list[str]:
    """What differs from the run that nobody disturbed; a run that is not finished differs whole."""
    if not folder.is_done():
        return sorted(expected)
    found = outcome(folder)
    return sorted(name for name in expected | found if found.get(name) != expected.get(name))


def leftovers(folder: RunFolder) -> list[str]:
    """Files that a finished run has no use for."""
    made = (
        folder.config,
        folder.episodes,
        folder.evaluations,
        folder.updates,
        folder.policy,
        folder.normalization,
        folder.log,
        folder.lock,
        folder.path / "progress.json",
        folder.path / "DONE.json",
    )
    there = folder.path.iterdir() if folder.path.exists() else ()
    return sorted(path.name for path in there if path not in made)
