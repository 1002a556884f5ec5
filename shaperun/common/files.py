"""Files that survive anything: atomic writes, append-only tables, leases."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import stat
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from shaperun.common import fault_injection

TEMPORARY = ".tmp"
STALE_SECONDS = 3600.0  # a file that nobody has written to for so long is nobody's
MAX_JSON = 10_000_000  # bytes; the statistics of observations as large as pictures take a fifth
MAX_DEPTH = 50
MAX_TABLE = 1_000_000_000

# A link is not followed, and a pipe without a writer not waited for.
_OPEN = (
    os.O_RDONLY
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_BINARY", 0)
)

_REMEDIES = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some space",
    errno.EFBIG: "allow larger files (ulimit -f)",
    errno.EACCES: "see to it that you may write there",
    errno.EPERM: "see to it that you may write there",
    errno.EROFS: "make it writable",
    errno.EIO: "look after the disk",
}


def write_atomically(path: Path, data: bytes) -> None:
    """Write the whole file or nothing: other processes see the old content or the new.

    Raises:
        OSError: the file cannot be written; what was there is untouched.
    """
    with atomic_replace(path) as temporary:
        temporary.write_bytes(data)


@contextmanager
def atomic_replace(path: Path) -> Iterator[Path]:
    """Where to write what is to stand at `path`: it takes its place at the end, if all went well.

    Raises:
        OSError: the file cannot be written; what was there is untouched.
    """
    with _naming_path(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_stale(path)
        fault_injection.reached("make", path)
        handle, name = tempfile.mkstemp(TEMPORARY, f".{path.name}.", path.parent)
        os.close(handle)
        temporary = Path(name)
        try:
            fault_injection.reached("made", path)
            yield temporary
            fault_injection.reached("written", path)
            fsync(temporary)
            fault_injection.reached("synced", path)
            temporary.chmod(0o666 & ~_umask())
            temporary.replace(path)
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise
        fault_injection.reached("replaced", path)
        _fsync_folder(path.parent)
        fault_injection.reached("kept", path)


def temporaries(folder: Path) -> list[Path]:
    """What is to take a file's place, or was to, if its writer was killed."""
    return [path for path in folder.iterdir() if is_temporary(path)]


def is_temporary(path: Path) -> bool:
    """Whether a file was to take another's place."""
    return path.name.startswith(".") and path.name.endswith(TEMPORARY)


def remove(path: Path) -> None:
    """Remove a file, if it is there."""
    fault_injection.reached("remove", path)
    path.unlink(missing_ok=True)
    fault_injection.reached("removed", path)


def fsync(path: Path) -> None:
    """See to it that what was written into a file survives a power cut."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def remedy(error: OSError, folder: Path) -> str | None:
    """What a disk or its permissions do not allow, where, and what to do; None of other errors."""
    remedy = _REMEDIES.get(error.errno or 0)
    if remedy is None:
        return None
    return f"{error.filename or folder}: {error.strerror}; {remedy} and give the same command again"


def write_json(path: Path, document: object) -> None:
    """Write a JSON document for people and programs to read."""
    text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False)
    write_atomically(path, f"{text}\n".encode())


def open_regular(path: Path) -> io.BufferedReader:
    """Open a file that somebody else may have put there: nothing but a regular file will do.

    Raises:
        OSError: it cannot be read, or is a link, a pipe, a folder or a device.
    """
    handle = os.open(path, _OPEN)
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise OSError(errno.EINVAL, "it is no regular file", str(path))
    except OSError:
        os.close(handle)
        raise
    return os.fdopen(handle, "rb")


def read_regular(path: Path, max_bytes: int) -> bytes:
    """The content of such a file.

    Raises:
        OSError: it cannot be read, is no regular file, or has more than `max_steps` bytes.
    """
    with open_regular(path) as file:
        if os.fstat(file.fileno()).st_size > max_bytes:
            raise OSError(errno.EFBIG, f"it has more than {max_bytes:,} bytes", str(path))
        return file.read()


def read_json(path: Path) -> Any:
    """Read a JSON document; None where there is no readable one, or it is beyond all measure."""
    try:
        return parse_json(read_regular(path, MAX_JSON))
    except OSError:
        return None


def parse_json(data: bytes) -> Any:
    """The document in a text; None where there is none, or it is nested beyond all measure."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return None
    # Looking takes as long as reading; few documents have so many parts that they could be deep.
    deep = data.count(b"[") + data.count(b"{") > MAX_DEPTH and _is_deep(document)
    return None if deep else document


