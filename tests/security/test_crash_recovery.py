"""Runs that are killed, or refused a write, resume and end with the same bytes."""

from __future__ import annotations

import multiprocessing
import os
import resource
import shutil
import signal
import struct
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from itertools import count
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks.crashes import fault_injection
from benchmarks.crashes.chosen_points import POINTS, kill_at_points
from benchmarks.crashes.comparison import (
    find_differences,
    find_leftovers,
    is_harmless,
    read_outcome,
)
from benchmarks.crashes.every_write import EveryWrite
from benchmarks.crashes.fork_server import NEVER, ForkServer
from benchmarks.crashes.studies import tiny_run
from shaperun.cli import progress
from shaperun.common import files
from shaperun.common.errors import UserError
from shaperun.common.files import AppendOnlyCsv, write_atomically
from shaperun.preferences.arm import add_arm_to_file
from shaperun.runs import driver, prepare, process_pool
from shaperun.runs.plan import Run, plan_runs
from shaperun.runs.process_pool import Job, JobResult, run_inline
from shaperun.runs.run_folder import RunFolder
from shaperun.runs.study_folder import StudyFolder
from shaperun.study.loader import load_study
from shaperun.study.models import parse_study
from shaperun.training import checkpoint
from tests.conftest import TINY, call_shaperun
from tests.helpers.forgery import tree

pytestmark = pytest.mark.skipif(os.name == "nt", reason="needs SIGKILL")

UNPRIVILEGED_USER = 65534
AFTER_CHECKPOINT = "die 1 after replace */checkpoint-2.bin"
as_root = pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root")


@pytest.fixture(scope="module")
def fork_server() -> Iterator[ForkServer]:
    with ForkServer() as fork_server:
        yield fork_server


