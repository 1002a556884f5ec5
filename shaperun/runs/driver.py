"""Brings a batch of runs to their end: what is finished is skipped, what fails does not stop it."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from importlib.util import find_spec

from shaperun.common.errors import UserError
from shaperun.runs import process_pool
from shaperun.runs.plan import Run, group_for_lockstep
from shaperun.runs.ray_pool import run_on_ray
from shaperun.runs.status import ELSEWHERE, RunStatus, run_status
from shaperun.runs.study_folder import StudyFolder
from shaperun.runs.train_options import TrainOptions

Executor = Callable[[Iterable[process_pool.Job]], Iterator[process_pool.Finished | None]]

# The only place that names the training code: it is imported by workers, never by the driver.
TRAINING = "shaperun.training.train"


POLLING_SHARE = 0.01  # of the driver's time, with which it looks how far its runs are
POLL_SECONDS = 1.0


def executor(name: str, workers: int) -> Executor:
    """An executor by its name, for so many runs at a time; with 0, for one a processor.

    Raises:
        UserError: there is no such executor, or it is not installed.
    """
    known: dict[str, Executor] = {
        "processes": partial(
            process_pool.run_in_processes,
            workers=workers or process_pool.available_cores(),
            preload=TRAINING,
        ),
        "inline": process_pool.run_inline,
        "ray": partial(run_on_ray, workers=workers),
    }
    if name not in known:
        raise UserError(f"there is no executor {name}; there are {', '.join(known)}")
    if name == "ray" and find_spec("ray") is None:
        raise UserError(
            '--executor ray needs Ray, which is not installed: pip install "shaperun[ray]"'
        )
    return known[name]


def parallel_jobs(name: str, workers: int) -> int:
    """How many jobs an executor has at a time; 0 where only its cluster knows."""
    if name == "inline":
        return 1
    return workers if workers or name == "ray" else process_pool.available_cores()


def drive(
    folder: StudyFolder,
    runs: Sequence[Run],
    execute_jobs: Executor,
    *,
    workers: int = 1,
    options: TrainOptions = TrainOptions(),  # noqa: B008 (it is immutable)
) -> Generator[list[RunStatus]]:
    """Train every run that is not finished; yields how far each is, again and again.

    Runs that another command is training are waited for, and taken over should it die.

    The runs are divided among so many `workers`; with 0, it is not known how many there are.

    With `tensorboard`, the runs that are trained write event files as well. With `until`, runs are
    trained so many steps and no further; they are waiting then.

    Closing the iterator, an interrupt included, stops the workers; their runs are interrupted.
    """
    known = {run: run_status(folder, run) for run in runs}
    pending = [run for run in runs if known[run].state != "done"]
    elsewhere = [run for run in pending if known[run].state == "running"]
    while pending:
        ours = [run for run in pending if run not in elsewhere]
        known |= {run: _waiting(run) for run in ours}
        known |= {run: _running_elsewhere(folder, run) for run in elsewhere}
        yield list(known.values())
        jobs = _jobs(folder, ours, workers, options)
        for ended in _train(folder, jobs, execute_jobs) if jobs else ():
            known |= ended
            known |= {run: _running_elsewhere(folder, run) for run in elsewhere}
            yield list(known.values())
        time.sleep(0 if ours else POLL_SECONDS)
        pending = [
            run
            for run in pending
            if known[run].phase == ELSEWHERE and known[run].state not in ("done", "failed")
        ]
        elsewhere = [run for run in pending if known[run].state == "running"]
    yield list(known.values())


def _train(
    folder: StudyFolder, jobs: dict[process_pool.Job, list[Run]], execute_jobs: Executor
) -> Iterator[dict[Run, RunStatus]]:
    """Train runs that nobody else trains; yields what is new of them."""
    running = _ActiveRuns(folder, [run for cohort in jobs.values() for run in cohort])
    for finished in execute_jobs(jobs):
        ended = jobs[finished.job] if finished else []
        running.remove(ended)
        yield {
            **{
                run: _final_status(folder, run, finished.error if finished else None)
                for run in ended
            },
            **running.progress(),
        }


class _ActiveRuns:
    """Looks how far runs are, but not so often that it would take time from training them."""

    def __init__(self, folder: StudyFolder, runs: Iterable[Run]) -> None:
        self._folder = folder
        self._folders = {run: folder.run(run.arm, run.seed) for run in runs}
        self._began = time.time() - 1.0  # the clocks of file systems are coarse
        self._next_look = 0.0

    def remove(self, runs: Iterable[Run]) -> None:
        """Look no longer at runs that have ended."""
        for run in runs:
            del self._folders[run]

    def progress(self) -> dict[Run, RunStatus]:
        """What has been said since the last look; with many runs, one look takes a while."""
        now = time.monotonic()
        if now < self._next_look:
            return {}
        found = {
            run: run_status(self._folder, run, "running")
            for run, run_folder in self._folders.items()
            if run_folder.progressed_since(self._began)  # what is older is an earlier life's
        }
        self._next_look = now + (time.monotonic() - now) / POLLING_SHARE
        return found


def _jobs(
    folder: StudyFolder, runs: Sequence[Run], workers: int, options: TrainOptions
) -> dict[process_pool.Job, list[Run]]:
    """Return the jobs of the workers, with the runs of each."""
    jobs = {}
    for cohort in group_for_lockstep(runs, workers):
        # A worker may have another working directory.
        members = tuple(
            (str(folder.run(run.arm, run.seed).path.absolute()), run.config.model_dump_json())
            for run in cohort
        )
        job = process_pool.Job(f"{TRAINING}:train_cohort", (members, options))
        jobs[job] = cohort
    return jobs


def _waiting(run: Run) -> RunStatus:
    total = run.config.training.total_timesteps
    return RunStatus(run.arm, run.seed, "waiting", total_timesteps=total)


def _running_elsewhere(folder: StudyFolder, run: Run) -> RunStatus:
    return replace(run_status(folder, run), phase=ELSEWHERE)


def _final_status(folder: StudyFolder, run: Run, error: str | None) -> RunStatus:
    try:
        return _settle(folder, run, error)
    except (OSError, UserError) as trouble:  # its folder cannot even be read; others' perhaps can
        return replace(_waiting(run), state="failed", failure=f"{error or ''}\n{trouble}")


def _settle(folder: StudyFolder, run: Run, error: str | None) -> RunStatus:
    run_folder = folder.run(run.arm, run.seed)
    state = run_folder.state()
    if state == "running":  # another command was quicker to take it
        return _running_elsewhere(folder, run)
    if state == "done" or (error is None and state == "failed"):  # which others are not touched by
        return run_status(folder, run, state)
    if error is None:
        return run_status(folder, run, "waiting")
    error = run_folder.fail(error)
    return replace(run_status(folder, run, "failed"), failure=error)
