"""Brings a batch of runs to their end: what is finished is skipped, what fails does not stop it."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from typing import Any

from shaperun.common.errors import UserError
from shaperun.common.files import Lease, advice
from shaperun.rewards.config import RewardConfig
from shaperun.runs import process_pool
from shaperun.runs.plan import Run, cohorts
from shaperun.runs.ray_pool import ray_tasks
from shaperun.runs.run_folder import RunFolder, State, StudyFolder
from shaperun.study.models import Study

Executor = Callable[[Iterable[process_pool.Job]], Iterator[process_pool.Finished | None]]

# The only place that names the training code: it is imported by workers, never by the driver.
TRAINING = "shaperun.training.train"

ELSEWHERE = "elsewhere"
"""The phase of a run that another command is training."""

LOOKING_SHARE = 0.01  # of the driver's time, with which it looks how far its runs are
POLL_SECONDS = 1.0


@dataclass(frozen=True)
class RunStatus:
    """How far one run is. Steps are environment steps; returns are the environment's own.

    Where several runs are trained together, its `core_seconds` are its share of the `seconds`.
    """

    arm: str
    seed: int
    state: State
    timesteps: int = 0
    total_timesteps: int = 0
    seconds: float = 0.0
    core_seconds: float = 0.0
    phase: str = ""
    training_return: float | None = None
    evaluated_return: float | None = None
    failure: str | None = None

    @property
    def diverged(self) -> bool:
        """Whether the run failed because its numbers did: it ended in NaN or infinity."""
        return self.failure is not None and "diverged:" in self.failure

    @property
    def steps_per_second(self) -> float:
        """Environment steps a second since training started, evaluations included."""
        return self.timesteps / self.seconds if self.seconds else 0.0

    @property
    def seconds_left(self) -> float | None:
        """Seconds to the end of training at the pace so far; None before there is one."""
        if not self.steps_per_second:
            return None
        return max(0.0, (self.total_timesteps - self.timesteps) / self.steps_per_second)


def executor(name: str, workers: int) -> Executor:
    """An executor by its name, for so many runs at a time; with 0, for one a processor.

    Raises:
        UserError: there is no such executor, or it is not installed.
    """
    known: dict[str, Executor] = {
        "processes": partial(
            process_pool.processes, workers=workers or process_pool.cores(), preload=TRAINING
        ),
        "inline": process_pool.inline,
        "ray": partial(ray_tasks, workers=workers),
    }
    if name not in known:
        raise UserError(f"there is no executor {name}; there are {', '.join(known)}")
    if name == "ray" and find_spec("ray") is None:
        raise UserError(
            '--executor ray needs Ray, which is not installed: pip install "shaperun[ray]"'
        )
    return known[name]


def parallel(name: str, workers: int) -> int:
    """How many jobs an executor has at a time; 0 where only its cluster knows."""
    if name == "inline":
        return 1
    return workers if workers or name == "ray" else process_pool.cores()


def status(
    folder: StudyFolder, run: Run, state: State | None = None, *, by_size: bool = False
) -> RunStatus:
    """How far a run is, from its folder alone; a state that is known already may be given.

    With `by_size`, the files of a finished run are not read, see `RunFolder.state`.
    """
    run_folder = folder.run(run.arm, run.seed)
    state = state or run_folder.state(by_size=by_size)
    progress = run_folder.read_progress() if state != "waiting" else {}
    total = run.config.training.total_timesteps
    return RunStatus(
        run.arm,
        run.seed,
        state,
        timesteps=int(progress.get("timesteps", 0)),
        total_timesteps=total,
        seconds=float(progress.get("seconds", 0.0)),
        core_seconds=float(progress.get("core_seconds", progress.get("seconds", 0.0))),
        phase=str(progress.get("phase", "")),
        training_return=progress.get("training_return"),
        evaluated_return=progress.get("evaluated_return"),
        failure=run_folder.failure() if state == "failed" else None,
    )


def prepare(
    study: Study,
    folder: StudyFolder,
    runs: Sequence[Run],
    *,
    fresh: bool,
    tensorboard: bool = False,
) -> None:
    """Make sure that the runs can be trained into the folder, then say in it what is trained.

    With `fresh`, what the folder holds of these runs is deleted.

    Raises:
        UserError: the environment or the folder will not do, or event files are wanted and cannot
            be written; nothing was changed.
    """
    if tensorboard and find_spec("tensorboardX") is None:
        raise UserError(
            "--tensorboard needs tensorboardX, which is not installed: "
            'pip install "shaperun[tensorboard]"'
        )
    _check_environment(study, {run.arm: run.config.reward for run in runs})
    if folder.is_foreign():
        raise UserError(
            f"{folder.path} exists and is no study of shaperun; choose another --results"
        )
    if fresh:
        _refuse_running(folder, runs)
    else:
        refuse_changed(folder, runs)
    try:
        folder.write_study(study.model_dump(mode="json"))
        if fresh:
            discard(folder, runs)
        else:
            for run in runs:
                folder.run(run.arm, run.seed).tidy()
    except OSError as error:
        why = advice(error, folder.path) or error.strerror
        raise UserError(f"cannot write to {folder.path}: {why}") from None


def discard(folder: StudyFolder, runs: Sequence[Run]) -> None:
    """Delete what the folder holds of these runs.

    Raises:
        UserError: one of them is being trained; nothing was changed.
    """
    _refuse_running(folder, runs)
    for run in runs:
        folder.discard(run.arm, run.seed)


def _refuse_running(folder: StudyFolder, runs: Iterable[Run]) -> None:
    for run in runs:
        run_folder = folder.run(run.arm, run.seed)
        if Lease.held(run_folder.lease):
            raise UserError(f"{run_folder.path} is being trained by another command, stop it")


def refuse_changed(folder: StudyFolder, runs: Iterable[Run]) -> None:
    """Make sure that the folder holds these runs, and none of another configuration.

    Raises:
        UserError: says what differs.
    """
    changed = [run for run in runs if _holds_another(folder.run(run.arm, run.seed), run)]
    if changed:
        raise UserError(_what_changed(folder, changed))


def _check_environment(study: Study, arms: Mapping[str, RewardConfig]) -> None:
    """Take a step with every reward: what is wrong at once is said before anything is written."""
    environment = study.environment.describe()
    module, remedy = environment.requires or ("gymnasium", "pip install gymnasium")
    if find_spec(module) is None:
        raise UserError(f"{environment.id} needs {module}, which is not installed: {remedy}")
    if study.environment.backend == "envpool" and find_spec("envpool") is None:
        raise UserError(
            "backend: envpool needs EnvPool, which is not installed: "
            'pip install "shaperun[envpool]"'
        )
    # gymnasium takes a moment to import
    from shaperun.rewards.wrapper import make_environment

    try:
        env = make_environment(study.environment)
        env.action_space.seed(0)
        for arm, reward in arms.items():
            _take_a_step(env, study, arm, reward)
        env.close()
    except UserError:
        raise
    except Exception as error:  # whatever the environment's own code raises
        options = ", ".join(f"{k}={v!r}" for k, v in study.environment.options.items())
        with_options = f" with {options}" if options else ""
        raise UserError(f"{environment.id}{with_options} cannot be used: {error}") from None


def _take_a_step(env: Any, study: Study, arm: str, reward: RewardConfig) -> None:
    from shaperun.rewards.kernel import RewardError
    from shaperun.rewards.wrapper import RewardShapingWrapper

    gamma = study.training_of(reward).gamma
    shaped = RewardShapingWrapper(env, study.resolved(reward), gamma=gamma, total_timesteps=1)
    shaped.reset(seed=0)
    try:
        shaped.step(env.action_space.sample())
    except RewardError as error:
        raise UserError(f"the reward of the arm {arm} will not do: {error}") from None


def _what_changed(folder: StudyFolder, changed: list[Run]) -> str:
    run = changed[0]
    run_folder = folder.run(run.arm, run.seed)
    old, new = run_folder.read_config(), run.config.model_dump(mode="json")
    changes = [f"  {key}: {was} there, {now} here" for key, was, now in differences(old, new)]
    return "\n".join(
        [
            f"{run_folder.path} was trained from another configuration:",
            *changes,
            "Give the study another name, undo the change, or train "
            f"{'this run' if len(changed) == 1 else f'these {len(changed)} runs'} again "
            "from the start with --fresh, which deletes the old ones.",
        ]
    )


def differences(old: Any, new: Any, key: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Every key, its parts joined with points, that has another value in one than in the other."""
    if isinstance(old, dict) and isinstance(new, dict):
        for part in {**old, **new}:
            below = f"{key}.{part}" if key else str(part)
            yield from differences(old.get(part), new.get(part), below)
    elif old != new:
        yield key, old, new


