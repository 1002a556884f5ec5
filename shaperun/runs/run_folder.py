"""Files of one run, their content, and the state of the run.

Results folders may be untrusted. A file that shaperun did not write makes the run unfinished, or is
an error in one sentence; no path leads out of the study's folder.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from shaperun.common.errors import UserError
from shaperun.common.files import (
    Lock,
    find_temporary_files,
    fsync,
    open_regular,
    read_json,
    read_regular,
    remove_abandoned_files,
    write_atomically,
    write_json,
)
from shaperun.runs.entry import Entry, safe_join

_MAX_ERROR_BYTES = 1_000_000
MAX_FILE_BYTES = 4_000_000_000  # of a finished run, whose files are hashed
_MAX_NUMBER = 1e15  # counts of steps, seconds and returns are far smaller
_PHASES = ("training", "evaluating")
# Required files of a finished run; statistics of observations are optional.
_REQUIRED = ("run.json", "episodes.csv", "evaluations.csv", "updates.csv", "policy.zip")

State = Literal["waiting", "running", "interrupted", "pruned", "failed", "done"]


class RunRemovedError(UserError):
    """The folder of a run was removed while it was trained."""


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run."""

    path: Path

    config = Entry("run.json", "Configuration and its hash, versions, platform, git revision.")
    episodes = Entry("episodes.csv", "Training episodes.")
    evaluations = Entry("evaluations.csv", "Evaluation episodes, with the environment's reward.")
    updates = Entry("updates.csv", "Statistics of the learner, one row per update.")
    policy = Entry("policy.zip", "Trained policy; loads with stable_baselines3.")
    normalization = Entry("normalization.json", "Statistics of normalized observations.")
    log = Entry("log.txt", "Output of libraries during training.")
    tensorboard = Entry("tensorboard", "TensorBoard event files; not part of the result.")
    error = Entry("error.txt", "Traceback of the failure.")
    lock = Entry(".lease", "Lock of the process that writes here.")
    _progress = Entry("progress.json", "Progress of the run.")
    _done = Entry("DONE.json", "Hashes of the files of a finished run; written last.")

    @property
    def checkpoints(self) -> tuple[Path, Path]:
        """Two generations of checkpoints; deleted when the run finishes."""
        first, second = (f"checkpoint-{generation}.bin" for generation in (1, 2))
        return safe_join(self.path, first), safe_join(self.path, second)

    def start(self, record: dict[str, Any]) -> None:
        """Start the run from scratch, and write its configuration."""
        self.clear()
        write_json(self.config, record)

    def clear(self) -> None:
        """Remove everything but the lock; first the checkpoints, which need the other files."""
        for checkpoint in self.checkpoints:
            checkpoint.unlink(missing_ok=True)
        lock = self.lock
        for path in self.path.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif path != lock:
                path.unlink(missing_ok=True)

    def has_tables(self, identity: str, sizes: Mapping[str, int]) -> bool:
        """Return whether the folder holds this run, with at least so many bytes per table."""
        tables = {table.stem: table for table in (self.episodes, self.evaluations, self.updates)}
        return self.read_identity() == identity and all(
            tables[name].exists() and tables[name].stat().st_size >= size
            for name, size in sizes.items()
        )

    def write_progress(self, progress: dict[str, Any]) -> None:
        """Write the progress of the run.

        Raises:
            RunRemovedError: the folder was removed.
        """
        self.ensure_present()
        write_json(self._progress, progress)

    def ensure_present(self) -> None:
        """Raise RunRemovedError if the folder was removed: writing a file would make it again."""
        if not self.config.exists():
            raise RunRemovedError(
                f"{self.path} was removed during training; run the same command again to train "
                "the run from scratch"
            )

    def progress_version(self) -> int | None:
        """Return a number that changes whenever progress is written; None without progress."""
        try:
            return self._progress.stat().st_mtime_ns
        except OSError:  # missing or unreadable
            return None

    def progress_age(self) -> float:
        """Return the seconds since progress was written; 0 if that is unknown."""
        try:
            return max(0.0, time.time() - self._progress.stat().st_mtime)
        except OSError:  # missing or unreadable
            return 0.0

    def read_progress(self) -> dict[str, Any]:
        """Return the progress of the run, without invalid values."""
        progress = _read_object(self._progress)
        numbers = {key: value for key, value in progress.items() if _is_number(value)}
        returns = {k: v for k, v in numbers.items() if k.endswith("_return")}
        counts = {k: v for k, v in numbers.items() if v >= 0}
        phase = {"phase": progress["phase"]} if progress.get("phase") in _PHASES else {}
        return returns | counts | phase

    def mark_resumed(self) -> None:
        """Remove the earlier failure and temporary files of a run that resumes."""
        for file in (self.error, *find_temporary_files(self.path)):
            file.unlink(missing_ok=True)

    def write_failure(self, reason: str) -> str:
        """Write why the run failed; return it, with a note if it cannot be written.

        Nothing is written if the folder of the study was removed.
        """
        if not self.path.parents[2].exists():
            return reason
        try:
            write_atomically(self.error, reason.encode())
        except OSError as error:
            last = reason.strip().rpartition("\n")[2]
            note = f"and {self.error.name} cannot be written: {error.strerror or error}"
            return f"{reason}\n{last} ({note})"
        return reason

    def read_failure(self) -> str | None:
        """Return why the run failed, if it did."""
        try:
            return read_regular(self.error, _MAX_ERROR_BYTES).decode(errors="replace")
        except FileNotFoundError:
            return None
        except OSError as error:
            return f"unknown reason: {self.error} cannot be read, {error.strerror}"

    def finish(self) -> None:
        """Mark the run finished; this is the last write into the folder.

        Raises:
            RunRemovedError: the folder was removed.
        """
        self.ensure_present()
        files = [self.path / name for name in _REQUIRED]
        files += [self.normalization] if self.normalization.exists() else []
        for file in files:
            fsync(file)
        write_json(
            self._done,
            {
                "identity": self.read_identity(),
                "files": {file.name: _sha256(file) for file in files},
                "bytes": {file.name: file.stat().st_size for file in files},
            },
        )
        for file in self._list_leftovers():
            file.unlink(missing_ok=True)

    def remove_leftovers(self) -> None:
        """Remove files that a killed process left; checkpoints only of a finished run."""
        leftovers = self._list_leftovers()
        # Listed first: files of a process that is still writing must not be removed.
        if leftovers and self.is_done():
            for file in leftovers:
                file.unlink(missing_ok=True)
        elif leftovers:
            remove_abandoned_files(self.path)

    def _list_leftovers(self) -> list[Path]:
        checkpoints = [path for path in self.checkpoints if path.exists()]
        return checkpoints + (find_temporary_files(self.path) if self.path.exists() else [])

    def is_done(self) -> bool:
        """Return whether the run is finished and its files are unchanged.

        Raises:
            UserError: an entry of the folder is neither a file nor a folder.
        """
        return self._is_complete(self._scan())

    def _is_complete(
        self, entries: Mapping[str, os.DirEntry[str]], *, by_size: bool = False
    ) -> bool:
        done = _read_object(self.path / "DONE.json") if "DONE.json" in entries else {}
        files, sizes = done.get("files"), done.get("bytes")
        # Names from the file are only looked up among the entries of this folder.
        if not isinstance(files, dict) or not set(_REQUIRED) <= files.keys() <= entries.keys():
            return False
        if by_size and isinstance(sizes, dict) and sizes.keys() == files.keys():
            return all(entries[name].stat().st_size == size for name, size in sizes.items())
        identity = self.read_identity()
        if identity is None or done.get("identity") != identity:
            return False
        try:
            if any(entries[name].stat().st_size > MAX_FILE_BYTES for name in files):
                return False
            return all(_sha256(self.path / name) == digest for name, digest in files.items())
        except OSError:
            return False

    def _scan(self) -> dict[str, os.DirEntry[str]]:
        """Return the entries of the folder by name; empty if it does not exist.

        Raises:
            UserError: an entry is neither a file nor a folder, or the folder cannot be read.
        """
        try:
            with os.scandir(self.path) as scanner:
                entries = list(scanner)
        except (FileNotFoundError, NotADirectoryError):
            return {}
        except OSError as error:
            raise UserError(f"cannot read {self.path}: {error.strerror}") from None
        for entry in entries:
            if not (entry.is_file(follow_symlinks=False) or entry.is_dir(follow_symlinks=False)):
                safe_join(self.path, entry.name)
        return {entry.name: entry for entry in entries}

    def read_identity(self) -> str | None:
        """Return the hash of the run's configuration; None if it is missing."""
        identity = _read_object(self.config).get("identity")
        return identity if isinstance(identity, str) else None

    def read_start_hash(self) -> str | None:
        """Return the hash of the policy that the run started from; None if it is missing."""
        config = _read_object(self.config).get("config")
        start = config.get("start") if isinstance(config, dict) else None
        digest = start.get("sha256") if isinstance(start, dict) else None
        return digest if isinstance(digest, str) else None

    def read_observations(self) -> str:
        """Return the Dict or Tuple that the run's learner observes; empty if it is not known."""
        return _select_texts(_read_object(self.config)).get("observations", "")

    def read_record(self) -> dict[str, Any]:
        """Return versions, platform and identity of the run, and the hashes of its `files`."""
        record, done = _read_object(self.config), _read_object(self._done)
        tables = {key: _select_texts(record.get(key)) for key in ("versions", "code")}
        return {**_select_texts(record), **tables, "files": _select_texts(done.get("files"))}

    def read_config(self) -> dict[str, Any]:
        """Return the configuration of the run.

        Raises:
            UserError: it is missing.
        """
        config = _read_object(self.config).get("config")
        if not isinstance(config, dict):
            raise self.damage_error(self.config, "it has no configuration")
        return config

    def damage_error(self, file: Path, why: str) -> UserError:
        """Return the error for a damaged file of this run."""
        arm, seed = self.path.parts[-2:]
        return UserError(
            f"{file} is damaged: {why}; train this run again from scratch with "
            f"--fresh --arms {arm} --seeds {seed}"
        )

    def read_state(self, *, by_size: bool = False) -> State:
        """Return the state of the run; with `by_size`, check the size of files instead of hashes.

        Raises:
            UserError: an entry of the folder is neither a file nor a folder.
        """
        entries = self._scan()
        failed = "error.txt" in entries
        if "run.json" not in entries:
            return "failed" if failed else "waiting"
        if self._is_complete(entries, by_size=by_size):
            return "done"
        if Lock.is_held(self.lock):
            return "running"
        return "failed" if failed else "interrupted"


def _read_object(path: Path) -> dict[str, Any]:
    """Return a JSON object; empty if it is missing or invalid."""
    document = read_json(path)
    return document if isinstance(document, dict) else {}


def _is_number(value: Any) -> bool:
    """Return whether value is a finite number of reasonable size."""
    return type(value) in (int, float) and abs(value) <= _MAX_NUMBER


def _select_texts(value: object) -> dict[str, str]:
    items = value.items() if isinstance(value, dict) else ()
    return {key: text for key, text in items if isinstance(text, str)}


def _sha256(path: Path) -> str:
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
