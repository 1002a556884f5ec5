"""The folder of one run: the names of its files, what they hold, and whether it is finished.

Results folders may come from anyone. A file that is not as shaperun writes it makes a run
unfinished, or is an error in one sentence; no path leads out of the folder of the study.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from shaperun.common.errors import UserError
from shaperun.common.files import (
    Lock,
    fsync,
    open_regular,
    read_json,
    read_regular,
    remove,
    temporaries,
    write_atomically,
    write_json,
)
from shaperun.runs.entry import Entry, path_inside

_MAX_ERROR_BYTES = 1_000_000  # bytes
_MAX_NUMBER = 1e15  # no count of steps or seconds, and no return, comes near
_PHASES = ("training", "evaluating")
# What every finished run consists of, beside the statistics of observations.
_ALWAYS_PRESENT = ("run.json", "episodes.csv", "evaluations.csv", "updates.csv", "policy.zip")

State = Literal["waiting", "running", "interrupted", "pruned", "failed", "done"]


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run."""

    path: Path

    config = Entry("run.json", "Configuration and its hash, versions, platform, git revision.")
    episodes = Entry("episodes.csv", "Training episodes.")
    evaluations = Entry("evaluations.csv", "Evaluation episodes, by the environment's own reward.")
    updates = Entry("updates.csv", "Statistics of the learner, one row per update.")
    policy = Entry("policy.zip", "Trained policy; loads with stable_baselines3.")
    normalization = Entry("normalization.json", "Statistics of normalized observations.")
    log = Entry("log.txt", "Output of the libraries during training.")
    tensorboard = Entry("tensorboard", "Folder of TensorBoard event files; not part of the result.")
    error = Entry("error.txt", "Why the run failed.")
    lock = Entry(".lease", "Held by the process that writes here.")
    _progress = Entry("progress.json", "How far the run is.")
    _done = Entry("DONE.json", "Hashes of what a finished run consists of; written last.")

    @property
    def checkpoints(self) -> tuple[Path, Path]:
        """Two generations of checkpoints; deleted when the run is finished."""
        first, second = (f"checkpoint-{generation}.bin" for generation in (1, 2))
        return path_inside(self.path, first), path_inside(self.path, second)

    def start(self, record: dict[str, Any]) -> None:
        """Start the run from nothing: what an unfinished one left behind is removed."""
        self.clear()
        write_json(self.config, record)

    def clear(self) -> None:
        """Remove everything but the lease; first the checkpoints, which are nothing alone."""
        for checkpoint in self.checkpoints:
            remove(checkpoint)
        lease = self.lock
        for path in self.path.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif path != lease:
                remove(path)

    def has_tables(self, identity: str, sizes: Mapping[str, int]) -> bool:
        """Whether this run was begun here, and its tables, by their names, have so many bytes."""
        tables = {table.stem: table for table in (self.episodes, self.evaluations, self.updates)}
        return self.identity() == identity and all(
            tables[name].exists() and tables[name].stat().st_size >= size
            for name, size in sizes.items()
        )

    def write_progress(self, progress: dict[str, Any]) -> None:
        """Say how far the run is."""
        write_json(self._progress, progress)

    def progressed_since(self, moment: float) -> bool:
        """Whether the run said how far it is after a moment, in seconds since the epoch."""
        try:
            return self._progress.stat().st_mtime >= moment
        except OSError:  # not yet, no more, or not for us to see
            return False

    def read_progress(self) -> dict[str, Any]:
        """How far the run is: what it has said of it, as far as that can be."""
        said = _read(self._progress)
        numbers = {key: value for key, value in said.items() if _is_number(value)}
        returns = {k: v for k, v in numbers.items() if k.endswith("_return")}
        counts = {k: v for k, v in numbers.items() if v >= 0}
        phase = {"phase": said["phase"]} if said.get("phase") in _PHASES else {}
        return returns | counts | phase

    def mark_resumed(self) -> None:
        """Go on with the run: why it failed before is no longer true."""
        for file in (self.error, *temporaries(self.path)):
            remove(file)

    def fail(self, reason: str) -> str:
        """Keep why the run failed; returns it, and where it cannot be kept, that as well."""
        try:
            write_atomically(self.error, reason.encode())
        except OSError as error:
            last = reason.strip().rpartition("\n")[2]
            why = f"and {self.error.name} cannot be written: {error.strerror or error}"
            return f"{reason}\n{last} ({why})"
        return reason

    def failure(self) -> str | None:
        """Why the run failed, if it did."""
        try:
            return read_regular(self.error, _MAX_ERROR_BYTES).decode(errors="replace")
        except FileNotFoundError:
            return None
        except OSError as error:
            return f"why is not known: {self.error} cannot be read, {error.strerror}"

    def finish(self) -> None:
        """Declare the run finished: the last thing that is ever written here."""
        made = [self.path / name for name in _ALWAYS_PRESENT]
        files = [*made, *([self.normalization] if self.normalization.exists() else [])]
        for file in files:
            fsync(file)
        write_json(
            self._done,
            {
                "identity": self.identity(),
                "files": {file.name: _sha256(file) for file in files},
                "bytes": {file.name: file.stat().st_size for file in files},
            },
        )
        for left in self._leftovers():
            remove(left)

    def tidy(self) -> None:
        """Remove what a process left beside a finished run because it was killed."""
        left = self._leftovers()
        # In this order: otherwise a file that is being written could be taken.
        if left and self.is_done():
            for file in left:
                remove(file)

    def _leftovers(self) -> list[Path]:
        """What is not part of a finished run."""
        checkpoints = [path for path in self.checkpoints if path.exists()]
        return checkpoints + (temporaries(self.path) if self.path.exists() else [])

    def is_done(self) -> bool:
        """Whether the run is finished: everything is there as it was written.

        Raises:
            UserError: something in the folder is neither a file nor a folder.
        """
        return self._verifies(self._entries())

    def _verifies(self, there: Mapping[str, os.DirEntry[str]], *, by_size: bool = False) -> bool:
        done = _read(self.path / "DONE.json") if "DONE.json" in there else {}
        files, sizes = done.get("files"), done.get("bytes")
        # A name from the file is only ever looked up among the names of this folder.
        if not isinstance(files, dict) or not set(_ALWAYS_PRESENT) <= files.keys() <= there.keys():
            return False
        if by_size and isinstance(sizes, dict) and sizes.keys() == files.keys():
            return all(there[name].stat().st_size == size for name, size in sizes.items())
        identity = self.identity()
        if identity is None or done.get("identity") != identity:
            return False
        try:
            return all(_sha256(self.path / name) == digest for name, digest in files.items())
        except OSError:
            return False

    def _entries(self) -> dict[str, os.DirEntry[str]]:
        """What stands in the folder, by its name; nothing where there is no folder.

        Raises:
            UserError: something is neither a file nor a folder, or the folder cannot be read.
        """
        try:
            with os.scandir(self.path) as entries:
                there = list(entries)
        except (FileNotFoundError, NotADirectoryError):
            return {}
        except OSError as error:
            raise UserError(f"cannot read {self.path}: {error.strerror}") from None
        for entry in there:
            if not (entry.is_file(follow_symlinks=False) or entry.is_dir(follow_symlinks=False)):
                path_inside(self.path, entry.name)
        return {entry.name: entry for entry in there}

    def identity(self) -> str | None:
        """The hash of the configuration that the folder holds; None if it holds none."""
        identity = _read(self.config).get("identity")
        return identity if isinstance(identity, str) else None

    def read_record(self) -> dict[str, Any]:
        """What made the run: versions, platform, identity; `files` are a finished one's hashes."""
        record, done = _read(self.config), _read(self._done)
        tables = {key: _text_values(record.get(key)) for key in ("versions", "code")}
        return {**_text_values(record), **tables, "files": _text_values(done.get("files"))}

    def read_config(self) -> dict[str, Any]:
        """The configuration that the folder holds.

        Raises:
            UserError: it holds none.
        """
        config = _read(self.config).get("config")
        if not isinstance(config, dict):
            raise self.damaged(self.config, "it holds no configuration")
        return config

    def damaged(self, file: Path, why: str) -> UserError:
        """What to say of a file of this run that is not as a run writes it."""
        arm, seed = self.path.parts[-2:]
        return UserError(
            f"{file} is damaged: {why}. Train this run again from the start, "
            f"with --fresh --arms {arm} --seeds {seed}"
        )

    def state(self, *, by_size: bool = False) -> State:
        """What has become of the run.

        Args:
            by_size: take the files of a finished run for what they were if they have as many bytes,
                instead of reading them all.

        Raises:
            UserError: something in the folder is neither a file nor a folder.
        """
        there = self._entries()
        failed = "error.txt" in there
        if "run.json" not in there:
            return "failed" if failed else "waiting"
        if self._verifies(there, by_size=by_size):
            return "done"
        if Lock.is_held(self.lock):
            return "running"
        return "failed" if failed else "interrupted"


def _read(path: Path) -> dict[str, Any]:
    """A JSON object; empty where there is none."""
    document = read_json(path)
    return document if isinstance(document, dict) else {}


def _is_number(value: Any) -> bool:
    """Whether it is a number that can be reckoned with; NaN and infinity are none."""
    return type(value) in (int, float) and abs(value) <= _MAX_NUMBER


def _text_values(value: object) -> dict[str, str]:
    """What is text in a table of texts."""
    found = value if isinstance(value, dict) else {}
    return {key: text for key, text in found.items() if isinstance(text, str)}


def _sha256(path: Path) -> str:
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
