from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from shaperun.common.errors import UserError
from shaperun.common.files import Lock
from shaperun.runs import driver, prepare, status
from shaperun.runs.plan import Run, plan_runs
from shaperun.runs.process_pool import Job, JobResult, run_inline
from shaperun.runs.study_folder import StudyFolder
from shaperun.study import environment
from shaperun.study.loader import load_study
from shaperun.study.models import Study


@pytest.fixture
def study(tiny_file: Path) -> Study:
    return load_study(tiny_file)


@pytest.fixture
def runs(study: Study) -> list[Run]:
    return plan_runs(study, study.arms)


def failing(jobs: Iterable[Job]) -> Iterator[JobResult | None]:
    """Executor whose workers all die; it trains nothing."""
    for job in list(jobs):
        yield None
        yield JobResult(job, "the process was killed by SIGKILL")


def start_elsewhere(folder: StudyFolder, run: Run) -> Lock:
    """Start a run as another command would; return its lock, which is held."""
    run_folder = folder.run(run.arm, run.seed)
    run_folder.path.mkdir(parents=True)
    run_folder.start({"identity": run.config.identity})
    lock = Lock(run_folder.lock)
    assert lock.acquire()
    return lock


def test_failures_are_recorded_and_retried(runs: list[Run], tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path / "tiny")
    folder.path.mkdir()
    for _ in range(2):
        first, starting, *_, last = list(driver.execute_runs(folder, runs, failing))
        assert {run.state for run in first} == {"waiting"}
        assert status.STARTING in {run.phase for run in starting}
        assert {run.state for run in last} == {"failed"}
        assert last[0].failure == "the process was killed by SIGKILL"
    assert folder.run("guided", 1).read_failure() == "the process was killed by SIGKILL"
    assert status.read_run_status(folder, runs[0]).state == "failed"