def _is_deep(document: Any) -> bool:
    level = [document]
    for _ in range(MAX_DEPTH):
        level = [part for value in level for part in _children(value)]
    return bool(level)


def _children(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


class AppendOnlyCsv:
    """A CSV file that only grows. A last line without its end was being written: not a row yet."""

    def __init__(self, path: Path, columns: Iterable[str], keep: int | None = None) -> None:
        """Open a table that begins with its columns, or of which so many bytes are kept."""
        self.path = path
        self.columns = list(columns)
        with _naming_path(path):
            fault_injection.reached("open", path)
            if keep is not None:
                os.truncate(path, keep)
                fault_injection.reached("truncated", path)
            # Kept open: opening it for every row would cost more than writing the row.
            self._file = path.open("ab", buffering=0)
        if keep is None:
            self._append([self.columns])

    def fsync(self) -> int:
        """See to it that every row survives a power cut; how many bytes there are."""
        with _naming_path(self.path):
            fault_injection.reached("settle", self.path)
            os.fsync(self._file.fileno())
        return self._file.tell()

    def append(self, rows: Iterable[Mapping[str, object]]) -> None:
        """Add rows, each with a value for every column; floats are written exactly."""
        self._append([[row[column] for column in self.columns] for row in rows])

    def _append(self, rows: list[list[Any]]) -> None:
        text = io.StringIO(newline="")
        csv.writer(text, lineterminator="\n").writerows(rows)
        data = text.getvalue().encode()
        # Without a buffer, which would write what is left in it after an error, when it is closed.
        with _naming_path(self.path):
            while data:  # a disk that fills up takes a part, and says so at the next attempt
                fault_injection.reached("append", self.path)
                data = data[self._file.write(data[: fault_injection.chunk_size()]) :]

    def close(self) -> None:
        """Close the file; every row is in it already."""
        self._file.close()


def read_table(path: Path) -> bytes:
    """The complete lines of an appended table.

    Raises:
        OSError: it cannot be read, is no regular file, or is larger than a table can be.
    """
    data = read_regular(path, MAX_TABLE)
    return data[: data.rfind(b"\n") + 1]


class Lock:
    """The right to write into a folder. The system takes it back when its holder dies."""

    def __init__(self, path: Path) -> None:
        self._path, self._lock = path, FileLock(path)

    def acquire(self) -> bool:
        """Take the lease; False if somebody else holds it."""
        fault_injection.reached("take", self._path)
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            return False
        fault_injection.reached("taken", self._path)
        return True

    def release(self) -> None:
        """Give it back."""
        try:
            fault_injection.reached("release", self._path)
        finally:  # whatever is refused, it must not stay taken as long as this process lives
            self._lock.release()
        fault_injection.reached("released", self._path)

    @staticmethod
    def is_held(path: Path) -> bool:
        """Whether somebody holds the lease at this path. Leaves no trace."""
        probe = Lock(path)
        try:
            if not path.exists():
                return False
            free = probe.acquire()
        except OSError:  # no permission to lock: then nobody here can be writing either
            return False
        probe.release()
        return not free


@contextmanager
def _naming_path(path: Path) -> Iterator[None]:
    """Let errors name the file that is meant, and not the temporary one that is to replace it."""
    try:
        yield
    except OSError as error:
        if error.errno:
            error.filename = str(path)
            del error.filename2
        raise


def _remove_stale(path: Path) -> None:
    """Remove what killed writers of this file left, long after: somebody may be writing it now."""
    for left in temporaries(path.parent):
        with suppress(OSError):
            silent = time.time() - left.stat().st_mtime
            if left.name.startswith(f".{path.name}.") and silent > STALE_SECONDS:
                left.unlink()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _fsync_folder(folder: Path) -> None:
    # Makes the rename itself durable. Windows cannot open a folder, and does not need to.
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
