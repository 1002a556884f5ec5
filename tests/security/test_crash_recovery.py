"""Runs that are killed, or refused a write, resume and end with the same bytes."""

from __future__ import annotations

import multiprocessing
import os
import resource
import shutil
import signal
import struct
from itertools import count
from pathlib import Path

import pytest

from benchmarks.crashes import fault_injection
from benchmarks.crashes.chosen_points import POINTS, kill_at_points
from benchmarks.crashes.comparison import (
    find_differences,
    find_leftovers,
    is_harmless,
)
from benchmarks.crashes.every_write import EveryWrite
from benchmarks.crashes.fork_server import ForkServer
from benchmarks.crashes.studies import tiny_run
from shaperun.common import files
from shaperun.common.files import AppendOnlyCsv, write_atomically
from shaperun.preferences.arm import add_arm_to_file
from shaperun.runs import process_pool
from shaperun.runs.process_pool import Job
from shaperun.runs.run_folder import RunFolder
from shaperun.runs.study_folder import StudyFolder
from tests.helpers.crashes import AFTER_CHECKPOINT, kill_run, resume_run
from tests.helpers.forgery import tree

pytestmark = pytest.mark.skipif(os.name == "nt", reason="needs SIGKILL")

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
    target = f"{__name__}:{work}"
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
