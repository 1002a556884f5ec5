"""Writes that the system refuses: one message, and runs that resume and end with the same bytes."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks.crashes import fault_injection
from benchmarks.crashes.comparison import (
    find_differences,
    find_leftovers,
    read_outcome,
)
from benchmarks.crashes.fork_server import NEVER, ForkServer
from benchmarks.crashes.studies import tiny_run
from shaperun.cli import progress
from shaperun.common.errors import UserError
from shaperun.runs import driver, prepare
from shaperun.runs.plan import Run, plan_runs
from shaperun.runs.process_pool import Job, JobResult, run_inline
from shaperun.runs.run_folder import RunFolder
from shaperun.runs.study_folder import StudyFolder
from shaperun.study.loader import load_study
from shaperun.study.models import parse_study
from shaperun.training import checkpoint
from tests.conftest import TINY, call_shaperun
from tests.helpers.crashes import AFTER_CHECKPOINT, UNPRIVILEGED_USER, as_root, kill_run, resume_run

pytestmark = pytest.mark.skipif(os.name == "nt", reason="needs SIGKILL")


def test_a_file_size_limit_in_the_middle_of_a_row(
    fork_server: ForkServer, expected: dict[str, bytes], tmp_path: Path
) -> None:
    """The system writes some rows and a part of the next, and refuses the rest."""
    folder, table = RunFolder(tmp_path / "run"), expected["evaluations.csv"]
    kill_run(fork_server, folder, AFTER_CHECKPOINT)
    limit = len(table) - 30
    assert table[limit - 1 : limit] != b"\n"
    before = checkpoint.load_latest(folder.checkpoints)
    ended = fork_server.train(
        folder.path, tiny_run(), max_file_size=limit, checkpoint_seconds=NEVER
    )
    assert ended.status == 1
    assert ended.error.endswith(
        f"shaperun.common.errors.UserError: {folder.evaluations}: File too large; "
        "allow larger files (ulimit -f) and run the same command again\n"
    )
    assert folder.evaluations.read_bytes() == table[:limit]
    assert checkpoint.load_latest(folder.checkpoints) is not None
    assert before is not None
    resume_run(fork_server, folder, expected)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """Return a folder that every user may enter, owned by an unprivileged user."""
    with tempfile.TemporaryDirectory() as name:
        os.chown(name, UNPRIVILEGED_USER, UNPRIVILEGED_USER)
        Path(name).chmod(0o755)
        yield Path(name)


@as_root
def test_a_folder_that_becomes_read_only(
    fork_server: ForkServer, expected: dict[str, bytes], open_folder: Path
) -> None:
    folder, run = RunFolder(open_folder / "run"), tiny_run()
    killed = fork_server.train(folder.path, run, user=UNPRIVILEGED_USER, fault=AFTER_CHECKPOINT)
    assert killed.killed, killed
    before = [path.read_bytes() for path in folder.checkpoints]
    folder.path.chmod(0o555)
    ended = fork_server.train(folder.path, run, user=UNPRIVILEGED_USER)
    assert ended.error.splitlines()[-1] == (
        f"shaperun.common.errors.UserError: {folder.checkpoints[0]}: Permission denied; check "
        "the write permissions and run the same command again"
    )
    assert [path.read_bytes() for path in folder.checkpoints] == before
    folder.path.chmod(0o755)
    resume_run(fork_server, folder, expected)


def fail_with_unreadable_folder(path: str) -> None:
    """Let two runs fail when the folder of the first has become unreadable."""
    folder, runs = _two_runs(Path(path))
    unreadable = folder.run("default", 0).path
    unreadable.mkdir(parents=True)

    def failing(jobs: Iterable[Job]) -> Iterator[JobResult | None]:
        unreadable.chmod(0)
        for job in list(jobs):
            yield JobResult(job, "ValueError: on purpose")

    *_, last = driver.execute_runs(folder, runs, failing)
    unreadable.chmod(0o755)
    assert [run.state for run in last] == ["failed", "failed"]
    assert last[0].failure == f"ValueError: on purpose\ncannot read {unreadable}: Permission denied"
    assert folder.run("default", 1).read_failure() == "ValueError: on purpose"


def _two_runs(path: Path) -> tuple[StudyFolder, list[Run]]:
    study = parse_study(TINY | {"arms": {"default": {}}})
    return StudyFolder(path / "tiny"), plan_runs(study, study.arms)


@as_root
def test_a_run_with_an_unreadable_folder_does_not_stop_the_others(
    fork_server: ForkServer, open_folder: Path
) -> None:
    target = f"{__name__}:{fail_with_unreadable_folder.__name__}"
    ended = fork_server.call(target, str(open_folder), user=UNPRIVILEGED_USER)
    assert ended.status == 0, ended.error


@pytest.mark.parametrize(
    ("pattern", "details"),
    [
        ("before append */default/0/episodes.csv", "{folder}/error.txt"),
        ("* */default/0/*", "and error.txt cannot be written: No space left on device"),
    ],
    ids=["one file", "no file"],
)
def test_a_refused_write_is_reported_in_one_line_and_other_runs_finish(
    pattern: str,
    details: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder, runs = _two_runs(tmp_path)
    first, second = (folder.run("default", seed) for seed in (0, 1))
    fault_injection.install(fault_injection.Fault(f"ENOSPC 3 {pattern}"), monkeypatch.setattr)
    *_, last = driver.execute_runs(folder, runs, run_inline)
    assert [run.state for run in last] == ["failed", "done"]
    assert progress.print_outcome(folder, last, Console(quiet=True)) == 1
    message = capsys.readouterr().err
    assert message.startswith(f"default/0 failed: {first.path}")
    assert ": No space left on device; free some space and run the same command again" in message
    assert details.format(folder=first.path) in message
    assert message.count("\n") == 1
    if first.error.exists():
        assert "Traceback" in (first.read_failure() or "")
    monkeypatch.undo()
    *_, last = driver.execute_runs(folder, runs, run_inline)
    assert [run.state for run in last] == ["done", "done"]
    assert (find_leftovers(first), find_leftovers(second)) == ([], [])
    assert not first.error.exists()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a disk with room for one run but not two."""
    path = tmp_path / "results"
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(path)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("cannot mount a file system")
    yield path
    subprocess.run(["umount", path], check=True)


