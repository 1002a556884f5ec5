"""Train a batch of runs: skip what is finished, continue past failures."""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from importlib.util import find_spec

from shaperun.common.errors import UserError
from shaperun.runs import process_pool
from shaperun.runs.plan import Run, group_for_lockstep
from shaperun.runs.ray_pool import run_on_ray
from shaperun.runs.status import ELSEWHERE, STARTING, RunStatus, read_run_status
from shaperun.runs.study_folder import StudyFolder
from shaperun.runs.train_options import TrainOptions

Executor = Callable[[Iterable[process_pool.Job]], Iterator[process_pool.JobResult | None]]

# The only place that names the training code: workers import it, the driver never does.
TRAINING = "shaperun.training.train"
POLLING_SHARE = 0.01  # of the driver's time, spent on reading the progress of runs
POLL_SECONDS = 1.0
MAX_ATTEMPTS = 3  # at a run whose jobs end without an error and without its result


def make_executor(name: str, workers: int) -> Executor:
    """Return the executor of this name for so many parallel jobs (0: one per core).

    Raises:
        UserError: the executor is unknown or not installed.
    """
    executors: dict[str, Executor] = {
        "processes": partial(
            process_pool.run_in_processes,
            workers=workers or process_pool.count_available_cores(),
            preload=TRAINING,
        ),
        "inline": process_pool.run_inline,
        "ray": partial(run_on_ray, workers=workers),
    }
    if name not in executors:
        raise UserError(f"unknown executor {name}; choose from {', '.join(executors)}")
    if name == "ray" and find_spec("ray") is None:
        raise UserError(
            '--executor ray needs Ray, which is not installed: pip install "shaperun[ray]"'
        )
    return executors[name]


def count_parallel_jobs(name: str, workers: int) -> int:
    """Return how many jobs an executor runs in parallel; 0 if only its cluster knows."""
    if name == "inline":
        return 1
    return workers if workers or name == "ray" else process_pool.count_available_cores()


def execute_runs(
    folder: StudyFolder,
    runs: Sequence[Run],
    execute_jobs: Executor,
    *,
    workers: int = 1,
    options: TrainOptions = TrainOptions(),  # noqa: B008 (it is immutable)
) -> Generator[list[RunStatus]]:
    """Train every unfinished run; yield the status of all runs repeatedly.

    Runs that another command is training are waited for, and taken over should it die. The others
    are divided among so many `workers` (0: an unknown number). In the end every run is done, failed
    or paused as `options` say.

    Closing the iterator, an interrupt included, stops the workers; their runs are interrupted.
    """
    statuses = {run: read_run_status(folder, run) for run in runs}
    pending = [run for run in runs if statuses[run].state != "done"]
    attempts = Counter[Run]()
    while pending:
        elsewhere = [run for run in pending if statuses[run].state == "running"]
        ours = [run for run in pending if run not in elsewhere]
        statuses |= {run: _waiting_status(run) for run in ours}
        statuses |= {run: _status_elsewhere(folder, run) for run in elsewhere}
        yield list(statuses.values())
        for changed in _execute(folder, ours, execute_jobs, workers, options) if ours else ():
            statuses |= changed
            statuses |= {run: _status_elsewhere(folder, run) for run in elsewhere}
            yield list(statuses.values())
        time.sleep(0 if ours else POLL_SECONDS)
        pending = [run for run in pending if not _has_ended(statuses[run], options)]
        # Another command may have taken the run before its job did, and died since.
        attempts.update(run for run in pending if statuses[run].phase != ELSEWHERE)
        given_up = [run for run in pending if attempts[run] >= MAX_ATTEMPTS]
        statuses |= {run: _give_up(statuses[run]) for run in given_up}
        pending = [run for run in pending if run not in given_up]
    yield list(statuses.values())


def _has_ended(status: RunStatus, options: TrainOptions) -> bool:
    """Return whether a run needs no further job: it is done, failed or paused."""
    if status.state in ("done", "failed"):
        return True
    return not status.phase and options.pauses_at(status.timesteps)


