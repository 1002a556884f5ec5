"""Crash-safe files: atomic writes, append-only tables and locks."""

from __future__ import annotations

import csv
import errno
import io
import json
import math
import os
import secrets
import stat
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import IO, Any

from filelock import FileLock, Timeout

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

TEMPORARY_SUFFIX = ".tmp"
STALE_SECONDS = 3600.0  # without locks: unchanged for this long, they have no living writer
MAX_JSON_BYTES = 10_000_000  # normalization statistics of image observations take a fifth
MAX_JSON_DEPTH = 50

# Neither follow links nor wait for the writer of a pipe.
_OPEN_FLAGS = (
    os.O_RDONLY
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_BINARY", 0)
)

_REMEDIES = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some space",
    errno.EFBIG: "allow larger files (ulimit -f)",
    errno.EACCES: "check the write permissions",
    errno.EPERM: "check the write permissions",
    errno.EROFS: "make it writable",
    errno.EIO: "check the disk",
    errno.EMLINK: "replace its folder with a copy (cp -r)",
}


def write_atomically(path: Path, data: bytes) -> None:
    """Write a whole file or nothing: readers see either the old content or the new.

    Raises:
        OSError: the file cannot be written; its old content is untouched.
    """
    with atomic_replace(path) as temporary:
        temporary.write_bytes(data)


