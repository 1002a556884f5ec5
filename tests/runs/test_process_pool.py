from __future__ import annotations

import os
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import pytest

from shaperun.runs.process_pool import Job, JobResult, run_in_processes, run_inline


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let workers import the helper jobs by name."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1] / "helpers"))
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "helpers"))


def results(events: Iterable[JobResult | None]) -> list[JobResult]:
    return [event for event in events if event]


def test_every_job_runs_in_a_separate_process_with_one_thread(tmp_path: Path) -> None:
    jobs = [Job("jobs:write", (str(tmp_path / name), name)) for name in "abc"]
    done = results(run_in_processes(jobs, 2, preload="jobs"))
    assert {event.job for event in done} == set(jobs)
    assert all(event.error is None for event in done)
    words = [(tmp_path / name).read_text().split() for name in "abc"]
    assert len({process for _, process, _ in words} | {str(os.getpid())}) == 4
    assert {threads for _, _, threads in words} == {"1"}


def test_a_job_that_fails_or_dies_does_not_affect_the_others(tmp_path: Path) -> None:
    jobs = [
        Job("jobs:fail", ("on purpose",)),
        Job("jobs:die", ()),
        Job("jobs:write", (str(tmp_path / "a"), "a")),
        Job("jobs:fail", ("x" * 200_000,)),
    ]
    errors = {end.job: end.error for end in results(run_in_processes(jobs, 2, preload="jobs"))}
    assert (errors[jobs[0]] or "").endswith("ValueError: on purpose (jobs.py:16)")
    assert errors[jobs[1]] == "the process was killed by SIGKILL"
    assert errors[jobs[2]] is None
    assert "xxx" in (errors[jobs[3]] or "")


def test_a_killed_process_is_retried_a_few_times(tmp_path: Path) -> None:
    jobs = [Job("jobs:die_repeatedly", (str(tmp_path / str(times)), times)) for times in (2, 3)]
    errors = {end.job: end.error for end in results(run_in_processes(jobs, 2, preload="jobs"))}
    assert errors == {jobs[0]: None, jobs[1]: "the process was killed by SIGKILL"}
    assert [(tmp_path / name).read_text() for name in ("2", "3")] == ["xxx", "xxx"]


def test_closing_terminates_the_workers(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    jobs = [Job("jobs:wait_forever", (str(path),))]
    events = run_in_processes(jobs, 1, preload="jobs", tick=0.05)
    while not (path.exists() and path.read_text()):
        assert next(events) is None
    events.close()  # type: ignore[attr-defined]
    process, deadline = int(path.read_text()), time.monotonic() + 5
    with suppress(ProcessLookupError):
        while True:
            os.kill(process, 0)
            assert time.monotonic() < deadline


def test_inline_jobs_run_in_this_process(tmp_path: Path) -> None:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    jobs = [Job("jobs:fail", ("on purpose",)), Job("jobs:write", (str(tmp_path / "a"), "a"))]
    failed, succeeded = results(run_inline(jobs))
    assert (failed.error or "").endswith("ValueError: on purpose (jobs.py:16)")
    assert succeeded.error is None
    assert str(os.getpid()) in (tmp_path / "a").read_text()
