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
    write_atomically,
    write_json,
)


def test_a_write_replaces_the_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "file"
    write_atomically(path, b"one")
    write_atomically(path, b"two")
    assert path.read_bytes() == b"two"
    assert list(path.parent.iterdir()) == [path]


def test_a_failing_write_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_json_is_read_back_and_nothing_else_is(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    assert read_json(path) is None
    write_json(path, {"a": [1, 0.1, None]})
    assert read_json(path) == {"a": [1, 0.1, None]}
    path.write_bytes(b'{"a": [1, 0.')
    assert read_json(path) is None
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"a": float("nan")})


def test_a_torn_last_line_is_no_row(tmp_path: Path) -> None:
    table = AppendOnlyCsv(tmp_path / "table.csv", ["a", "b"])
    table.append([{"a": 1, "b": 0.1}, {"a": "=cmd,", "b": 2e-9}])
    whole = read_table(table.path)
    assert whole == b'a,b\n1,0.1\n"=cmd,",2e-09\n'
    with table.path.open("ab") as file:
        file.write(b"3,0.")
    assert read_table(table.path) == whole


def hold(path: Path, pipe: Connection) -> None:
    lease = Lock(path)
    pipe.send(lease.acquire())
    pipe.recv()


def test_a_lease_has_one_holder_and_dies_with_it(tmp_path: Path) -> None:
    path = tmp_path / "lease"
    assert not Lock.is_held(path)
    assert not path.exists()
    ours, theirs = multiprocessing.get_context("spawn").Pipe()
    process = multiprocessing.get_context("spawn").Process(target=hold, args=(path, theirs))
    process.start()
    assert ours.recv() is True
    assert Lock.is_held(path)
    assert not Lock(path).acquire()
    process.kill()
    process.join()
    assert not Lock.is_held(path)
    mine = Lock(path)
    assert mine.acquire()
    mine.release()
    assert not Lock.is_held(path)
