"""A policy's parameters out of a policy.zip that anybody may have written.

stable-baselines3 keeps them in a member of the archive that is an archive itself, of a pickle that
says what the tensors are called and of their bytes. No more is read than such parameters need, and
torch is given only what builds tensors: its own safe mode alone can be made to fill the memory.
"""

from __future__ import annotations

import io
import pickletools
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch

from shaperun.common.files import open_regular

MEMBER = "policy.pth"
_OVERHEAD = 1000  # bytes a tensor; torch takes 400
_MAX_OTHER_BYTES = 10_000_000  # bytes of the archive beside tensors: how the learner was configured

_ALLOWED_OPCODES = re.compile(
    r"collections OrderedDict|torch\._utils _rebuild_tensor_v2|torch \w+Storage"
)
_FORBIDDEN_OPCODES = {"STACK_GLOBAL", "INST", "OBJ", "EXT1", "EXT2", "EXT4"}


def read_parameters(
    path: Path, like: Mapping[str, torch.Tensor], beside: int
) -> dict[str, torch.Tensor]:
    """The parameters in a file that stable-baselines3 saved.

    Args:
        path: the file.
        like: parameters with the same names, shapes and types.
        beside: how many bytes of observations are in the file too.

    Raises:
        ValueError: the file does not hold such parameters; the message says why.
    """
    size = sum(tensor.nbytes for tensor in like.values())
    most = size + _OVERHEAD * (len(like) + 10)
    try:
        with open_regular(path) as file:
            if file.seek(0, io.SEEK_END) > _MAX_OTHER_BYTES + 10 * (most + beside):
                raise ValueError("it is larger than such a policy can be")
            with zipfile.ZipFile(file) as archive:
                data = _members(archive, [archive.getinfo(MEMBER)], most)[MEMBER]
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = _members(archive, archive.infolist(), most)
        found = _loaded(members)
    except Exception as error:  # whatever is raised at bytes that mean harm
        why = getattr(error, "strerror", None) or str(error).partition("\n")[0]
        raise ValueError(why or type(error).__name__) from None
    _check(found, like)
    return found


def _members(archive: zipfile.ZipFile, infos: list[zipfile.ZipInfo], most: int) -> dict[str, bytes]:
    """Members of an archive, which are stored as they are and together no larger than that."""
    if any(info.compress_type != zipfile.ZIP_STORED for info in infos):
        raise ValueError("a member is compressed")
    if sum(info.file_size for info in infos) > most:
        raise ValueError("a member is larger than the parameters of such a policy")
    return {info.filename: archive.read(info) for info in infos}


def _loaded(members: Mapping[str, bytes]) -> dict[str, torch.Tensor]:
    (structure,) = (name for name in members if name.endswith("/data.pkl"))
    for operation, argument, _ in pickletools.genops(members[structure]):
        reaches = operation.name in _FORBIDDEN_OPCODES
        if reaches or (
            operation.name == "GLOBAL" and not _ALLOWED_OPCODES.fullmatch(str(argument))
        ):
            raise ValueError(f"a pickle in it asks for {argument or operation.name}")
    # An archive anew: torch reads archives in a way of its own, and might see other members.
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    file.seek(0)
    found = torch.load(file, map_location="cpu", weights_only=True)
    if not isinstance(found, dict):
        raise TypeError("it holds no parameters")
    return found


def _check(found: Mapping[str, torch.Tensor], like: Mapping[str, torch.Tensor]) -> None:
    if found.keys() != like.keys():
        raise ValueError("it holds parameters of other names")
    for name, tensor in like.items():
        value = found[name]
        if not isinstance(value, torch.Tensor) or value.is_sparse or value.dtype != tensor.dtype:
            raise ValueError(f"{name} is no array of {tensor.dtype}")
        if value.shape != tensor.shape:
            raise ValueError(f"{name} is {tuple(value.shape)}, expected {tuple(tensor.shape)}")
        if not torch.isfinite(value).all():
            raise ValueError(f"{name} has values that are no numbers")