def drive(
    folder: StudyFolder,
    runs: Sequence[Run],
    execute_jobs: Executor,
    *,
    workers: int = 1,
    tensorboard: bool = False,
    until: int | None = None,
) -> Generator[list[RunStatus]]:
    """Train every run that is not finished; yields how far each is, again and again.

    Runs that another command is training are waited for, and taken over should it die.

    The runs are divided among so many `workers`; with 0, it is not known how many there are.

    With `tensorboard`, the runs that are trained write event files as well. With `until`, runs are
    trained so many steps and no further; they are waiting then.

    Closing the iterator, an interrupt included, stops the workers; their runs are interrupted.
    """
    known = {run: status(folder, run) for run in runs}
    pending = [run for run in runs if known[run].state != "done"]
    elsewhere = [run for run in pending if known[run].state == "running"]
    while pending:
        ours = [run for run in pending if run not in elsewhere]
        known |= {run: _waiting(run) for run in ours}
        known |= {run: _elsewhere(folder, run) for run in elsewhere}
        yield list(known.values())
        jobs = _jobs(folder, ours, workers, tensorboard, until)
        for ended in _train(folder, jobs, execute_jobs) if jobs else ():
            known |= ended
            known |= {run: _elsewhere(folder, run) for run in elsewhere}
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
    running = _Running(folder, [run for cohort in jobs.values() for run in cohort])
    for finished in execute_jobs(jobs):
        ended = jobs[finished.job] if finished else []
        running.forget(ended)
        yield {
            **{run: _ended(folder, run, finished.error if finished else None) for run in ended},
            **running.progress(),
        }


