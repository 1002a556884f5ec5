"""Whatever a run is doing when it is killed or refused, it goes on and ends in the same bytes."""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks.crashes.chosen_points import MOMENTS, kills
from benchmarks.crashes.comparison import differences, leftovers, outcome
from benchmarks.crashes.every_write import Passings
from benchmarks.crashes.fork_server import NEVER, Nursery
from benchmarks.crashes.studies import tiny
from shaperun.cli import progress
from shaperun.common import fault_injection, files
from shaperun.common.errors import UserError
from shaperun.common.files import AppendOnlyCsv, write_atomically
from shaperun.runs import driver, prepare, process_pool
from shaperun.runs.plan import Run, planned_runs
from shaperun.runs.process_pool import Finished, Job, run_inline
from shaperun.runs.run_folder import RunFolder
from shaperun.runs.study_folder import StudyFolder
from shaperun.study.loader import load_study
from shaperun.study.models import parse_study
from shaperun.training import checkpoint
from tests.conftest import TINY, call_shaperun

pytestmark = pytest.mark.skipif(os.name == "nt", reason="there is no SIGKILL")

NOBODY = 65534
as_root = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root may do that"
)


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    with Nursery() as nursery:
        yield nursery


@pytest.fixture(scope="module")
def expected(nursery: Nursery, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The outcome of the tiny run where nobody disturbs it."""
    folder = RunFolder(tmp_path_factory.mktemp("whole") / "run")
    ended = nursery.train(folder.path, tiny(), keep_seconds=NEVER)
    assert ended.status == 0, ended.error
    return outcome(folder)


def goes_on(nursery: Nursery, folder: RunFolder, expected: dict[str, bytes]) -> None:
    """The run ends as if nothing had been, and leaves nothing behind."""
    ended = nursery.train(folder.path, tiny())
    assert ended.status == 0, ended.error
    assert differences(folder, expected) == []
    assert leftovers(folder) == []


# --- at every kind of point


def one_of_each_step(points: list[str]) -> list[int]:
    """The number of one point of each step, in another file from step to step."""
    numbers: dict[str, dict[str, int]] = {}
    for number, point in enumerate(points, start=1):
        step, _, path = point.partition(" ")
        numbers.setdefault(step, {}).setdefault(Path(path).name, number)
    chosen = [list(files.values()) for files in numbers.values()]
    return sorted(files[place % len(files)] for place, files in enumerate(chosen))


STEPS = {
    *("make", "made", "written", "synced", "replaced", "kept"),
    *("open", "append", "settle", "take", "taken", "release", "released", "remove", "removed"),
}


def test_a_kill_at_any_step_of_writing_does_no_harm(nursery: Nursery, tmp_path: Path) -> None:
    passings = Passings(nursery, tmp_path)
    numbers = one_of_each_step(passings.points)
    assert {passings.points[number - 1].split()[0] for number in numbers} == STEPS
    counts = passings.kills(numbers)
    assert counts.cases == len(STEPS)
    assert counts.harmless, counts


def test_a_kill_while_a_run_goes_on_does_no_harm(nursery: Nursery, tmp_path: Path) -> None:
    passings = Passings(nursery, tmp_path, "die 1 replaced */checkpoint-2.bin")
    steps = [point.split()[0] for point in passings.points]
    numbers = [steps.index(step) + 1 for step in ("truncated", "removed", "append", "settle")]
    counts = passings.kills(numbers)
    assert counts.harmless, counts


def test_whatever_is_refused_can_be_made_good(nursery: Nursery, tmp_path: Path) -> None:
    passings = Passings(nursery, tmp_path)
    counts = passings.errors(one_of_each_step(passings.points)[::2])
    assert counts.cases == 8
    assert counts.harmless, counts


def test_a_kill_at_a_moment_that_matters_does_no_harm(nursery: Nursery, tmp_path: Path) -> None:
    counts = dict(kills(nursery, tmp_path, "BipedalWalker-v3"))  # `make soak` takes more of them
    assert counts.keys() == MOMENTS.keys()
    assert all(count.harmless for count in counts.values()), counts


# --- what a kill leaves in a folder


def begin(path: str) -> None:
    RunFolder(Path(path)).start({"identity": "another"})


def discard(path: str) -> None:
    StudyFolder(Path(path)).delete_run("arm", 1)


@pytest.mark.parametrize("number", [1, 2, 4, 7])
@pytest.mark.parametrize("work", ["begin", "discard"])
def test_a_run_that_was_half_deleted_begins_anew(
    work: str, number: int, nursery: Nursery, expected: dict[str, bytes], tmp_path: Path
) -> None:
    folder = StudyFolder(tmp_path).run("arm", 1)
    assert nursery.train(folder.path, tiny(), fault="die 1 kept */checkpoint-2.bin").killed
    where = folder.path if work == "begin" else tmp_path
    target = f"tests.security.test_crash_recovery:{work}"
    assert nursery.call(target, str(where), fault=f"die {number} removed *").killed
    goes_on(nursery, folder, expected)


@pytest.mark.parametrize("name", ["episodes.csv", "evaluations.csv", "updates.csv", "run.json"])
@pytest.mark.parametrize("how", ["missing", "shorter"])
def test_a_checkpoint_whose_tables_are_gone_is_not_gone_on_from(
    name: str, how: str, nursery: Nursery, expected: dict[str, bytes], tmp_path: Path
) -> None:
    folder = RunFolder(tmp_path / "run")
    assert nursery.train(folder.path, tiny(), fault="die 1 kept */checkpoint-2.bin").killed
    file = folder.path / name
    if how == "missing":
        file.unlink()
    else:
        os.truncate(file, 10)
    goes_on(nursery, folder, expected)


def test_what_a_finished_run_left_is_removed_by_the_next_command(
    nursery: Nursery, expected: dict[str, bytes], tmp_path: Path
) -> None:
    folder = RunFolder(tmp_path / "run")
    assert nursery.train(folder.path, tiny(), fault="die 1 kept */DONE.json").killed
    (folder.path / ".policy.zip.abc.tmp").touch()
    assert folder.state() == "done"
    assert len(leftovers(folder)) == 3
    folder.tidy()
    assert leftovers(folder) == []
    assert differences(folder, expected) == []


def test_an_unfinished_run_is_not_tidied(nursery: Nursery, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    assert nursery.train(folder.path, tiny(), fault="die 2 synced */checkpoint-*.bin").killed
    before = sorted(folder.path.iterdir())
    folder.tidy()
    assert sorted(folder.path.iterdir()) == before
    assert any(files.is_temporary(path) for path in before)


def test_only_what_nobody_can_be_writing_is_removed_from_a_shared_folder(tmp_path: Path) -> None:
    now, old = tmp_path / ".table.csv.now.tmp", tmp_path / ".table.csv.old.tmp"
    other = tmp_path / ".other.csv.old.tmp"
    for path in (now, old, other):
        path.touch()
    for path in (old, other):
        os.utime(path, (0, 0))
    write_atomically(tmp_path / "table.csv", b"x")
    assert sorted(path.name for path in tmp_path.iterdir()) == [other.name, now.name, "table.csv"]


def test_a_study_whose_first_write_was_killed_is_still_ours(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path)
    (tmp_path / ".study.yaml.abc.tmp").touch()
    assert not folder.is_foreign()
    (tmp_path / "thesis.tex").touch()
    assert folder.is_foreign()


# --- limits that are real


def test_a_limit_in_the_middle_of_a_row(
    nursery: Nursery, expected: dict[str, bytes], tmp_path: Path
) -> None:
    """The system takes some of the rows and a part of one more, and refuses the rest."""
    folder, table = RunFolder(tmp_path / "run"), expected["evaluations.csv"]
    assert nursery.train(folder.path, tiny(), fault="die 1 kept */checkpoint-2.bin").killed
    limit = len(table) - 30
    assert table[limit - 1 : limit] != b"\n"
    kept = checkpoint.latest(folder.checkpoints)
    ended = nursery.train(folder.path, tiny(), largest_file=limit, keep_seconds=NEVER)
    assert ended.status == 1
    assert ended.error.endswith(
        f"shaperun.common.errors.UserError: {folder.evaluations}: File too large; "
        "allow larger files (ulimit -f) and give the same command again\n"
    )
    assert folder.evaluations.read_bytes() == table[:limit]
    assert checkpoint.latest(folder.checkpoints) is not None
    assert kept is not None
    goes_on(nursery, folder, expected)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that everybody may enter, and that is nobody's."""
    with tempfile.TemporaryDirectory() as name:
        os.chown(name, NOBODY, NOBODY)
        Path(name).chmod(0o755)
        yield Path(name)


@as_root
def test_a_folder_that_may_no_longer_be_written(
    nursery: Nursery, expected: dict[str, bytes], open_folder: Path
) -> None:
    folder, run = RunFolder(open_folder / "run"), tiny()
    killed = nursery.train(folder.path, run, user=NOBODY, fault="die 1 kept */checkpoint-2.bin")
    assert killed.killed, killed
    kept = [path.read_bytes() for path in folder.checkpoints]
    folder.path.chmod(0o555)
    ended = nursery.train(folder.path, run, user=NOBODY)
    assert ended.error.splitlines()[-1] == (
        f"shaperun.common.errors.UserError: {folder.checkpoints[0]}: Permission denied; see to it "
        "that you may write there and give the same command again"
    )
    assert [path.read_bytes() for path in folder.checkpoints] == kept
    folder.path.chmod(0o755)
    goes_on(nursery, folder, expected)


def drive_into_the_dark(path: str) -> None:
    """Two runs fail; by then the folder of the first cannot even be read."""
    folder, runs = _two_runs(Path(path))
    dark = folder.run("default", 0).path
    dark.mkdir(parents=True)

    def failing(jobs: Iterable[Job]) -> Iterator[Finished | None]:
        dark.chmod(0)
        for job in list(jobs):
            yield Finished(job, "ValueError: on purpose")

    *_, last = driver.drive(folder, runs, failing)
    dark.chmod(0o755)
    assert [run.state for run in last] == ["failed", "failed"]
    assert last[0].failure == f"ValueError: on purpose\ncannot read {dark}: Permission denied"
    assert folder.run("default", 1).failure() == "ValueError: on purpose"


def _two_runs(path: Path) -> tuple[StudyFolder, list[Run]]:
    study = parse_study(TINY | {"arms": {"default": {}}})
    return StudyFolder(path / "tiny"), planned_runs(study, study.arms)


@as_root
def test_a_run_whose_folder_cannot_be_read_does_not_stop_the_others(
    nursery: Nursery, open_folder: Path
) -> None:
    target = f"tests.security.test_crash_recovery:{drive_into_the_dark.__name__}"
    ended = nursery.call(target, str(open_folder), user=NOBODY)
    assert ended.status == 0, ended.error


@pytest.mark.parametrize(
    ("pattern", "story"),
    [
        ("append */default/0/episodes.csv", "{folder}/error.txt"),
        ("* */default/0/*", "and error.txt cannot be written: No space left on device"),
    ],
    ids=["one file", "nothing at all"],
)
def test_a_refusal_is_told_in_one_line_and_the_others_finish(
    pattern: str,
    story: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder, runs = _two_runs(tmp_path)
    first, second = (folder.run("default", seed) for seed in (0, 1))
    monkeypatch.setattr(
        fault_injection, "active_fault", fault_injection.Fault(f"ENOSPC 3 {pattern}")
    )
    *_, last = driver.drive(folder, runs, run_inline)
    assert [run.state for run in last] == ["failed", "done"]
    assert progress.print_outcome(folder, last, Console(quiet=True)) == 1
    told = capsys.readouterr().err
    assert told.startswith(f"default/0 failed: {first.path}")
    assert ": No space left on device; free some space and give the same command again" in told
    assert story.format(folder=first.path) in told
    assert told.count("\n") == 1
    if first.error.exists():
        assert "Traceback" in (first.failure() or "")
    monkeypatch.setattr(fault_injection, "active_fault", None)
    *_, last = driver.drive(folder, runs, run_inline)
    assert [run.state for run in last] == ["done", "done"]
    assert (leftovers(first), leftovers(second)) == ([], [])
    assert not first.error.exists()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk that takes one run and not two."""
    path = tmp_path / "results"
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(path)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("nothing can be mounted here")
    yield path
    subprocess.run(["umount", path], check=True)


@as_root
def test_a_disk_that_is_really_full(small_disk: Path, tiny_file: Path, trained: Path) -> None:
    command = ["train", "tiny.yaml", "--arms", "default", "--workers", "1"]
    done = call_shaperun(*command, cwd=tiny_file.parent)
    assert done.returncode == 1, done.stderr
    assert "No space left on device; free some space and give the same" in done.stderr
    assert "1 of 2 runs finished" in done.stderr
    assert "Traceback" not in done.stderr
    subprocess.run(["mount", "-o", "remount,size=20m", small_disk], check=True)
    again = call_shaperun(*command, cwd=tiny_file.parent)
    assert again.returncode == 0, again.stderr
    for seed in (0, 1):
        folder = StudyFolder(small_disk / "tiny").run("default", seed)
        calm = StudyFolder(trained / "results" / "tiny").run("default", seed)
        assert differences(folder, outcome(calm)) == []
        assert leftovers(folder) == []
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    study = load_study(tiny_file)
    with pytest.raises(UserError, match=r"study.yaml: Read-only file system; make it writable and"):
        prepare.prepare(study, StudyFolder(small_disk / "tiny"), [], fresh=False)


def test_what_a_finished_run_consists_of_is_on_the_disk_before_it_is_called_so(
    nursery: Nursery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = RunFolder(tmp_path / "run")
    assert nursery.train(folder.path, tiny(), fault="die 1 make */DONE.json").killed
    synced, sync = [], os.fsync

    def spy(handle: int) -> None:
        synced.append(Path(f"/proc/self/fd/{handle}").readlink().name)
        sync(handle)

    monkeypatch.setattr(os, "fsync", spy)
    folder.finish()
    *before, done, _ = synced
    assert done.startswith(".DONE.json.")
    assert set(before) == folder.read_record()["files"].keys()


# --- the pieces


def test_without_the_variable_nothing_is_awaited() -> None:
    assert fault_injection.active_fault is None
    assert fault_injection.chunk_size() is None
    assert fault_injection.checkpoint_seconds(10.0) == 10.0


def test_the_variables_are_read_when_a_process_starts(tmp_path: Path) -> None:
    code = f"""
from pathlib import Path
from shaperun.common import fault_injection
from shaperun.common.files import write_atomically
assert fault_injection.checkpoint_seconds(10.0) == 0.5
write_atomically(Path({str(tmp_path)!r}) / "other", b"1")
write_atomically(Path({str(tmp_path)!r}) / "file", b"1")
write_atomically(Path({str(tmp_path)!r}) / "file", b"2")
"""
    told = {fault_injection.FAULT: "die 2 synced */file", fault_injection.CHECKPOINT_SECONDS: "0.5"}
    done = subprocess.run([sys.executable, "-c", code], env=os.environ | told, check=False)
    assert done.returncode == -signal.SIGKILL
    assert (tmp_path / "file").read_bytes() == b"1"
    assert sum(files.is_temporary(path) for path in tmp_path.iterdir()) == 1


def test_a_refusal_lasts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = AppendOnlyCsv(tmp_path / "table.csv", ["a"])
    monkeypatch.setattr(fault_injection, "active_fault", fault_injection.Fault("EIO 2 append *"))
    with pytest.raises(OSError, match=r"Input/output error: '.*table\.csv'"):
        table.append([{"a": "x" * 100}])
    with pytest.raises(OSError, match="Input/output error"):
        table.append([{"a": 1}])
    table.close()
    assert table.path.read_bytes() == b"a\n" + b"x" * 48


def test_an_error_names_the_file_that_was_meant(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError, match=r"'[^']*/folder'$"):
        write_atomically(tmp_path / "folder", b"")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_a_worker_that_dies_while_it_says_why_has_died() -> None:
    ours, theirs = multiprocessing.Pipe(duplex=False)
    os.write(theirs.fileno(), struct.pack("!i", 1000) + b"half a message")
    theirs.close()
    process = multiprocessing.get_context("spawn").Process(target=os.abort)
    process.start()
    process.join()
    assert process_pool._error(process, ours) == ("the process was killed by SIGABRT", True)


def test_a_worker_that_cannot_be_started_does_not_stop_the_others(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1] / "helpers"))
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "helpers"))
    jobs = [Job("jobs:write", (str(tmp_path / name), name)) for name in "ab"]
    events = process_pool.run_in_processes(jobs, 1, preload="jobs")
    finished = [next(events)]  # the first has been started, and perhaps has ended
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, before[1]))
    try:
        finished += events
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    errors = {event.job: event.error for event in finished if event}
    assert errors[jobs[0]] is None
    assert "Too many open files" in (errors[jobs[1]] or "")