def test_a_run_of_another_command_is_waited_for_and_taken_over(
    runs: list[Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "POLL_SECONDS", 0.01)
    folder = StudyFolder(tmp_path / "tiny")
    lock = start_elsewhere(folder, runs[0])
    states = driver.execute_runs(folder, runs, failing)
    for _ in range(20):
        statuses = next(states)
    assert [run.state for run in statuses] == ["running", "failed", "failed", "failed"]
    assert statuses[0].phase == status.ELSEWHERE
    assert folder.run(runs[0].arm, runs[0].seed).read_failure() is None
    lock.release()
    *_, last = states
    assert [run.state for run in last] == ["failed"] * 4


def test_a_run_that_is_taken_and_dropped_before_its_job_is_trained(
    study: Study, runs: list[Run], tmp_path: Path
) -> None:
    """Another command starts it after the first look, and dies before the second."""
    folder = StudyFolder(tmp_path / "tiny")
    taken = [*runs[:1]]

    def racing(jobs: Iterable[Job]) -> Iterator[JobResult | None]:
        locks = [start_elsewhere(folder, taken.pop())] if taken else []
        ended = list(run_inline(jobs))
        for lock in locks:
            lock.release()
        yield from ended

    prepare.prepare(study, folder, runs, fresh=False)
    *_, last = driver.execute_runs(folder, runs, racing)
    assert {run.state for run in last} == {"done"}


def test_a_job_without_a_result_is_given_up(runs: list[Run], tmp_path: Path) -> None:
    attempts: list[Job] = []

    def idle(jobs: Iterable[Job]) -> Iterator[JobResult | None]:
        for job in jobs:
            attempts.append(job)
            yield JobResult(job, None)

    *_, last = driver.execute_runs(StudyFolder(tmp_path / "tiny"), runs[:1], idle)
    assert len(attempts) == driver.MAX_ATTEMPTS
    assert [run.state for run in last] == ["failed"]
    assert "without a result" in str(last[0].failure)


def test_the_executor_is_not_called_while_all_runs_are_elsewhere(
    runs: list[Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An executor imports torch or connects to a cluster, even without jobs."""
    monkeypatch.setattr(driver, "POLL_SECONDS", 0.01)
    folder = StudyFolder(tmp_path / "tiny")
    locks = [start_elsewhere(folder, run) for run in runs]
    called: list[list[Job]] = []

    def counting(jobs: Iterable[Job]) -> Iterator[JobResult | None]:
        called.append(list(jobs))
        yield None

    states = driver.execute_runs(folder, runs, counting)
    assert {run.phase for run in next(states)} == {status.ELSEWHERE}
    locks[0].release()
    while next(states)[0].phase == status.ELSEWHERE:
        pass
    assert all(called)
    for lock in locks[1:]:
        lock.release()


def test_finished_runs_are_not_trained_again(runs: list[Run], trained: Path) -> None:
    folder = StudyFolder(trained / "results" / "tiny")
    (states,) = driver.execute_runs(folder, runs, failing)
    assert {run.state for run in states} == {"done"}


def test_preparing_writes_the_study_and_refuses_changed_runs(
    study: Study, runs: list[Run], tmp_path: Path
) -> None:
    folder = StudyFolder(tmp_path / "tiny")
    prepare.prepare(study, folder, runs, fresh=False)
    assert load_study(folder.study) == study
    run_folder = folder.run(runs[0].arm, runs[0].seed)
    run_folder.path.mkdir(parents=True)
    run_folder.start({"identity": "other", "config": {"seed": 7}})
    with pytest.raises(UserError, match="seed: 7 there, 0 here"):
        prepare.prepare(study, folder, runs, fresh=False)
    prepare.prepare(study, folder, runs, fresh=True)
    assert not run_folder.path.exists()


def test_a_missing_environment_is_named(
    study: Study, runs: list[Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environment, "find_spec", lambda module: None)
    with pytest.raises(UserError, match=r'needs pygame, .*pip install "gymnasium\[classic'):
        prepare.prepare(study, StudyFolder(tmp_path / "tiny"), runs, fresh=False)
    assert not (tmp_path / "tiny").exists()


def test_a_running_run_is_not_deleted(study: Study, runs: list[Run], tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path / "tiny")
    folder.write_study({"study": "tiny"})
    lock = start_elsewhere(folder, runs[0])
    run_folder = folder.run(runs[0].arm, runs[0].seed)
    with pytest.raises(UserError, match="being trained by another command"):
        prepare.prepare(study, folder, runs, fresh=True)
    assert run_folder.config.exists()
    lock.release()
    prepare.prepare(study, folder, runs, fresh=True)
    assert not run_folder.path.exists()


def test_what_a_removed_folder_leaves_is_no_other_study(tmp_path: Path, study: Study) -> None:
    folder, runs = StudyFolder(tmp_path / "tiny"), plan_runs(study, study.arms)
    run_folder = folder.run(runs[0].arm, runs[0].seed)
    run_folder.path.mkdir(parents=True)
    run_folder.write_failure("removed")
    assert not folder.is_foreign()
    (run_folder.path / "policy.zip").touch()
    assert folder.is_foreign()
    run_folder.config.touch()
    assert not folder.is_foreign()
    (folder.path / "runs" / "notes.txt").touch()
    assert folder.is_foreign()
    shutil.rmtree(folder.path)
    assert run_folder.write_failure("removed") == "removed"
    assert not folder.path.exists()


def test_an_unknown_executor_is_refused() -> None:
    with pytest.raises(UserError, match=r"executor x; choose from processes, inline, ray$"):
        driver.make_executor("x", 1)


@pytest.mark.parametrize("hours", [-30, 30])
def test_progress_is_shown_whatever_the_clock_says(
    hours: int, runs: list[Run], tmp_path: Path
) -> None:
    """Its file system has another clock, or the clock has been set since the start."""
    folder = StudyFolder(tmp_path / "tiny")
    started = folder.run(runs[0].arm, runs[0].seed)

    def training(jobs: Iterable[Job]) -> Iterator[JobResult | None]:
        started.path.mkdir(parents=True)
        started.start({"identity": runs[0].config.identity})
        started.write_progress({"phase": "training", "timesteps": 700})
        moment = time.time() + 3600 * hours
        os.utime(started.path / "progress.json", (moment, moment))
        yield None
        yield from failing(jobs)

    shown = [states[0] for states in driver.execute_runs(folder, runs[:1], training)]
    assert ("running", 700) in {(run.state, run.timesteps) for run in shown}


def test_progress_of_an_earlier_attempt_is_not_shown(runs: list[Run], tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path / "tiny")
    earlier = folder.run(runs[0].arm, runs[0].seed)
    earlier.path.mkdir(parents=True)
    earlier.start({"identity": runs[0].config.identity})
    earlier.write_progress({"phase": "training", "timesteps": 700})
    shown = [states[0] for states in driver.execute_runs(folder, runs[:1], failing)]
    assert "running" not in {run.state for run in shown}
