"""Files and folders of one study."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shaperun.common.errors import UserError
from shaperun.common.files import explain_disk_error, is_temporary, read_regular, write_atomically
from shaperun.common.yaml import MAX_SIZE, dump_yaml
from shaperun.runs.entry import Entry, safe_join
from shaperun.runs.run_folder import RunFolder

_MAX_NAME_LENGTH = 200  # of a folder, on common file systems


@dataclass(frozen=True)
class StudyFolder:
    """The folder of one study."""

    path: Path

    study = Entry("study.yaml", "The resolved study; written whenever it is trained.")
    sweep_record = Entry("search/search.json", "Settings that determine the trials of a sweep.")
    trials = Entry("search/trials.csv", "Trials drawn so far, one per line.")
    sweep_lock = Entry("search/.lease", "Lock of the command that runs the sweep.")
    compare = Entry("compare", "Curves, tables and summaries of arms.")
    gifs = Entry("gifs", "Animations of the policies.")
    sweep = Entry("sweep", "Ranking, response curves and heatmaps of a sweep.")
    check = Entry("check", "Figures of the returns of behaviors.")
    report = Entry("report.html", "Report page.")
    preview = Entry("preview.html", "Page with a slider per weight.")
    ask = Entry("ask.html", "Page that asks for preferences between episodes.")

    def comparison_folder(self, others: Sequence[str]) -> Path:
        """Return the folder for a comparison with other studies."""
        if not others:
            return self.compare
        name = f"with-{'+'.join(others)}"
        if len(name) > _MAX_NAME_LENGTH:
            name = f"with-{hashlib.sha256(name.encode()).hexdigest()[:16]}"
        return safe_join(self.path, "compare", name)

    def delete_trials(self) -> None:
        """Delete the trials of a sweep, but not their runs."""
        for file in (self.trials, self.sweep_record):
            file.unlink(missing_ok=True)

    def write_study(self, study: dict[str, Any]) -> None:
        """Write the resolved study."""
        comment = "# Written by shaperun: the study as it was trained, every default spelled out."
        write_atomically(self.study, f"{comment}\n{dump_yaml(study)}".encode())

    def read_study(self) -> str:
        """Return the resolved study in YAML; empty if it cannot be read."""
        try:
            return read_regular(self.study, MAX_SIZE).decode(errors="replace")
        except OSError:
            return ""

    def run(self, arm: str, seed: int) -> RunFolder:
        """Return the folder of one run."""
        return RunFolder(safe_join(self.path, "runs", arm, str(seed)))

    def has_runs(self, arm: str) -> bool:
        """Return whether any run of an arm was started."""
        return safe_join(self.path, "runs", arm).is_dir()

    def is_foreign(self) -> bool:
        """Return whether the folder holds something that shaperun did not write."""
        if not self.path.exists():
            return False
        if not self.path.is_dir():
            return True
        # These are written before anything is trained, or left if the folder is removed meanwhile.
        ours = {self.check.name, self.preview.name, self.ask.name}
        return not self.study.exists() and any(
            path.name not in ours and not is_temporary(path) and not self._is_left_over(path)
            for path in self.path.iterdir()
        )

    def _is_left_over(self, path: Path) -> bool:
        """Return whether a folder holds only runs and trials, complete or not."""
        if path.name not in ("runs", "search") or path.is_symlink() or not path.is_dir():
            return False
        files = (file for file in path.rglob("*") if not file.is_dir() or file.is_symlink())
        left = {"error.txt", ".lease", "log.txt", self.trials.name, self.sweep_record.name}
        return all(
            file.name in left
            or is_temporary(file)
            or any(RunFolder(f).config.is_file() for f in file.parents[:2])
            for file in files
        )

    def delete_run(self, arm: str, seed: int) -> None:
        """Delete the folder of a run."""
        run = self.run(arm, seed)
        if run.path.exists():
            run.clear()
            shutil.rmtree(run.path)


@contextmanager
def writing(target: Path) -> Iterator[None]:
    """Check that a file or folder can be written, and turn file system errors into one message.

    Raises:
        UserError: it cannot be written, at the start or later; the message names the path.
    """
    folder = target.parent if target.is_file() else target
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not os.access(existing, os.W_OK | os.X_OK):
        raise UserError(f"cannot write into {existing}; check the write permissions")
    try:
        yield
    except BrokenPipeError:  # of our output
        raise
    except OSError as error:
        why = explain_disk_error(error, target) or f"{error.filename or target}: {error.strerror}"
        raise UserError(f"cannot write {why}") from None


def list_study_folders(results: Path) -> Iterator[StudyFolder]:
    """Yield every study in a results folder, the most recently trained first."""
    if results.is_dir():
        files = (path / "study.yaml" for path in results.iterdir() if not path.is_symlink())
        studies = [file for file in files if file.is_file() and not file.is_symlink()]
        for file in sorted(studies, key=lambda file: -file.stat().st_mtime_ns):
            yield StudyFolder(file.parent)
