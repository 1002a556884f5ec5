"""The results folder: the only module that knows the names of files."""

# results/<study>/
#   study.yaml                as resolved
#   runs/<arm>/<seed>/        one folder, one writer
#     run.json                configuration, its hash, versions, platform, git revision
#     episodes.csv            every training episode
#     evaluations.csv         every evaluation episode, on the environment's own reward
#     updates.csv             what the learner reported of its updates
#     policy.zip              loads with stable_baselines3
#     normalization.json      statistics of the observations, where they were normalised
#     progress.json           how far it is
#     log.txt                 what the libraries had to say while it trained
#     tensorboard/            event files, where they were asked for; no part of a finished run
#     checkpoint-1.bin  -2.bin what it goes on from, until it is finished
#     error.txt               why it failed
#     DONE.json               written last: hashes of what a finished run consists of
#   search/                   the trials that a search has decided upon
#   compare/  gifs/  sweep/   made from the runs, can be deleted and made again
#   report.html               all of it on one page
#   check/  preview.html      made before any run
#
# Such a folder may come from anybody. What is not as shaperun writes it makes a run unfinished, or
# an error in one sentence; and no path is handed out that could lead out of the study's folder.

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from shaperun.common.errors import UserError
from shaperun.common.files import (
    Lease,
    is_temporary,
    open_regular,
    read_json,
    read_regular,
    remove,
    sync,
    temporaries,
    write_atomically,
    write_json,
)
from shaperun.common.yaml import MAX_SIZE, dump_yaml

_LONGEST_NAME = 200
_LONGEST_ERROR = 1_000_000  # bytes
_LARGEST = 1e15  # no count of steps or seconds, and no return, comes near
_PHASES = ("training", "evaluating")
# What every finished run consists of, beside the statistics of observations.
_MADE = ("run.json", "episodes.csv", "evaluations.csv", "updates.csv", "policy.zip")

State = Literal["waiting", "running", "interrupted", "pruned", "failed", "done"]


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run."""

    path: Path

    @property
    def config(self) -> Path:
        """The run's configuration and where it was made."""
        return _own(self.path / "run.json")

    @property
    def episodes(self) -> Path:
        """The training episodes."""
        return _own(self.path / "episodes.csv")

    @property
    def evaluations(self) -> Path:
        """The evaluation episodes."""
        return _own(self.path / "evaluations.csv")

    @property
    def updates(self) -> Path:
        """The learner's statistics, a row an update."""
        return _own(self.path / "updates.csv")

    @property
    def policy(self) -> Path:
        """The trained policy."""
        return _own(self.path / "policy.zip")

    @property
    def normalization(self) -> Path:
        """The statistics of the observations."""
        return _own(self.path / "normalization.json")

    @property
    def log(self) -> Path:
        """What was printed while the run was trained, warnings of the libraries included."""
        return _own(self.path / "log.txt")

    @property
    def tensorboard(self) -> Path:
        """The folder of TensorBoard's event files."""
        return _own(self.path / "tensorboard")

    @property
    def lease(self) -> Path:
        """Held by the one process that writes here."""
        return _own(self.path / ".lease")

    @property
    def _done(self) -> Path:
        return _own(self.path / "DONE.json")

    @property
    def checkpoints(self) -> tuple[Path, Path]:
        """What an unfinished run goes on from, in two generations."""
        first, second = (f"checkpoint-{generation}.bin" for generation in (1, 2))
        return _own(self.path / first), _own(self.path / second)

    @property
    def error(self) -> Path:
        """Why the run failed."""
        return _own(self.path / "error.txt")

    @property
    def _progress(self) -> Path:
        return _own(self.path / "progress.json")

    def begin(self, record: dict[str, Any]) -> None:
        """Start the run from nothing: what an unfinished one left behind is removed."""
        self.clear()
        write_json(self.config, record)

    def clear(self) -> None:
        """Remove everything but the lease; first the checkpoints, which are nothing alone."""
        for checkpoint in self.checkpoints:
            remove(checkpoint)
        lease = self.lease
        for path in self.path.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif path != lease:
                remove(path)

    def holds(self, identity: str, sizes: Mapping[str, int]) -> bool:
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

    def go_on(self) -> None:
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
            return read_regular(self.error, _LONGEST_ERROR).decode(errors="replace")
        except FileNotFoundError:
            return None
        except OSError as error:
            return f"why is not known: {self.error} cannot be read, {error.strerror}"

    def finish(self) -> None:
        """Declare the run finished: the last thing that is ever written here."""
        made = [self.path / name for name in _MADE]
        files = [*made, *([self.normalization] if self.normalization.exists() else [])]
        for file in files:
            sync(file)
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
        return self._verifies(self._there())

    def _verifies(self, there: Mapping[str, os.DirEntry[str]], *, by_size: bool = False) -> bool:
        done = _read(self.path / "DONE.json") if "DONE.json" in there else {}
        files, sizes = done.get("files"), done.get("bytes")
        # A name from the file is only ever looked up among the names of this folder.
        if not isinstance(files, dict) or not set(_MADE) <= files.keys() <= there.keys():
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

    def _there(self) -> dict[str, os.DirEntry[str]]:
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
                _own(self.path / entry.name)
        return {entry.name: entry for entry in there}

    def identity(self) -> str | None:
        """The hash of the configuration that the folder holds; None if it holds none."""
        identity = _read(self.config).get("identity")
        return identity if isinstance(identity, str) else None

    def read_record(self) -> dict[str, Any]:
        """What made the run: versions, platform, identity; `files` are a finished one's hashes."""
        record, done = _read(self.config), _read(self._done)
        tables = {key: _texts(record.get(key)) for key in ("versions", "code")}
        return {**_texts(record), **tables, "files": _texts(done.get("files"))}

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
        there = self._there()
        failed = "error.txt" in there
        if "run.json" not in there:
            return "failed" if failed else "waiting"
        if self._verifies(there, by_size=by_size):
            return "done"
        if Lease.held(self.lease):
            return "running"
        return "failed" if failed else "interrupted"


