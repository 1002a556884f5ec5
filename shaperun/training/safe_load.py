"""Read a policy's parameters from an untrusted policy.zip.

stable-baselines3 stores them in a nested archive: a pickle with the structure of the tensors, and
their bytes. No more is read than such parameters need, and torch is given only what builds tensors:
its safe mode alone can be made to fill the memory.
"""

from __future__ import annotations

import io
import pickletools
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from shaperun.common.files import open_regular, parse_json

MEMBER = "policy.pth"
MAX_BYTES = 200_000_000  # the largest networks take 40 MB
_TENSOR_OVERHEAD = 1000  # bytes per tensor; torch needs 400
_MAX_OTHER_BYTES = 10_000_000  # of the archive besides tensors: the learner's configuration

_ALLOWED_GLOBALS = re.compile(
    r"collections OrderedDict|torch\._utils _rebuild_tensor_v2|torch \w+Storage"
)
_FORBIDDEN_OPCODES = {"STACK_GLOBAL", "INST", "OBJ", "EXT1", "EXT2", "EXT4"}


def read_parameters(
    path: Path, expected: Mapping[str, torch.Tensor], obs_bytes: int
) -> dict[str, torch.Tensor]:
    """Return the parameters in a file that stable-baselines3 saved.

    They must have the names, shapes and types of the expected ones. The file also holds
    observations of `obs_bytes`.

    Raises:
        ValueError: the file does not hold such parameters; the message says why.
    """
    size = sum(tensor.nbytes for tensor in expected.values())
    max_bytes = size + _TENSOR_OVERHEAD * (len(expected) + 10)
    parameters = _read(path, max_bytes, _MAX_OTHER_BYTES + 10 * (max_bytes + obs_bytes))
    check_parameters(parameters, expected)
    return parameters


def read_any_parameters(path: Path) -> dict[str, torch.Tensor]:
    """Return the parameters in a file that stable-baselines3 saved, of any policy.

    Raises:
        ValueError: the file does not hold parameters; the message says why.
    """
    return _read(path, MAX_BYTES, 10 * MAX_BYTES)


def read_attributes(path: Path) -> dict[str, Any]:
    """Return what stable-baselines3 saved about a learner besides parameters; {} if unreadable.

    Values that are not JSON are described by their attributes as text; nothing is unpickled.
    """
    try:
        with open_regular(path) as file, zipfile.ZipFile(file) as archive:
            member = _read_members(archive, [archive.getinfo("data")], _MAX_OTHER_BYTES)["data"]
        return dict(parse_json(member))
    except Exception:  # malicious bytes may raise anything
        return {}


def _read(path: Path, max_bytes: int, max_file_bytes: int) -> dict[str, torch.Tensor]:
    try:
        with open_regular(path) as file:
            if file.seek(0, io.SEEK_END) > max_file_bytes:
                raise ValueError("it is larger than such a policy can be")
            with zipfile.ZipFile(file) as archive:
                data = _read_members(archive, [archive.getinfo(MEMBER)], max_bytes)[MEMBER]
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = _read_members(archive, archive.infolist(), max_bytes)
        return _load_tensors(members)
    except Exception as error:  # malicious bytes may raise anything
        why = getattr(error, "strerror", None) or str(error).partition("\n")[0]
        raise ValueError(why or type(error).__name__) from None


def _read_members(
    archive: zipfile.ZipFile, infos: list[zipfile.ZipInfo], max_bytes: int
) -> dict[str, bytes]:
    """Return uncompressed members of an archive, at most `max_bytes` together."""
    if any(info.compress_type != zipfile.ZIP_STORED for info in infos):
        raise ValueError("a member is compressed")
    if sum(info.file_size for info in infos) > max_bytes:
        raise ValueError("a member is larger than the parameters of such a policy")
    return {info.filename: archive.read(info) for info in infos}


def _load_tensors(members: Mapping[str, bytes]) -> dict[str, torch.Tensor]:
    (structure,) = (name for name in members if name.endswith("/data.pkl"))
    for operation, argument, _ in pickletools.genops(members[structure]):
        allowed = operation.name != "GLOBAL" or _ALLOWED_GLOBALS.fullmatch(str(argument))
        if operation.name in _FORBIDDEN_OPCODES or not allowed:
            raise ValueError(f"a pickle in it asks for {argument or operation.name}")
    # Rewrite the archive: torch has its own reader, which might find other members.
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    file.seek(0)
    parameters = torch.load(file, map_location="cpu", weights_only=True)
    if not isinstance(parameters, dict):
        raise TypeError("it holds no parameters")
    return parameters


def check_parameters(
    parameters: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor]
) -> None:
    """Raise ValueError unless names, shapes and types are as expected, and values finite."""
    if parameters.keys() != expected.keys():
        raise ValueError("its parameters have other names")
    for name, tensor in expected.items():
        value = parameters[name]
        if not isinstance(value, torch.Tensor) or value.is_sparse or value.dtype != tensor.dtype:
            raise ValueError(f"{name} is not an array of {tensor.dtype}")
        if value.shape != tensor.shape:
            raise ValueError(f"{name} is {tuple(value.shape)}, expected {tuple(tensor.shape)}")
        if not torch.isfinite(value).all():
            raise ValueError(f"{name} has values that are not finite")