@contextmanager
def atomic_replace(path: Path) -> Iterator[Path]:
    """Yield a temporary file that replaces `path` on exit, unless an exception was raised.

    Raises:
        OSError: the file cannot be written; its old content is untouched.
    """
    with _naming_path(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_abandoned_files(path.parent, f".{path.name}.")
        with _create_temporary(path) as temporary:
            try:
                yield temporary
                fsync(temporary)
                temporary.replace(path)
            except BaseException:
                with suppress(OSError):
                    temporary.unlink()
                raise
        _fsync_folder(path.parent)


def find_temporary_files(folder: Path) -> list[Path]:
    """Return the temporary files of writers in a folder, living or killed."""
    return [path for path in folder.iterdir() if is_temporary(path)]


def remove_abandoned_files(folder: Path, prefix: str = "") -> None:
    """Remove the temporary files of killed writers in a folder, whose names have a prefix."""
    for path in find_temporary_files(folder):
        if path.name.startswith(prefix):
            _remove_if_abandoned(path)


def is_temporary(path: Path) -> bool:
    """Return whether a file is the temporary file of a writer."""
    return path.name.startswith(".") and path.name.endswith(TEMPORARY_SUFFIX)


def fsync(path: Path) -> None:
    """Flush a file to disk, so that its content survives a power cut."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def explain_disk_error(error: OSError, folder: Path) -> str | None:
    """Return the path, cause and remedy of a disk or permission error; None for other errors."""
    remedy = _REMEDIES.get(error.errno or 0)
    if remedy is None:
        return None
    return f"{error.filename or folder}: {error.strerror}; {remedy} and run the same command again"


def write_json(path: Path, document: object) -> None:
    """Write a JSON document atomically, indented for people.

    Raises:
        ValueError: a number is not finite, which JSON does not have.
    """
    write_atomically(path, f"{dump_json(document)}\n".encode())


def dump_json(document: object) -> str:
    """Return a JSON document as text, indented for people; raise as `write_json` does."""
    return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False)


def with_nulls(document: Any) -> Any:
    """Return a document with null for numbers that are not finite: statistics that do not exist."""
    if isinstance(document, dict):
        return {key: with_nulls(value) for key, value in document.items()}
    if isinstance(document, list | tuple):
        return [with_nulls(value) for value in document]
    return None if isinstance(document, float) and not math.isfinite(document) else document


def open_regular(path: Path) -> io.BufferedReader:
    """Open a regular file of untrusted origin for reading.

    Raises:
        OSError: it cannot be read, or is a link, a pipe, a folder or a device.
    """
    try:
        handle = os.open(path, _OPEN_FLAGS)
    except OSError as error:
        if error.errno == errno.ELOOP:  # "too many levels of symbolic links"
            error.strerror = "it is a symbolic link; name its target"
        raise
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
    except OSError:
        os.close(handle)
        raise
    return os.fdopen(handle, "rb")


def refuse_hard_links(path: Path) -> None:
    """Check that writing into a file in place would change no file elsewhere.

    Raises:
        OSError: the file has other hard links.
    """
    if path.exists() and path.stat().st_nlink > 1:
        raise OSError(errno.EMLINK, "has other hard links", str(path))


def read_regular(path: Path, max_bytes: int) -> bytes:
    """Read a regular file of untrusted origin.

    Raises:
        OSError: it cannot be read, is not a regular file, or is larger than `max_bytes`.
    """
    with open_regular(path) as file:
        if os.fstat(file.fileno()).st_size > max_bytes:
            raise OSError(errno.EFBIG, f"larger than {max_bytes:,} bytes", str(path))
        return file.read()


def read_json(path: Path) -> Any:
    """Read a JSON document; None if it is missing, unreadable, invalid, too large or too deep."""
    try:
        return parse_json(read_regular(path, MAX_JSON_BYTES))
    except OSError:
        return None


def parse_json(data: bytes) -> Any:
    """Parse a JSON document; None if it is invalid, too large or nested deeper than 50 levels."""
    if len(data) > MAX_JSON_BYTES:
        return None
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return None
    # Measuring the depth takes as long as parsing, and few documents have enough brackets to be
    # too deep.
    deep = data.count(b"[") + data.count(b"{") > MAX_JSON_DEPTH and _is_deep(document)
    return None if deep else document


def _is_deep(document: Any) -> bool:
    level = [document]
    for _ in range(MAX_JSON_DEPTH):
        level = [
            part
            for value in level
            if isinstance(value, dict | list)
            for part in (value.values() if isinstance(value, dict) else value)
        ]
    return bool(level)


class AppendOnlyCsv:
    """A CSV file that only grows; a last line without a line feed is incomplete and not a row."""

    def __init__(self, path: Path, columns: Iterable[str], keep_bytes: int | None = None) -> None:
        """Create a table with a header, or open one and truncate it to `keep_bytes`.

        Raises:
            OSError: the file cannot be written, or has other hard links.
        """
        self.path = path
        self.columns = list(columns)
        refuse_hard_links(path)
        with _naming_path(path):
            if keep_bytes is not None:
                os.truncate(path, keep_bytes)
            # Opening the file for every row would cost more than writing the row. A buffer would
            # be written again on close, after an error.
            self._file = path.open("ab", buffering=0)
        if not keep_bytes:
            self._write_rows([self.columns])

    def fsync(self) -> int:
        """Flush all rows to disk and return the size in bytes."""
        with _naming_path(self.path):
            os.fsync(self._file.fileno())
        return self._file.tell()

    def append(self, rows: Iterable[Mapping[str, object]]) -> None:
        """Append rows with a value for every column; floats are written exactly."""
        self._write_rows([[row[column] for column in self.columns] for row in rows])

    def _write_rows(self, rows: list[list[Any]]) -> None:
        text = io.StringIO(newline="")
        csv.writer(text, lineterminator="\n").writerows(rows)
        data = text.getvalue().encode()
        with _naming_path(self.path):
            while data:  # a full disk accepts a part, and fails at the next attempt
                data = data[self._file.write(data) :]

    def close(self) -> None:
        """Close the file; all rows are already written."""
        self._file.close()


def read_table(path: Path, max_bytes: int = 10_000_000) -> bytes:
    """Read the complete lines of an append-only table.

    Raises:
        OSError: it cannot be read, is not a regular file, or is larger than `max_bytes`.
    """
    data = read_regular(path, max_bytes)
    return data[: data.rfind(b"\n") + 1]


class Lock:
    """Exclusive right to write into a folder; the system releases it when its holder dies."""

    def __init__(self, path: Path) -> None:
        self._path, self._lock = path, FileLock(path)

    def acquire(self) -> bool:
        """Acquire the lock; False if another process holds it."""
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            return False
        return True

    def release(self) -> None:
        """Release the lock."""
        self._lock.release()

    @staticmethod
    def is_held(path: Path) -> bool:
        """Return whether a process holds the lock at this path; creates no file."""
        probe = Lock(path)
        try:
            if not path.exists():
                return False
            free = probe.acquire()
        except OSError:  # without permission to lock, this user has no writer here either
            return False
        probe.release()
        return not free


@contextmanager
def _naming_path(path: Path) -> Iterator[None]:
    """Make errors name `path` rather than the temporary file that is to replace it."""
    try:
        yield
    except OSError as error:
        if error.errno:
            error.filename = str(path)
            del error.filename2
        raise


@contextmanager
def _create_temporary(path: Path) -> Iterator[Path]:
    """Yield a new temporary file for `path`, locked until its writer closes it or dies."""
    while True:
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}{TEMPORARY_SUFFIX}")
        temporary.touch(exist_ok=False)
        # Windows replaces no open file, and has no such locks.
        with temporary.open("rb+") if fcntl else nullcontext() as file:
            if _try_lock(file) is not False and temporary.exists():
                yield temporary
                return
        # Before it was locked, another writer took it for abandoned.


def _try_lock(file: IO[bytes] | None) -> bool | None:
    """Lock an open file; False if another process holds the lock, None without locks."""
    if fcntl is None or file is None:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return None
    return True


def _remove_if_abandoned(temporary: Path) -> None:
    """Remove a temporary file unless it has a living writer."""
    with suppress(OSError), temporary.open("rb+") as file:
        locked = _try_lock(file)
        if locked is None:
            locked = time.time() - os.fstat(file.fileno()).st_mtime > STALE_SECONDS
        if locked:
            temporary.unlink()


def _fsync_folder(folder: Path) -> None:
    # Makes the rename itself durable. Windows cannot open a folder, and does not need to.
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
