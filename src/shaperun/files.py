"""Files that survive anything: atomic writes, append-only tables, leases."""

from __future__ import annotations

import csv
import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout


def write_atomically(path: Path, data: bytes) -> None:
    """Write the whole file or nothing: other processes see the old content or the new.

    Raises:
        OSError: the file cannot be written; what was there is untouched.
    """
    with replaced(path) as temporary:
        temporary.write_bytes(data)


@contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """Where to write what is to stand at `path`: it takes its place at the end, if all went well.

    Raises:
        OSError: the file cannot be written; what was there is untouched.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except BaseException:
        with suppress(FileNotFoundError):
            temporary.unlink()
        raise
    _sync_folder(path.parent)


def write_json(path: Path, document: object) -> None:
    """Write a JSON document for people and programs to read."""
    text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False)
    write_atomically(path, f"{text}\n".encode())


def read_json(path: Path) -> Any:
    """Read a JSON document; None where there is no readable one."""
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None


class AppendedTable:
    """A CSV file that only grows. A last line without its end was being written: not a row yet."""

    def __init__(self, path: Path, columns: Iterable[str], keep: int | None = None) -> None:
        """Open a table that begins with its columns, or of which so many bytes are kept."""
        self.path = path
        self.columns = list(columns)
        if keep is not None:
            os.truncate(path, keep)
        # Kept open: opening it for every row would cost more than writing the row.
        self._file = path.open("a", encoding="utf-8", newline="")
        self._writer = csv.writer(self._file, lineterminator="\n")
        if keep is None:
            self._append([self.columns])

    def settle(self) -> int:
        """See to it that every row survives a power cut; how many bytes there are."""
        os.fsync(self._file.fileno())
        return self._file.tell()

    def append(self, rows: Iterable[Mapping[str, object]]) -> None:
        """Add rows, each with a value for every column; floats are written exactly."""
        self._append([[row[column] for column in self.columns] for row in rows])

    def _append(self, rows: list[list[Any]]) -> None:
        self._writer.writerows(rows)
        self._file.flush()

    def close(self) -> None:
        """Close the file; every row is in it already."""
        self._file.close()


def read_table(path: Path) -> bytes:
    """The complete lines of an appended table."""
    data = path.read_bytes()
    return data[: data.rfind(b"\n") + 1]


class Lease:
    """The right to write into a folder. The system takes it back when its holder dies."""

    def __init__(self, path: Path) -> None:
        self._lock = FileLock(path)

    def take(self) -> bool:
        """Take the lease; False if somebody else holds it."""
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            return False
        return True

    def release(self) -> None:
        """Give it back."""
        self._lock.release()

    @staticmethod
    def held(path: Path) -> bool:
        """Whether somebody holds the lease at this path. Leaves no trace."""
        if not path.exists():
            return False
        probe = Lease(path)
        try:
            free = probe.take()
        except OSError:  # no permission to lock: then nobody here can be writing either
            return False
        probe.release()
        return not free


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _sync_folder(folder: Path) -> None:
    # Makes the rename itself durable. Windows cannot open a folder, and does not need to.
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
