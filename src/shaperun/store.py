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
#   compare/  gifs/  sweep/   made from the runs, can be deleted and made again
#   report.html               all of it on one page
#   check/  preview.html      made before any run

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from shaperun.files import (
    Lease,
    is_temporary,
    read_json,
    remove,
    sync,
    temporaries,
    write_atomically,
    write_json,
)
from shaperun.yaml_source import dump_yaml

_LONGEST_NAME = 200

State = Literal["waiting", "running", "interrupted", "failed", "done"]


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run."""

    path: Path

    @property
    def config(self) -> Path:
        """The run's configuration and where it was made."""
        return self.path / "run.json"

    @property
    def episodes(self) -> Path:
        """The training episodes."""
        return self.path / "episodes.csv"

    @property
    def evaluations(self) -> Path:
        """The evaluation episodes."""
        return self.path / "evaluations.csv"

    @property
    def updates(self) -> Path:
        """The learner's statistics, a row an update."""
        return self.path / "updates.csv"

    @property
    def policy(self) -> Path:
        """The trained policy."""
        return self.path / "policy.zip"

    @property
    def normalization(self) -> Path:
        """The statistics of the observations."""
        return self.path / "normalization.json"

    @property
    def log(self) -> Path:
        """What was printed while the run was trained, warnings of the libraries included."""
        return self.path / "log.txt"

    @property
    def tensorboard(self) -> Path:
        """The folder of TensorBoard's event files."""
        return self.path / "tensorboard"

    @property
    def lease(self) -> Path:
        """Held by the one process that writes here."""
        return self.path / ".lease"

    @property
    def _done(self) -> Path:
        return self.path / "DONE.json"

    @property
    def checkpoints(self) -> tuple[Path, Path]:
        """What an unfinished run goes on from, in two generations."""
        return self.path / "checkpoint-1.bin", self.path / "checkpoint-2.bin"

    @property
    def error(self) -> Path:
        """Why the run failed."""
        return self.path / "error.txt"

    @property
    def _progress(self) -> Path:
        return self.path / "progress.json"

    def begin(self, record: dict[str, Any]) -> None:
        """Start the run from nothing: what an unfinished one left behind is removed."""
        self.clear()
        write_json(self.config, record)

    def clear(self) -> None:
        """Remove everything but the lease; first the checkpoints, which are nothing alone."""
        for checkpoint in self.checkpoints:
            remove(checkpoint)
        if self.tensorboard.exists():
            shutil.rmtree(self.tensorboard)
        for file in self.path.iterdir():
            if file != self.lease:
                remove(file)

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
        """How far the run is; empty if it has not said so."""
        return read_json(self._progress) or {}

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
        return self.error.read_text(encoding="utf-8") if self.error.exists() else None

    def finish(self) -> None:
        """Declare the run finished: the last thing that is ever written here."""
        made = (self.config, self.episodes, self.evaluations, self.updates, self.policy)
        files = [*made, *([self.normalization] if self.normalization.exists() else [])]
        for file in files:
            sync(file)
        write_json(
            self._done,
            {"identity": self.identity(), "files": {file.name: _sha256(file) for file in files}},
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
        """Whether the run is finished: everything is there as it was written."""
        done = read_json(self._done)
        if not isinstance(done, dict) or not isinstance(done.get("files"), dict):
            return False
        # A name from the file is only ever looked up among the names of this folder.
        there = {file.name: file for file in self.path.iterdir() if file.is_file()}
        return done.get("identity") == self.identity() and all(
            name in there and _sha256(there[name]) == digest
            for name, digest in done["files"].items()
        )

    def identity(self) -> str | None:
        """The hash of the configuration that the folder holds; None if it holds none."""
        record = read_json(self.config)
        return record.get("identity") if isinstance(record, dict) else None

    def read_record(self) -> dict[str, Any]:
        """What made the run: versions, platform, identity; `files` are a finished one's hashes."""
        record, done = read_json(self.config), read_json(self._done)
        files = done.get("files") if isinstance(done, dict) else None
        return {**(record if isinstance(record, dict) else {}), "files": files or {}}

    def read_config(self) -> Any:
        """The configuration that the folder holds; None if it holds none."""
        record = read_json(self.config)
        return record.get("config") if isinstance(record, dict) else None

    def state(self) -> State:
        """What has become of the run."""
        if not self.config.exists():
            return "failed" if self.error.exists() else "waiting"
        if self.is_done():
            return "done"
        if Lease.held(self.lease):
            return "running"
        return "failed" if self.error.exists() else "interrupted"


@dataclass(frozen=True)
class StudyFolder:
    """The folder of one study."""

    path: Path

    @property
    def study(self) -> Path:
        """The study as resolved, written whenever it is trained."""
        return self.path / "study.yaml"

    @property
    def compare(self) -> Path:
        """Curves, tables and summaries of the arms."""
        return self.path / "compare"

    def compared_with(self, others: Sequence[str]) -> Path:
        """The same for the arms of this study and others together."""
        if not others:
            return self.compare
        name = f"with-{'+'.join(others)}"
        if len(name) > _LONGEST_NAME:  # of a folder, on common systems
            name = f"with-{hashlib.sha256(name.encode()).hexdigest()[:16]}"
        return self.compare / name

    @property
    def gifs(self) -> Path:
        """What the policies do."""
        return self.path / "gifs"

    @property
    def sweep(self) -> Path:
        """Response curves, heatmaps and the ranking of the sweep."""
        return self.path / "sweep"

    @property
    def check(self) -> Path:
        """What the rewards pay for, in pictures."""
        return self.path / "check"

    @property
    def report(self) -> Path:
        """The page that tells all."""
        return self.path / "report.html"

    @property
    def preview(self) -> Path:
        """The page in which the weights can be moved."""
        return self.path / "preview.html"

    def write_study(self, study: dict[str, Any]) -> None:
        """Keep the study as resolved."""
        comment = "# Written by shaperun: the study as it was trained, every default spelled out."
        write_atomically(self.study, f"{comment}\n{dump_yaml(study)}".encode())

    def run(self, arm: str, seed: int) -> RunFolder:
        """The folder of one run."""
        return RunFolder(self.path / "runs" / arm / str(seed))

    def has(self, arm: str) -> bool:
        """Whether anything was ever trained of an arm."""
        return (self.path / "runs" / arm).is_dir()

    def is_foreign(self) -> bool:
        """Whether something stands here that shaperun did not make."""
        if not self.path.exists():
            return False
        if not self.path.is_dir():
            return True
        ours = {self.check.name, self.preview.name}  # which are made before anything is trained
        return not self.study.exists() and any(
            path.name not in ours and not is_temporary(path) for path in self.path.iterdir()
        )

    def discard(self, arm: str, seed: int) -> None:
        """Delete a run for good."""
        run = self.run(arm, seed)
        if run.path.exists():
            run.clear()
            shutil.rmtree(run.path)


def study_folders(results: Path) -> Iterator[StudyFolder]:
    """Every study under the results folder, the one trained last first."""
    if results.is_dir():
        folders = (StudyFolder(path) for path in results.iterdir())
        found = [folder for folder in folders if folder.study.is_file()]
        yield from sorted(found, key=lambda folder: -folder.study.stat().st_mtime_ns)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
