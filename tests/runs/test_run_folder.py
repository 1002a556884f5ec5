from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from shaperun.common.files import Lock, write_json
from shaperun.runs.run_folder import RunFolder
from shaperun.runs.study_folder import StudyFolder, study_folders


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> RunFolder:
    """A finished run that a test may spoil."""
    source = StudyFolder(trained / "results" / "tiny").run("default", 0)
    return RunFolder(Path(shutil.copytree(source.path, tmp_path / "run")))


def test_a_finished_run_is_done(run: RunFolder) -> None:
    assert run.state() == "done"


@pytest.mark.parametrize("name", ["policy.zip", "evaluations.csv", "episodes.csv", "run.json"])
def test_a_run_is_done_only_while_everything_is_as_it_was_written(
    run: RunFolder, name: str
) -> None:
    file = run.path / name
    file.write_bytes(file.read_bytes() + b" ")
    assert run.state() == run.state(by_size=True) == "interrupted"
    file.unlink()
    assert run.state() == run.state(by_size=True)
    assert run.state() in ("interrupted", "waiting")


def test_files_of_the_right_size_are_only_read_where_it_matters(run: RunFolder) -> None:
    run.policy.write_bytes(run.policy.read_bytes()[::-1])
    assert (run.state(by_size=True), run.state()) == ("done", "interrupted")
    done = json.loads((run.path / "DONE.json").read_text())
    del done["bytes"]  # as in runs of before there were any
    write_json(run.path / "DONE.json", done)
    assert run.state(by_size=True) == "interrupted"


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"files": 3}', '{"files": {"../policy.zip": "0"}}']
)
def test_a_forged_done_is_no_done(run: RunFolder, text: str) -> None:
    (run.path / "DONE.json").write_text(text)
    assert run.state() == "interrupted"


def test_the_states_of_a_run(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    assert run.state() == "waiting"
    run.path.mkdir()
    run.start({"identity": "x", "config": {"a": 1}})
    assert run.state() == "interrupted"
    assert (run.identity(), run.read_config()) == ("x", {"a": 1})
    lease = Lock(run.lock)
    assert lease.acquire()
    assert run.state() == "running"
    lease.release()
    run.fail("Traceback\nValueError: no")
    assert run.state() == "failed"
    assert run.failure() == "Traceback\nValueError: no"
    run.start({"identity": "y"})
    assert run.state() == "interrupted"
    assert run.failure() is None


def test_reading_writes_nothing(run: RunFolder) -> None:
    before = {path: path.stat() for path in run.path.iterdir()}
    run.state()
    run.failure()
    run.read_progress()
    after = {path: path.stat() for path in run.path.iterdir()}
    assert {p: (s.st_mtime_ns, s.st_size) for p, s in before.items()} == {
        p: (s.st_mtime_ns, s.st_size) for p, s in after.items()
    }


def test_a_folder_that_is_not_ours_is_foreign(tmp_path: Path) -> None:
    assert not StudyFolder(tmp_path / "missing").is_foreign()
    assert not StudyFolder(tmp_path).is_foreign()  # empty
    (tmp_path / "thesis.tex").write_text("x")
    assert StudyFolder(tmp_path).is_foreign()
    assert StudyFolder(tmp_path / "thesis.tex").is_foreign()


def test_the_study_trained_last_comes_first(tmp_path: Path) -> None:
    for name in ("one", "two", "one"):
        StudyFolder(tmp_path / name).write_study({"study": name})
    assert [folder.path.name for folder in study_folders(tmp_path)] == ["one", "two"]
    assert list(study_folders(tmp_path / "missing")) == []
