from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from shaperun.common.errors import UserError
from shaperun.common.files import Lock
from shaperun.runs import driver, prepare, status
from shaperun.runs.plan import Run, planned_runs
from shaperun.runs.process_pool import Finished, Job
from shaperun.runs.study_folder import StudyFolder
from shaperun.study.loader import load_study
from shaperun.study.models import Study


@pytest.fixture
def study(tiny_file: Path) -> Study:
    return load_study(tiny_file)


@pytest.fixture
def runs(study: Study) -> list[Run]:
    return planned_runs(study, study.arms)


def failing(jobs: Iterable[Job]) -> Iterator[Finished | None]:
    """An executor whose workers all die: nothing of the training is needed to drive it."""
    for job in list(jobs):
        yield None
        yield Finished(job, "the process was killed by SIGKILL")


def test_failures_are_kept_and_tried_again(study: Study, runs: list[Run], tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path / "tiny")
    for _ in range(2):
        first, *_, last = list(driver.drive(folder, runs, failing))
        assert {run.state for run in first} == {"waiting"}
        assert {run.state for run in last} == {"failed"}
        assert last[0].failure == "the process was killed by SIGKILL"
    assert folder.run("guided", 1).failure() == "the process was killed by SIGKILL"
    assert status.run_status(folder, runs[0]).state == "failed"
    assert study.study == "tiny"


def test_a_run_of_another_command_is_waited_for_and_taken_over_when_that_dies(
    runs: list[Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "POLL_SECONDS", 0.01)
    folder = StudyFolder(tmp_path / "tiny")
    theirs = folder.run(runs[0].arm, runs[0].seed)
    theirs.path.mkdir(parents=True)
    theirs.start({"identity": runs[0].config.identity})
    lease = Lock(theirs.lock)
    assert lease.acquire()
    states = driver.drive(folder, runs, failing)
    for _ in range(20):
        known = next(states)
    assert [run.state for run in known] == ["running", "failed", "failed", "failed"]
    assert known[0].phase == status.ELSEWHERE
    assert theirs.failure() is None
    lease.release()
    *_, last = states
    assert [run.state for run in last] == ["failed"] * 4


def test_nothing_is_executed_while_all_runs_are_elsewhere(
    runs: list[Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An executor imports torch, or joins a cluster, before it looks at its jobs."""
    monkeypatch.setattr(driver, "POLL_SECONDS", 0.01)
    folder = StudyFolder(tmp_path / "tiny")
    leases = []
    for run in runs:
        theirs = folder.run(run.arm, run.seed)
        theirs.path.mkdir(parents=True)
        theirs.start({"identity": run.config.identity})
        leases.append(Lock(theirs.lock))
        assert leases[-1].acquire()
    called: list[list[Job]] = []

    def counting(jobs: Iterable[Job]) -> Iterator[Finished | None]:
        called.append(list(jobs))
        yield None

    states = driver.drive(folder, runs, counting)
    assert {run.phase for run in next(states)} == {status.ELSEWHERE}
    leases[0].release()
    while next(states)[0].phase == status.ELSEWHERE:
        pass
    assert all(called)
    for lease in leases[1:]:
        lease.release()


def test_a_run_that_another_command_finishes_is_not_trained_again(
    runs: list[Run], trained: Path
) -> None:
    folder = StudyFolder(trained / "results" / "tiny")
    (states,) = driver.drive(folder, runs, failing)
    assert {run.state for run in states} == {"done"}


def test_preparing_writes_the_study_and_refuses_a_changed_one(
    study: Study, runs: list[Run], tmp_path: Path
) -> None:
    folder = StudyFolder(tmp_path / "tiny")
    prepare.prepare(study, folder, runs, fresh=False)
    assert load_study(folder.study) == study
    theirs = folder.run(runs[0].arm, runs[0].seed)
    theirs.path.mkdir(parents=True)
    theirs.start({"identity": "other", "config": {"seed": 7}})
    with pytest.raises(UserError, match="seed: 7 there, 0 here"):
        prepare.prepare(study, folder, runs, fresh=False)
    prepare.prepare(study, folder, runs, fresh=True)
    assert not theirs.path.exists()


def test_an_environment_that_is_not_installed_is_named(
    study: Study, runs: list[Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "find_spec", lambda module: None)
    with pytest.raises(UserError, match=r'needs pygame, .*pip install "gymnasium\[classic'):
        prepare.prepare(study, StudyFolder(tmp_path / "tiny"), runs, fresh=False)
    assert not (tmp_path / "tiny").exists()


def test_a_run_that_is_being_trained_is_not_deleted(
    study: Study, runs: list[Run], tmp_path: Path
) -> None:
    folder = StudyFolder(tmp_path / "tiny")
    theirs = folder.run(runs[0].arm, runs[0].seed)
    theirs.path.mkdir(parents=True)
    folder.write_study({"study": "tiny"})
    theirs.start({"identity": runs[0].config.identity})
    lease = Lock(theirs.lock)
    assert lease.acquire()
    with pytest.raises(UserError, match="being trained by another command"):
        prepare.prepare(study, folder, runs, fresh=True)
    assert theirs.config.exists()
    lease.release()
    prepare.prepare(study, folder, runs, fresh=True)
    assert not theirs.path.exists()
