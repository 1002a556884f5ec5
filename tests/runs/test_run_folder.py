from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from shaperun.common.files import Lock, write_json
from shaperun.runs.run_folder import RunFolder
from shaperun.runs.study_folder import StudyFolder, list_study_folders


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> RunFolder:
    """Copy a finished run that a test may change."""
    source = StudyFolder(trained / "results" / "tiny").run("default", 0)
    return RunFolder(Path(shutil.copytree(source.path, tmp_path / "run")))


def test_a_finished_run_is_done(run: RunFolder) -> None:
    assert run.read_state() == "done"


@pytest.mark.parametrize("name", ["policy.zip", "evaluations.csv", "episodes.csv", "run.json"])
def test_a_run_with_a_changed_file_is_not_done(run: RunFolder, name: str) -> None:
    file = run.path / name
    file.write_bytes(file.read_bytes() + b" ")
    assert run.read_state() == run.read_state(by_size=True) == "interrupted"
    file.unlink()
    assert run.read_state() == run.read_state(by_size=True)
    assert run.read_state() in ("interrupted", "waiting")


def test_by_size_compares_only_sizes(run: RunFolder) -> None:
    run.policy.write_bytes(run.policy.read_bytes()[::-1])
    assert (run.read_state(by_size=True), run.read_state()) == ("done", "interrupted")
    done = json.loads((run.path / "DONE.json").read_text())
    del done["bytes"]  # as in runs of earlier versions
    write_json(run.path / "DONE.json", done)
    assert run.read_state(by_size=True) == "interrupted"


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"files": 3}', '{"files": {"../policy.zip": "0"}}']
)
def test_an_invalid_done_file_is_ignored(run: RunFolder, text: str) -> None:
    (run.path / "DONE.json").write_text(text)
    assert run.read_state() == "interrupted"


def test_states_of_a_run(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    assert run.read_state() == "waiting"
    run.path.mkdir()
    run.start({"identity": "x", "config": {"a": 1}})
    assert run.read_state() == "interrupted"
    assert (run.read_identity(), run.read_config()) == ("x", {"a": 1})
    lock = Lock(run.lock)
    assert lock.acquire()
    assert run.read_state() == "running"
    lock.release()
    run.write_failure("Traceback\nValueError: no")
    assert run.read_state() == "failed"
    assert run.read_failure() == "Traceback\nValueError: no"
    run.start({"identity": "y"})
    assert run.read_state() == "interrupted"
    assert run.read_failure() is None


def test_reading_writes_nothing(run: RunFolder) -> None:
    before = {path: path.stat() for path in run.path.iterdir()}
    run.read_state()
    run.read_failure()
    run.read_progress()
    after = {path: path.stat() for path in run.path.iterdir()}
    assert {p: (s.st_mtime_ns, s.st_size) for p, s in before.items()} == {
        p: (s.st_mtime_ns, s.st_size) for p, s in after.items()
    }


def test_a_folder_with_other_files_is_foreign(tmp_path: Path) -> None:
    assert not StudyFolder(tmp_path / "missing").is_foreign()
    assert not StudyFolder(tmp_path).is_foreign()  # empty
    (tmp_path / "thesis.tex").write_text("x")
    assert StudyFolder(tmp_path).is_foreign()
    assert StudyFolder(tmp_path / "thesis.tex").is_foreign()


def test_the_most_recently_trained_study_comes_first(tmp_path: Path) -> None:
    for name in ("one", "two", "one"):
        StudyFolder(tmp_path / name).write_study({"study": name})
    assert [folder.path.name for folder in list_study_folders(tmp_path)] == ["one", "two"]
    assert list(list_study_folders(tmp_path / "missing")) == []
