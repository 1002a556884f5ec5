"""Comparison of an interrupted run with an uninterrupted one, byte by byte."""

from __future__ import annotations

import io
import zipfile
from collections import Counter
from collections.abc import Iterator
from typing import Any

import torch

from shaperun.runs.run_folder import RunFolder

TENSORS = ("policy.pth", "policy.optimizer.pth")
HARM = ("files that differ", "runs not finished", "files left behind", "checkpoints lost")
SURVIVORS = "processes that outlived their driver"
MORE_HARM = (
    *(SURVIVORS, "without a good end", "damaged studies", "without progress"),
    *("hangs", "memory", "bugs", "files outside changed"),
)


def count_harm(folder: RunFolder, expected: dict[str, bytes], *, finished: bool) -> Counter[str]:
    """Return the counts of `HARM` that can be seen in the folder of a resumed run."""
    counts = (len(find_differences(folder, expected)), not finished, len(find_leftovers(folder)))
    return Counter({kind: int(count) for kind, count in zip(HARM, counts, strict=False)})


def is_harmless(counts: Counter[str]) -> bool:
    """Return whether all counts of harm are zero; `counts` may have other counts as well."""
    return not any(counts[kind] for kind in (*HARM, *MORE_HARM))


def read_outcome(folder: RunFolder) -> dict[str, bytes]:
    """Return tables, observation statistics, and all tensors of policy and optimizer, by file."""
    files = (folder.episodes, folder.evaluations, folder.updates, folder.normalization)
    outcome = {file.name: file.read_bytes() for file in files if file.exists()}
    with zipfile.ZipFile(folder.policy) as archive:
        for name in TENSORS:
            state = torch.load(io.BytesIO(archive.read(name)), weights_only=True)
            outcome[name] = b"".join(_serialize(state))
    return outcome


def _serialize(value: Any) -> Iterator[bytes]:
    if isinstance(value, torch.Tensor):
        yield value.numpy().tobytes()
    elif isinstance(value, dict):
        for key in value:
            yield str(key).encode()
            yield from _serialize(value[key])
    elif isinstance(value, list):
        for item in value:
            yield from _serialize(item)
    else:
        yield repr(value).encode()


def find_differences(folder: RunFolder, expected: dict[str, bytes]) -> list[str]:
    """Return the names of files that differ from the uninterrupted run; all, if unfinished."""
    if not folder.is_done():
        return sorted(expected)
    outcome = read_outcome(folder)
    return sorted(name for name in expected | outcome if outcome.get(name) != expected.get(name))


def find_leftovers(folder: RunFolder) -> list[str]:
    """Return the names of files that do not belong to a finished run."""
    regular = (
        *(folder.config, folder.episodes, folder.evaluations, folder.updates, folder.policy),
        *(folder.normalization, folder.log, folder.lock),
        *(folder.path / "progress.json", folder.path / "DONE.json"),
    )
    files = folder.path.iterdir() if folder.path.exists() else ()
    return sorted(path.name for path in files if path not in regular)