@dataclass(frozen=True)
class StudyFolder:
    """The folder of one study."""

    path: Path

    @property
    def study(self) -> Path:
        """The study as resolved, written whenever it is trained."""
        return self.inside("study.yaml")

    @property
    def compare(self) -> Path:
        """Curves, tables and summaries of the arms."""
        return self.inside("compare")

    def compared_with(self, others: Sequence[str]) -> Path:
        """The same for the arms of this study and others together."""
        if not others:
            return self.compare
        name = f"with-{'+'.join(others)}"
        if len(name) > _LONGEST_NAME:  # of a folder, on common systems
            name = f"with-{hashlib.sha256(name.encode()).hexdigest()[:16]}"
        return self.inside("compare", name)

    @property
    def gifs(self) -> Path:
        """What the policies do."""
        return self.inside("gifs")

    @property
    def sweep(self) -> Path:
        """Response curves, heatmaps and the ranking of the sweep."""
        return self.inside("sweep")

    @property
    def search(self) -> Path:
        """What a search was to find, written when it begins."""
        return self.inside("search", "search.json")

    @property
    def trials(self) -> Path:
        """The trials that a search has decided upon, a line each."""
        return self.inside("search", "trials.csv")

    @property
    def search_lease(self) -> Path:
        """Held by the one command that searches."""
        return self.inside("search", ".lease")

    def forget_search(self) -> None:
        """Delete the trials of a search; their runs stay."""
        for file in (self.trials, self.search):
            remove(file)

    @property
    def check(self) -> Path:
        """What the rewards pay for, in pictures."""
        return self.inside("check")

    @property
    def report(self) -> Path:
        """The page that tells all."""
        return self.inside("report.html")

    @property
    def preview(self) -> Path:
        """The page in which the weights can be moved."""
        return self.inside("preview.html")

    @property
    def ask(self) -> Path:
        """The page that asks which of two episodes is better."""
        return self.inside("ask.html")

    def write_study(self, study: dict[str, Any]) -> None:
        """Keep the study as resolved."""
        comment = "# Written by shaperun: the study as it was trained, every default spelled out."
        write_atomically(self.study, f"{comment}\n{dump_yaml(study)}".encode())

    def read_study(self) -> str:
        """The study as resolved, in YAML; empty where there is none to be read."""
        try:
            return read_regular(self.study, MAX_SIZE).decode(errors="replace")
        except OSError:
            return ""

    def run(self, arm: str, seed: int) -> RunFolder:
        """The folder of one run."""
        return RunFolder(self.inside("runs", arm, str(seed)))

    def has(self, arm: str) -> bool:
        """Whether anything was ever trained of an arm."""
        return self.inside("runs", arm).is_dir()

    def is_foreign(self) -> bool:
        """Whether something stands here that shaperun did not make."""
        if not self.path.exists():
            return False
        if not self.path.is_dir():
            return True
        # What is made before anything is trained.
        ours = {self.check.name, self.preview.name, self.ask.name}
        return not self.study.exists() and any(
            path.name not in ours and not is_temporary(path) for path in self.path.iterdir()
        )

    def discard(self, arm: str, seed: int) -> None:
        """Delete a run for good."""
        run = self.run(arm, seed)
        if run.path.exists():
            run.clear()
            shutil.rmtree(run.path)

    def inside(self, *names: str) -> Path:
        """A path in this folder.

        Raises:
            UserError: something on the way is neither a file nor a folder.
        """
        path = _own(self.path)
        for name in names:
            path = _own(path / name)
        return path


def study_folders(results: Path) -> Iterator[StudyFolder]:
    """Every study under the results folder, the one trained last first."""
    if results.is_dir():
        folders = (StudyFolder(path) for path in results.iterdir() if not path.is_symlink())
        found = [folder for folder in folders if _is_regular(folder.path / "study.yaml")]
        yield from sorted(found, key=lambda folder: -folder.study.stat().st_mtime_ns)


def _own(path: Path) -> Path:
    """A path in a results folder, unless what stands there could lead out of it.

    Raises:
        UserError: it is a symbolic link, or neither a file nor a folder.
    """
    try:
        mode = path.lstat().st_mode
    except OSError:  # nothing is there
        return path
    if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
        return path
    what = "a symbolic link" if stat.S_ISLNK(mode) else "neither a file nor a folder"
    raise UserError(
        f"{path} is {what}, and none is followed in a results folder: remove it, or put what it "
        "stands for in its place"
    )


def _is_regular(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


def _read(path: Path) -> dict[str, Any]:
    """A JSON object; empty where there is none."""
    document = read_json(path)
    return document if isinstance(document, dict) else {}


def _is_number(value: Any) -> bool:
    """Whether it is a number that can be reckoned with; NaN and infinity are none."""
    return type(value) in (int, float) and abs(value) <= _LARGEST


def _texts(value: object) -> dict[str, str]:
    """What is text in a table of texts."""
    found = value if isinstance(value, dict) else {}
    return {key: text for key, text in found.items() if isinstance(text, str)}


def _sha256(path: Path) -> str:
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
