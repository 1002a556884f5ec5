from __future__ import annotations

import multiprocessing
import os
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from shaperun.common.files import (
    AppendOnlyCsv,
    Lock,
    read_json,
    read_table,
    with_nulls,
    write_atomically,
    write_json,
)


def test_write_replaces_the_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "file"
    write_atomically(path, b"one")
    write_atomically(path, b"two")
    assert path.read_bytes() == b"two"
    assert list(path.parent.iterdir()) == [path]


def test_failed_write_leaves_the_old_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"old")

    def raise_disk_full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", raise_disk_full)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_json_round_trip_and_invalid_json(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    assert read_json(path) is None
    write_json(path, with_nulls({"a": (1, 0.1, float("nan"))}))
    assert read_json(path) == {"a": [1, 0.1, None]}
    path.write_bytes(b'{"a": [1, 0.')
    assert read_json(path) is None
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"a": float("nan")})


def test_incomplete_last_line_is_not_a_row(tmp_path: Path) -> None:
    table = AppendOnlyCsv(tmp_path / "table.csv", ["a", "b"])
    table.append([{"a": 1, "b": 0.1}, {"a": "=cmd,", "b": 2e-9}])
    complete = read_table(table.path)
    assert complete == b'a,b\n1,0.1\n"=cmd,",2e-09\n'
    with table.path.open("ab") as file:
        file.write(b"3,0.")
    assert read_table(table.path) == complete


def hold_lock(path: Path, pipe: Connection) -> None:
    lock = Lock(path)
    pipe.send(lock.acquire())
    pipe.recv()


def test_lock_has_one_holder_and_is_released_when_it_dies(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    assert not Lock.is_held(path)
    assert not path.exists()
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=hold_lock, args=(path, theirs))
    process.start()
    assert ours.recv() is True
    assert Lock.is_held(path)
    assert not Lock(path).acquire()
    process.kill()
    process.join()
    assert not Lock.is_held(path)
    lock = Lock(path)
    assert lock.acquire()
    lock.release()
    assert not Lock.is_held(path)