def _give_up(status: RunStatus) -> RunStatus:
    why = f"its job ended {MAX_ATTEMPTS} times without a result; run the same command again"
    return replace(status, state="failed", failure=why)


def _execute(
    folder: StudyFolder,
    runs: Sequence[Run],
    execute_jobs: Executor,
    workers: int,
    options: TrainOptions,
) -> Iterator[dict[Run, RunStatus]]:
    """Train runs, and yield statuses that have changed."""
    jobs = {
        _make_job(folder, cohort, options): cohort for cohort in group_for_lockstep(runs, workers)
    }
    active, waiting = _ActiveRuns(folder, runs), iter(jobs.values())
    # Importing the training code takes the workers seconds.
    yield _starting_statuses(itertools.islice(waiting, workers or None))
    for result in execute_jobs(jobs):
        ended = jobs[result.job] if result else []
        active.remove(ended)
        error = result.error if result else None
        starting = _starting_statuses(itertools.islice(waiting, 1 if result else 0))
        yield starting | {run: _final_status(folder, run, error) for run in ended} | active.poll()


def _make_job(
    folder: StudyFolder, cohort: Sequence[Run], options: TrainOptions
) -> process_pool.Job:
    members = tuple(  # with absolute paths: a worker may have another working directory
        (str(folder.run(run.arm, run.seed).path.absolute()), run.config.model_dump_json())
        for run in cohort
    )
    return process_pool.Job(f"{TRAINING}:train_cohort", (members, options))


class _ActiveRuns:
    """Runs being trained, polled at most so often that it takes little time from training."""

    def __init__(self, folder: StudyFolder, runs: Iterable[Run]) -> None:
        self._folder = folder
        self._folders = {run: folder.run(run.arm, run.seed) for run in runs}
        # Not a time, as the clock may jump, or differ from that of the file system.
        self._earlier = {run: f.progress_version() for run, f in self._folders.items()}
        self._next_poll = 0.0

    def remove(self, runs: Iterable[Run]) -> None:
        """Stop polling runs that have ended."""
        for run in runs:
            del self._folders[run]

    def poll(self) -> dict[Run, RunStatus]:
        """Return the status of runs with progress; empty before the next poll is due."""
        now = time.monotonic()
        if now < self._next_poll:
            return {}
        statuses = {
            run: read_run_status(self._folder, run, "running")
            for run, run_folder in self._folders.items()
            if run_folder.progress_version() not in (None, self._earlier[run])
        }
        self._next_poll = now + (time.monotonic() - now) / POLLING_SHARE
        return statuses


def _waiting_status(run: Run) -> RunStatus:
    total = run.config.training.total_timesteps
    return RunStatus(run.arm, run.seed, "waiting", total_timesteps=total)


def _starting_statuses(cohorts: Iterable[Sequence[Run]]) -> dict[Run, RunStatus]:
    runs = itertools.chain.from_iterable(cohorts)
    return {run: replace(_waiting_status(run), phase=STARTING) for run in runs}


def _status_elsewhere(folder: StudyFolder, run: Run) -> RunStatus:
    return replace(read_run_status(folder, run), phase=ELSEWHERE)


def _final_status(folder: StudyFolder, run: Run, error: str | None) -> RunStatus:
    """Return the status of a run whose job has ended, and write down the job's error."""
    try:
        run_folder = folder.run(run.arm, run.seed)
        state = run_folder.read_state()
        if state == "running":  # another command was quicker to start it
            return _status_elsewhere(folder, run)
        if error is None and state not in ("done", "failed"):  # paused, or not trained at all
            return replace(read_run_status(folder, run, "interrupted"), state="waiting")
        if error is None or state == "done":  # then the error is of another run in its cohort
            return read_run_status(folder, run, state)
        failure = run_folder.write_failure(error)
        return replace(read_run_status(folder, run, "failed"), failure=failure)
    except (OSError, UserError) as unreadable:  # this folder; the others may be readable
        return replace(_waiting_status(run), state="failed", failure=f"{error or ''}\n{unreadable}")
