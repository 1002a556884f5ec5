"""Forged checkpoints with a valid checksum are skipped, and the run restarts."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shaperun.common.files import write_json
from shaperun.runs.run_folder import RunFolder
from shaperun.study.models import RunConfig, parse_study
from shaperun.training import checkpoint, train
from shaperun.training.checkpoint import StateDict
from tests.helpers.forgery import Evil, memory_within
from tests.training.test_checkpoint import read_outcome, train_to_end, train_until_killed


def config() -> RunConfig:
    study = parse_study(
        {
            "study": "test",
            "environment": {"id": "CartPole-v1"},
            "training": {
                "total_timesteps": 300,
                "n_envs": 2,
                "normalize": {"observations": True, "rewards": True},
                "hyperparameters": {"n_steps": 25, "batch_size": 25, "n_epochs": 1},
            },
            "evaluation": {"every": 150, "episodes": 1, "final_episodes": 2},
            "arms": {"arm": {"mode": "add", "terms": {"calm": "-action"}, "weights": {"calm": 1}}},
        }
    )
    return study.run_config(study.arms["arm"], 1)


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The outcome without a forgery."""
    return read_outcome(train_to_end(tmp_path_factory.mktemp("whole") / "run", config()))


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run that was killed, with its checkpoints; tests must not change it."""
    path = tmp_path_factory.mktemp("killed") / "run"
    with pytest.MonkeyPatch.context() as patch:
        return train_until_killed(path, config(), patch, at=220)


@pytest.fixture
def folder(killed: RunFolder, tmp_path: Path) -> RunFolder:
    return RunFolder(Path(shutil.copytree(killed.path, tmp_path / "run")))


def signed(archive: bytes) -> bytes:
    return hashlib.sha256(archive).digest() + archive


def starts_again(folder: RunFolder, expected: dict[str, bytes]) -> None:
    train.train_run(folder, config())
    assert read_outcome(folder) == expected
    assert folder.read_state() == "done"
    assert folder.read_record()["resume"].startswith("from the start (its checkpoint")


def test_an_intact_checkpoint_is_resumed(folder: RunFolder, expected: dict[str, bytes]) -> None:
    train.train_run(folder, config())
    assert read_outcome(folder) == expected
    assert folder.read_record()["resume"] == "exact"


# Files that are not checkpoints


def npz(compressed: bool = False, **arrays: Any) -> bytes:
    file = io.BytesIO()
    save = np.savez_compressed if compressed else np.savez
    save(file, allow_pickle=True, **arrays)
    return file.getvalue()


def tree(text: str) -> Any:
    return np.frombuffer(text.encode(), np.uint8)


def of_a_shape(shape: str) -> bytes:
    """An npz whose only array says that it has a shape."""
    header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    array = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("tree.npy", array)
    return file.getvalue()


FILES: dict[str, Callable[[Path], bytes]] = {
    "a pickle for the tree": lambda s: npz(tree=np.array([Evil(s)], dtype=object)),
    "a pickle beside it": lambda s: npz(tree=tree("{}"), x=np.array([Evil(s)], dtype=object)),
    "a bomb": lambda _: npz(compressed=True, tree=tree("{}"), x=np.zeros(10**8)),
    "a shape": lambda _: of_a_shape("(1000000000000,)"),
    "a shape below nothing": lambda _: of_a_shape("(-1,)"),
    "deep": lambda _: npz(tree=tree("[" * 100_000)),
    "no JSON": lambda _: npz(tree=tree("{")),
    "no object": lambda _: npz(tree=tree("[]")),
    "nothing in it": lambda _: npz(tree=tree("{}")),
    "a name that is not there": lambda _: npz(tree=tree('{"timesteps": "array:7"}')),
    "no tree": lambda _: npz(x=np.zeros(3)),
    "numbers for a tree": lambda _: npz(tree=np.full(9, 7.0)),
    "no array": lambda _: _zip({"tree": b"{}", "tree.npy": b"{}"}),
    "no archive": lambda _: b"junk",
    "nothing": lambda _: b"",
}


def _zip(members: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


@pytest.mark.parametrize("name", FILES)
def test_an_invalid_checkpoint_is_not_loaded(name: str, folder: RunFolder, tmp_path: Path) -> None:
    sentinel = tmp_path / "sentinel"
    forged = signed(FILES[name](sentinel))
    for path in folder.checkpoints:
        path.write_bytes(forged)
    with memory_within(200):
        assert checkpoint.load_latest(folder.checkpoints) is None
    assert not sentinel.exists()


def test_a_run_restarts_next_to_an_invalid_checkpoint(
    folder: RunFolder, expected: dict[str, bytes], tmp_path: Path
) -> None:
    forged = signed(FILES["a pickle for the tree"](tmp_path / "sentinel"))
    for path in folder.checkpoints:
        path.write_bytes(forged)
    starts_again(folder, expected)
    assert not (tmp_path / "sentinel").exists()


def test_an_array_is_read_once_even_if_referenced_often() -> None:
    names = ", ".join(['"array:x"'] * 1000)
    found = checkpoint.load(signed(npz(tree=tree(f'{{"all": [{names}]}}'), x=np.zeros(10**6))))
    assert found is not None
    assert all(array is found["all"][0] for array in found["all"])


# Memories that no run of this configuration can go on from


def at(*path: str | int) -> Callable[[StateDict, Any], None]:
    def change(state: StateDict, value: Any) -> None:
        inner: Any = state
        for part in path[:-1]:
            inner = inner[part]
        if value is REMOVED:
            del inner[path[-1]]
        else:
            inner[path[-1]] = value

    return change


REMOVED = object()
COPY = ("environments", "copies", 0)
STATES: dict[str, tuple[Callable[[StateDict, Any], None], Any]] = {
    "no identity": (at("made_by"), []),
    "other versions": (at("made_by", "versions"), {"torch": "0"}),
    "steps that are text": (at("timesteps"), "100"),
    "steps beyond the end": (at("timesteps"), 10**9),
    "steps below nothing": (at("timesteps"), -1),
    "no tables": (at("tables"), REMOVED),
    "a table elsewhere": (at("tables", "../../x"), 0),
    "a table below nothing": (at("tables", "updates"), -3),
    "a table beyond its end": (at("tables", "episodes"), 10**12),
    "a table of a length in words": (at("tables", "evaluations"), "9"),
    "no recording": (at("recording"), REMOVED),
    "an evaluation at a word": (at("recording", "next_evaluation"), "x"),
    "seconds in words": (at("recording", "seconds"), "x"),
    "no learner": (at("learner"), REMOVED),
    "no parameters": (at("learner", "parameters"), REMOVED),
    "parameters of another shape": (
        at("learner", "parameters", "action_net.bias"),
        np.zeros(3, np.float32),
    ),
    "parameters of another type": (at("learner", "parameters", "action_net.bias"), np.zeros(2)),
    "parameters that are text": (at("learner", "parameters", "action_net.bias"), "x"),
    "parameters that are not numbers": (
        at("learner", "parameters", "action_net.bias"),
        np.full(2, np.nan, np.float32),
    ),
    "a short optimiser": (
        at("learner", "optimizer", 0, 1, "exp_avg"),
        np.zeros((1, 1), np.float32),
    ),
    "an optimizer state without a parameter": (at("learner", "optimizer", 0, 0), 99),
    "an optimiser without": (at("learner", "optimizer", 0, 1, "exp_avg"), REMOVED),
    "noise": (at("learner", "noise", "sample"), np.zeros(2, np.float32)),
    "last observations": (at("learner", "last_obs"), np.zeros((2, 9), np.float32)),
    "statistics": (at("learner", "normalization", "obs", 0), np.zeros(7)),
    "no statistics": (at("learner", "normalization"), {}),
    "a stream beyond its end": (at("learner", "numpy", "state", "pos"), 10**6),
    "a stream of another kind": (at("learner", "numpy", "bit_generator"), "os.system"),
    "a short stream": (at("learner", "torch"), np.zeros(7, np.uint8)),
    "no copies": (at("environments", "copies"), []),
    "an episode from nowhere": (at(*COPY, "start"), {"bit_generator": "x"}),
    "an episode from below": (at(*COPY, "start"), -1),
    "actions that are not numbers": (at(*COPY, "actions"), np.full(3, np.nan)),
    "invalid actions": (at(*COPY, "actions"), np.full(3, 7)),
    "actions for ever": (at(*COPY, "actions"), np.zeros(10**6, np.int64)),
    "actions that are text": (at(*COPY, "actions"), "x"),
    "sums of another shape": (at("environments", "recorder", "sums"), np.zeros(3)),
    "returns in words": (at("environments", "recorder", "recent_returns"), ["x"]),
}


@pytest.mark.parametrize("name", STATES)
def test_a_forged_checkpoint_is_skipped(
    name: str, folder: RunFolder, expected: dict[str, bytes], tmp_path: Path
) -> None:
    neighbor = tmp_path / "x.csv"
    neighbor.write_text("mine")
    state = checkpoint.load_latest(folder.checkpoints)
    assert state is not None
    change, value = STATES[name]
    change(state, value)
    for path in folder.checkpoints:
        path.write_bytes(checkpoint.dump(state))
    starts_again(folder, expected)
    assert neighbor.read_text() == "mine"


@pytest.mark.parametrize("key", ["versions", "platform", "identity"])
def test_a_record_that_contradicts_the_checkpoint(
    key: str, folder: RunFolder, expected: dict[str, bytes]
) -> None:
    record = json.loads(folder.config.read_text())
    del record[key]
    write_json(folder.config, record)
    starts_again(folder, expected)
