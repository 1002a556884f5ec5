"""The folder of one study: the names of its files and folders."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shaperun.common.errors import UserError
from shaperun.common.files import is_temporary, read_regular, remove, write_atomically
from shaperun.common.yaml import MAX_SIZE, dump_yaml
from shaperun.runs.entry import Entry, path_inside
from shaperun.runs.run_folder import RunFolder

_LONGEST_NAME = 200  # of a folder, on common systems


@dataclass(frozen=True)
class StudyFolder:
    """The folder of one study."""

    path: Path

    study = Entry("study.yaml", "The study as resolved, written whenever it is trained.")
    search = Entry("search/search.json", "What a search looks for, written when it begins.")
    trials = Entry("search/trials.csv", "The trials that a search has drawn, one per line.")
    search_lock = Entry("search/.lease", "Held by the command that searches.")
    compare = Entry("compare", "Curves, tables and summaries of the arms.")
    gifs = Entry("gifs", "Films of the policies.")
    sweep = Entry("sweep", "Response curves, heatmaps and the ranking of a sweep.")
    check = Entry("check", "Figures of what the rewards pay for.")
    report = Entry("report.html", "The report.")
    preview = Entry("preview.html", "The page with a slider per weight.")
    ask = Entry("ask.html", "The page that asks which of two episodes is better.")

    def compared_with(self, others: Sequence[str]) -> Path:
        """Return the folder for a comparison with other studies."""
        if not others:
            return self.compare
        name = f"with-{'+'.join(others)}"
        if len(name) > _LONGEST_NAME:
            name = f"with-{hashlib.sha256(name.encode()).hexdigest()[:16]}"
        return path_inside(self.path, "compare", name)

    def delete_trials(self) -> None:
        """Delete the trials of a search; their runs stay."""
        for file in (self.trials, self.search):
            remove(file)

    def write_study(self, study: dict[str, Any]) -> None:
        """Write the study as resolved."""
        comment = "# Written by shaperun: the study as it was trained, every default spelled out."
        write_atomically(self.study, f"{comment}\n{dump_yaml(study)}".encode())

    def read_study(self) -> str:
        """Return the study as resolved, in YAML; empty if there is none."""
        try:
            return read_regular(self.study, MAX_SIZE).decode(errors="replace")
        except OSError:
            return ""

    def run(self, arm: str, seed: int) -> RunFolder:
        """Return the folder of one run."""
        return RunFolder(path_inside(self.path, "runs", arm, str(seed)))

    def has_runs(self, arm: str) -> bool:
        """Return whether any run of an arm was ever started."""
        return path_inside(self.path, "runs", arm).is_dir()

    def is_foreign(self) -> bool:
        """Return whether the folder holds something that shaperun did not write."""
        if not self.path.exists():
            return False
        if not self.path.is_dir():
            return True
        # Written before anything is trained.
        ours = {self.check.name, self.preview.name, self.ask.name}
        return not self.study.exists() and any(
            path.name not in ours and not is_temporary(path) for path in self.path.iterdir()
        )

    def delete_run(self, arm: str, seed: int) -> None:
        """Delete a run."""
        run = self.run(arm, seed)
        if run.path.exists():
            run.clear()
            shutil.rmtree(run.path)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Turn errors of the file system into one message.

        Raises:
            UserError: a file cannot be written.
        """
        try:
            yield
        except OSError as error:
            raise UserError(f"cannot write into {self.path}: {error.strerror}") from None


def study_folders(results: Path) -> Iterator[StudyFolder]:
    """Yield every study under the results folder, the most recently trained first."""
    if results.is_dir():
        folders = (StudyFolder(path) for path in results.iterdir() if not path.is_symlink())
        found = [folder for folder in folders if _is_regular(folder.path / "study.yaml")]
        yield from sorted(found, key=lambda folder: -folder.study.stat().st_mtime_ns)


def _is_regular(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()