@pytest.fixture(scope="module")
def expected(fork_server: ForkServer, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Return the outcome of the uninterrupted tiny run."""
    folder = RunFolder(tmp_path_factory.mktemp("whole") / "run")
    ended = fork_server.train(folder.path, tiny_run(), checkpoint_seconds=NEVER)
    assert ended.status == 0, ended.error
    return read_outcome(folder)


def kill_run(fork_server: ForkServer, folder: RunFolder, fault: str) -> None:
    assert fork_server.train(folder.path, tiny_run(), fault=fault).killed


def resume_run(fork_server: ForkServer, folder: RunFolder, expected: dict[str, bytes]) -> None:
    """Finish a run, and check that its outcome is as expected, without leftover files."""
    ended = fork_server.train(folder.path, tiny_run())
    assert ended.status == 0, ended.error
    assert find_differences(folder, expected) == []
    assert find_leftovers(folder) == []


# --- kills and errors at each step of writing


def step_of(point: str) -> str:
    """Return a point without its path."""
    when, call, _ = point.split(" ", 2)
    return f"{when} {call}"


def choose_per_step(points: list[str]) -> list[int]:
    """Return the number of one point per step, of a different file for each step if possible."""
    numbers: dict[str, dict[str, int]] = {}
    for number, point in enumerate(points, start=1):
        numbers.setdefault(step_of(point), {}).setdefault(Path(point).name, number)
    chosen = [list(files.values()) for files in numbers.values()]
    return sorted(files[index % len(files)] for index, files in enumerate(chosen))


NEW_FILES = ("create", "open", "append", "sync", "replace", "remove", "lock", "unlock")
WHEN = ("before", "after")
STEPS = {f"{when} {call}" for when in WHEN for call in NEW_FILES}


def test_a_kill_at_any_step_of_writing_is_harmless(fork_server: ForkServer, tmp_path: Path) -> None:
    run = EveryWrite(fork_server, tmp_path)
    numbers = choose_per_step(run.points)
    assert {step_of(run.points[number - 1]) for number in numbers} == STEPS
    counts = run.kill_at(numbers)
    assert counts["cases"] == len(STEPS)
    assert is_harmless(counts), counts


def test_a_kill_while_a_run_resumes_is_harmless(fork_server: ForkServer, tmp_path: Path) -> None:
    run = EveryWrite(fork_server, tmp_path, AFTER_CHECKPOINT)
    steps = [step_of(point) for point in run.points]
    names = ("before truncate", "after truncate", "after remove", "before append")
    numbers = [steps.index(name) + 1 for name in names]
    counts = run.kill_at(numbers)
    assert is_harmless(counts), counts


def test_refused_writes_are_harmless(fork_server: ForkServer, tmp_path: Path) -> None:
    run = EveryWrite(fork_server, tmp_path)
    counts = run.fail_from(choose_per_step(run.points))
    assert counts["cases"] == len(NEW_FILES) - 1  # nothing refuses an unlock
    assert is_harmless(counts), counts


def test_a_kill_at_a_chosen_point_is_harmless(fork_server: ForkServer, tmp_path: Path) -> None:
    counts = dict(kill_at_points(fork_server, tmp_path, "BipedalWalker-v3"))
    assert counts.keys() == POINTS.keys()
    assert all(is_harmless(count) for count in counts.values()), counts


# --- leftovers of a kill


def start_again(path: str) -> None:
    RunFolder(Path(path)).start({"identity": "another"})


def delete(path: str) -> None:
    StudyFolder(Path(path)).delete_run("arm", 1)


@pytest.mark.parametrize("number", [1, 2, 4, 7])
@pytest.mark.parametrize("work", ["start_again", "delete"])
def test_a_half_deleted_run_is_trained_from_scratch(
    work: str, number: int, fork_server: ForkServer, expected: dict[str, bytes], tmp_path: Path
) -> None:
    folder = StudyFolder(tmp_path).run("arm", 1)
    kill_run(fork_server, folder, AFTER_CHECKPOINT)
    where = folder.path if work == "start_again" else tmp_path
    target = f"tests.security.test_crash_recovery:{work}"
    assert fork_server.call(target, str(where), fault=f"die {number} after remove *").killed
    resume_run(fork_server, folder, expected)


@pytest.mark.parametrize("name", ["episodes.csv", "evaluations.csv", "updates.csv", "run.json"])
@pytest.mark.parametrize("how", ["missing", "shorter"])
def test_a_checkpoint_with_missing_tables_is_not_resumed(
    name: str, how: str, fork_server: ForkServer, expected: dict[str, bytes], tmp_path: Path
) -> None:
    folder = RunFolder(tmp_path / "run")
    kill_run(fork_server, folder, AFTER_CHECKPOINT)
    file = folder.path / name
    if how == "missing":
        file.unlink()
    else:
        os.truncate(file, 10)
    resume_run(fork_server, folder, expected)


def test_leftovers_of_a_finished_run_are_removed(
    fork_server: ForkServer, expected: dict[str, bytes], tmp_path: Path
) -> None:
    folder = RunFolder(tmp_path / "run")
    kill_run(fork_server, folder, "die 1 after replace */DONE.json")
    (folder.path / ".policy.zip.abc.tmp").touch()
    assert folder.read_state() == "done"
    assert len(find_leftovers(folder)) == 3
    folder.remove_leftovers()
    assert find_leftovers(folder) == []
    assert find_differences(folder, expected) == []


def test_checkpoints_of_an_unfinished_run_are_kept(fork_server: ForkServer, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    kill_run(fork_server, folder, "die 2 after sync */checkpoint-*.bin")
    (left,) = files.find_temporary_files(folder.path)
    before = set(folder.path.iterdir())
    with files.atomic_replace(folder.policy) as living:
        folder.remove_leftovers()  # as a command does that finds the run paused, or pruned
        assert set(folder.path.iterdir()) == before - {left} | {living}
        living.touch()
    assert any(path.exists() for path in folder.checkpoints)


def write_or_die(path: str) -> None:
    write_atomically(Path(path), b"x")


@pytest.mark.parametrize("point", ["after create", "before replace"])
def test_temporary_files_of_dead_writers_are_removed(
    point: str, fork_server: ForkServer, tmp_path: Path
) -> None:
    path, other = tmp_path / "table.csv", tmp_path / ".other.csv.12345678.tmp"
    other.touch()
    target = f"tests.security.test_crash_recovery:{write_or_die.__name__}"
    assert fork_server.call(target, str(path), fault=f"die 1 {point} *").killed
    assert len(files.find_temporary_files(tmp_path)) == 2
    with files.atomic_replace(path) as living:
        assert files.find_temporary_files(tmp_path) in ([living, other], [other, living])
        write_atomically(path, b"meanwhile")
        assert living.exists()
        living.write_bytes(b"at last")
    assert path.read_bytes() == b"at last"
    assert files.find_temporary_files(tmp_path) == [other]


def test_without_locks_only_old_temporary_files_are_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, old = tmp_path / ".table.csv.now.tmp", tmp_path / ".table.csv.old.tmp"
    for path in (now, old):
        path.touch()
    os.utime(old, (0, 0))
    monkeypatch.setattr(files, "fcntl", None)
    write_atomically(tmp_path / "table.csv", b"x")
    assert sorted(path.name for path in tmp_path.iterdir()) == [now.name, "table.csv"]


def test_a_file_with_other_hard_links_is_not_written_in_place(
    fork_server: ForkServer, expected: dict[str, bytes], tmp_path: Path
) -> None:
    """As after `cp -al`, which copies a results folder by linking its files."""
    folder, copy = RunFolder(tmp_path / "run"), tmp_path / "copy"
    kill_run(fork_server, folder, AFTER_CHECKPOINT)
    shutil.copytree(folder.path, copy, copy_function=os.link)
    before = tree(copy)
    ended = fork_server.train(folder.path, tiny_run())
    assert ended.error.splitlines()[-1].endswith(
        f"{folder.log}: has other hard links; replace its folder with a copy (cp -r) and run the "
        "same command again"
    )
    folder.log.unlink()
    ended = fork_server.train(folder.path, tiny_run())
    assert f"{folder.episodes}: has other hard links" in ended.error.splitlines()[-1]
    assert tree(copy) == before
    shutil.rmtree(folder.path)
    shutil.copytree(copy, folder.path)
    resume_run(fork_server, folder, expected)
    assert tree(copy) == before


def test_a_study_folder_with_only_temporary_files_is_not_foreign(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path)
    (tmp_path / ".study.yaml.abc.tmp").touch()
    assert not folder.is_foreign()
    (tmp_path / "thesis.tex").touch()
    assert folder.is_foreign()


ARMS = (
    "study: mine\nenvironment: {id: CartPole-v1}\ntraining: {total_timesteps: 9}\narms:\n  a: {}\n"
)


def add_arm(folder: Path, fault: str = "") -> bool:
    """Add an arm to a study in another process; return whether it was killed."""
    process = os.fork()
    if not process:
        if fault:
            fault_injection.install(fault_injection.Fault(fault))
        add_arm_to_file(folder / "study.yaml", "fitted", {"mode": "log"})
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == -signal.SIGKILL


def test_a_kill_at_any_step_of_adding_an_arm_leaves_a_whole_study(tmp_path: Path) -> None:
    expected = {"study.yaml": f"{ARMS}  fitted:\n    mode: log\n", "study.yaml.bak": ARMS}
    for number in count(1):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "study.yaml").write_text(ARMS)
        killed = add_arm(folder, f"die {number}")
        if (folder / "study.yaml").read_text() == ARMS:
            assert not add_arm(folder)
        left = {path.name: path.read_text() for path in folder.iterdir()}
        assert left == expected, number
        if not killed:
            break
    assert number > 15  # points before and after the calls that write two files


# --- limits of the operating system


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
    target = f"tests.security.test_crash_recovery:{fail_with_unreadable_folder.__name__}"
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


# --- the faults


def test_points_before_and_after_each_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    points: list[str] = []
    fault_injection.install(points.append, monkeypatch.setattr)
    write_atomically(tmp_path / "file", b"x")
    AppendOnlyCsv(tmp_path / "table", ["a" * 60]).close()
    calls = [f"{call} {tmp_path}/file" for call in ("create", "sync", "replace")]
    calls += [f"sync {tmp_path}"]
    calls += [f"{call} {tmp_path}/table" for call in ("open", "append", "append")]
    assert points == [f"{when} {call}" for call in calls for when in WHEN]


def test_a_refusal_persists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fault_injection.install(fault_injection.Fault("EIO 3 before append *"), monkeypatch.setattr)
    table = AppendOnlyCsv(tmp_path / "table.csv", ["a"])
    with pytest.raises(OSError, match=r"Input/output error: '.*table\.csv'"):
        table.append([{"a": "x" * 100}])
    with pytest.raises(OSError, match="Input/output error"):
        table.append([{"a": 1}])
    table.close()
    assert table.path.read_bytes() == b"a\n" + b"x" * 48


def test_errors_name_the_final_file(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError, match=r"'[^']*/folder'$"):
        write_atomically(tmp_path / "folder", b"")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_a_worker_that_dies_while_sending_its_error() -> None:
    receiver, sender = multiprocessing.Pipe(duplex=False)
    os.write(sender.fileno(), struct.pack("!i", 1000) + b"half a message")
    sender.close()
    process = multiprocessing.get_context("spawn").Process(target=os.abort)
    process.start()
    process.join()
    assert process_pool._read_error(process, receiver) == (
        "the process was killed by SIGABRT",
        True,
    )


def test_a_worker_that_cannot_start_does_not_stop_the_others(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1] / "helpers"))
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "helpers"))
    jobs = [Job("jobs:write", (str(tmp_path / name), name)) for name in "ab"]
    events = process_pool.run_in_processes(jobs, 1, preload="jobs")
    results = [next(events)]  # the first job has started
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, before[1]))
    try:
        results += events
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    errors = {event.job: event.error for event in results if event}
    assert errors[jobs[0]] is None
    assert "Too many open files" in (errors[jobs[1]] or "")