class _Running:
    """Looks how far runs are, but not so often that it would take time from training them."""

    def __init__(self, folder: StudyFolder, runs: Iterable[Run]) -> None:
        self._folder = folder
        self._folders = {run: folder.run(run.arm, run.seed) for run in runs}
        self._began = time.time() - 1.0  # the clocks of file systems are coarse
        self._next_look = 0.0

    def forget(self, runs: Iterable[Run]) -> None:
        """Look no longer at runs that have ended."""
        for run in runs:
            del self._folders[run]

    def progress(self) -> dict[Run, RunStatus]:
        """What has been said since the last look; with many runs, one look takes a while."""
        now = time.monotonic()
        if now < self._next_look:
            return {}
        found = {
            run: status(self._folder, run, "running")
            for run, run_folder in self._folders.items()
            if run_folder.progressed_since(self._began)  # what is older is an earlier life's
        }
        self._next_look = now + (time.monotonic() - now) / LOOKING_SHARE
        return found


def _jobs(
    folder: StudyFolder,
    runs: Sequence[Run],
    workers: int,
    tensorboard: bool,
    until: int | None,
) -> dict[process_pool.Job, list[Run]]:
    """What is handed to workers, and the runs that each consists of."""
    jobs = {}
    for cohort in cohorts(runs, workers):
        # A worker may have another working directory.
        members = tuple(
            (str(folder.run(run.arm, run.seed).path.absolute()), run.config.model_dump_json())
            for run in cohort
        )
        job = process_pool.Job(f"{TRAINING}:train_cohort", (members, tensorboard, until))
        jobs[job] = cohort
    return jobs


def _waiting(run: Run) -> RunStatus:
    total = run.config.training.total_timesteps
    return RunStatus(run.arm, run.seed, "waiting", total_timesteps=total)


def _elsewhere(folder: StudyFolder, run: Run) -> RunStatus:
    return replace(status(folder, run), phase=ELSEWHERE)


def _ended(folder: StudyFolder, run: Run, error: str | None) -> RunStatus:
    try:
        return _end(folder, run, error)
    except (OSError, UserError) as trouble:  # its folder cannot even be read; others' perhaps can
        return replace(_waiting(run), state="failed", failure=f"{error or ''}\n{trouble}")


def _end(folder: StudyFolder, run: Run, error: str | None) -> RunStatus:
    run_folder = folder.run(run.arm, run.seed)
    state = run_folder.state()
    if state == "running":  # another command was quicker to take it
        return _elsewhere(folder, run)
    if state == "done" or (error is None and state == "failed"):  # which others are not touched by
        return status(folder, run, state)
    if error is None:
        return status(folder, run, "waiting")
    error = run_folder.fail(error)
    return replace(status(folder, run, "failed"), failure=error)


def _holds_another(run_folder: RunFolder, run: Run) -> bool:
    return run_folder.config.exists() and run_folder.identity() != run.config.identity