@as_root
def test_a_run_resumes_after_a_full_disk(small_disk: Path, tiny_file: Path, trained: Path) -> None:
    command = ["train", "tiny.yaml", "--arms", "default", "--workers", "1"]
    done = call_shaperun(*command, cwd=tiny_file.parent)
    assert done.returncode == 1, done.stderr
    assert "No space left on device; free some space and run the same" in done.stderr
    assert "1 of 2 runs finished" in done.stderr
    assert "Traceback" not in done.stderr
    subprocess.run(["mount", "-o", "remount,size=20m", small_disk], check=True)
    again = call_shaperun(*command, cwd=tiny_file.parent)
    assert again.returncode == 0, again.stderr
    for seed in (0, 1):
        folder = StudyFolder(small_disk / "tiny").run("default", seed)
        complete = StudyFolder(trained / "results" / "tiny").run("default", seed)
        assert find_differences(folder, read_outcome(complete)) == []
        assert find_leftovers(folder) == []
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    study = load_study(tiny_file)
    with pytest.raises(UserError, match=r"study.yaml: Read-only file system; make it writable and"):
        prepare.prepare(study, StudyFolder(small_disk / "tiny"), [], fresh=False)


def test_files_are_synced_before_a_run_is_marked_done(
    fork_server: ForkServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = RunFolder(tmp_path / "run")
    kill_run(fork_server, folder, "die 1 before create */DONE.json")
    synced, fsync = [], os.fsync

    def spy(handle: int) -> None:
        synced.append(Path(f"/proc/self/fd/{handle}").readlink().name)
        fsync(handle)

    monkeypatch.setattr(os, "fsync", spy)
    folder.finish()
    *before, done, _ = synced
    assert done.startswith(".DONE.json.")
    assert set(before) == folder.read_record()["files"].keys()
