"""Forged policies run nothing, and are one message of every command."""

from __future__ import annotations

import base64
import io
import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from shaperun.common.errors import UserError
from shaperun.runs.study_folder import StudyFolder
from shaperun.training.sb3_model import load_policy
from tests.helpers.forgery import Commands, Evil, memory_within, one_of, runs_of, tree


def members(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def archive(
    contents: dict[str, bytes], compression: int = zipfile.ZIP_STORED, more: str = ""
) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as target:
        for name, content in contents.items():
            target.writestr(name, content)
        if more:
            target.writestr(more, b"x")
    return file.getvalue()


def saved(value: object, **options: Any) -> bytes:
    file = io.BytesIO()
    torch.save(value, file, **options)
    return file.getvalue()


def parameters(good: dict[str, bytes]) -> dict[str, torch.Tensor]:
    found = torch.load(io.BytesIO(good["policy.pth"]), weights_only=True)
    return dict(found)


def every_member_a_pickle(good: dict[str, bytes], sentinel: Path) -> bytes:
    evil = Evil(sentinel)
    data = {"policy_class": {":type:": "x", ":serialized:": text(pickle.dumps(evil))}}
    return archive(
        {
            "data": json.dumps(data).encode(),
            **{name: saved({"x": evil}) for name in good if name.endswith(".pth")},
        }
    )


def text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def evil_beside_good(good: dict[str, bytes], sentinel: Path) -> bytes:
    evil = saved({**parameters(good), "more": Evil(sentinel)})
    return archive(good | {"policy.pth": evil})


def a_legacy_file(good: dict[str, bytes], sentinel: Path) -> bytes:
    legacy = saved({"x": Evil(sentinel)}, _use_new_zipfile_serialization=False)
    return archive(good | {"policy.pth": legacy})


def a_plain_pickle(good: dict[str, bytes], sentinel: Path) -> bytes:
    return archive(good | {"policy.pth": pickle.dumps(Evil(sentinel))})


def no_archive(_good: dict[str, bytes], sentinel: Path) -> bytes:
    return pickle.dumps(Evil(sentinel))


def a_bomb(good: dict[str, bytes], _: Path) -> bytes:
    return archive(good | {"policy.pth": bytes(250_000_000)}, zipfile.ZIP_DEFLATED)


def a_large_member(good: dict[str, bytes], _: Path) -> bytes:
    return archive(good | {"policy.pth": good["policy.pth"] + bytes(100_000)})


def a_bomb_within(good: dict[str, bytes], _: Path) -> bytes:
    bomb = {"archive/data/0": bytes(30_000_000), "archive/data.pkl": b"."}
    return archive(good | {"policy.pth": archive(bomb, zipfile.ZIP_DEFLATED)})


def a_greedy_pickle(good: dict[str, bytes], _: Path) -> bytes:
    # bytearray(2**33), which torch's safe mode would make
    greedy = b"\x80\x02cbuiltins\nbytearray\n\x8a\x05\x00\x00\x00\x00\x02\x85R."
    return archive(good | {"policy.pth": archive({"archive/data.pkl": greedy})})


def of_other_shapes(good: dict[str, bytes], _: Path) -> bytes:
    other = {name: value[:1] for name, value in parameters(good).items()}
    return archive(good | {"policy.pth": saved(other)})


def of_other_names(good: dict[str, bytes], _: Path) -> bytes:
    other = {f"x{name}": value for name, value in parameters(good).items()}
    return archive(good | {"policy.pth": saved(other)})


def of_other_types(good: dict[str, bytes], _: Path) -> bytes:
    other = {name: value.half() for name, value in parameters(good).items()}
    return archive(good | {"policy.pth": saved(other)})


def not_numbers(good: dict[str, bytes], _: Path) -> bytes:
    other = {name: value * float("nan") for name, value in parameters(good).items()}
    return archive(good | {"policy.pth": saved(other)})


def no_dictionary(good: dict[str, bytes], _: Path) -> bytes:
    return archive(good | {"policy.pth": saved(torch.zeros(3))})


def no_policy(good: dict[str, bytes], _: Path) -> bytes:
    return archive({name: content for name, content in good.items() if name != "policy.pth"})


FORGED: dict[Callable[[dict[str, bytes], Path], bytes], str] = {
    every_member_a_pickle: "a pickle in it asks for",
    evil_beside_good: "a pickle in it asks for",
    a_legacy_file: "not a zip file",
    a_plain_pickle: "not a zip file",
    no_archive: "not a zip file",
    a_bomb: "is compressed",
    a_large_member: "is larger than",
    a_bomb_within: "is compressed",
    a_greedy_pickle: "asks for builtins bytearray",
    of_other_shapes: "expected",
    of_other_names: "other names",
    of_other_types: "is not an array of",
    not_numbers: "values that are not finite",
    no_dictionary: "no parameters",
    no_policy: "no item named",
}


@pytest.mark.parametrize("forge", FORGED, ids=lambda forge: forge.__name__)
def test_a_forged_policy_does_nothing(
    forge: Callable[[dict[str, bytes], Path], bytes], folder: StudyFolder, sentinel: Path
) -> None:
    run, forged = one_of(folder)
    forged.policy.write_bytes(forge(members(forged.policy), sentinel))
    forged.finish()
    assert forged.read_state() == "done"
    with memory_within(200), pytest.raises(UserError) as error:
        load_policy(run.config, forged)
    assert not sentinel.exists()
    assert FORGED[forge] in str(error.value)
    assert f"{forged.policy} is damaged" in str(error.value)
    assert "--fresh --arms guided --seeds 1" in str(error.value)


def test_a_forged_policy_is_an_error_of_every_command(
    folder: StudyFolder, sentinel: Path, command: Commands
) -> None:
    for run in runs_of(folder):
        forged = folder.run(run.arm, run.seed)
        forged.policy.write_bytes(every_member_a_pickle(members(forged.policy), sentinel))
        forged.finish()
    code, said = command("record-gif", "tiny")
    assert (code, "policy.zip is damaged" in said) == (2, True)
    code, said = command("report", "tiny", "--static")
    assert (code, "no GIF" in said) == (0, True)  # the numbers need no policy
    assert command("compare", "tiny")[0] == command("status", "tiny")[0] == 0
    assert command("train", "tiny.yaml")[0] == 0  # all of it is done
    assert not sentinel.exists()


@pytest.mark.parametrize("name", ["../../escaped", "/escaped-from-shaperun", "..\\escaped"])
def test_other_members_of_the_archive_are_ignored(name: str, folder: StudyFolder) -> None:
    run, forged = one_of(folder)
    forged.policy.write_bytes(archive(members(forged.policy), more=name))
    before = tree(folder.path.parent.parent)
    assert callable(load_policy(run.config, forged))
    assert tree(folder.path.parent.parent) == before
    assert not Path("/escaped-from-shaperun").exists()
