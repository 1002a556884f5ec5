"""Trains runs in processes that are to die. It has imported the learners once, and forks.

`python -m benchmarks.crashes.fork_server` takes a task a line, in JSON, and answers each with a
line when its process has ended; `Nursery` talks to it.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import traceback
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from typing import Any

from benchmarks.crashes.studies import tiny
from shaperun.runs.process_pool import Job
from shaperun.study.models import RunConfig

LAST_ACTION = 5  # of an evaluation in which a run is killed: no episode is as short
NEVER = 1e9  # seconds
TRAIN = "shaperun.training.train:train_cohort"
ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Ended:
    """How a process ended: its exit status, or less the signal; the traceback; what it passed."""

    status: int
    error: str
    passed: list[str]

    @property
    def killed(self) -> bool:
        """Whether it died by SIGKILL."""
        return self.status == -signal.SIGKILL


@dataclass(frozen=True)
class Task:
    """What a process is to do, and what is to happen meanwhile.

    Args:
        target: a function, as in `execute.Job`.
        arguments: what it is called with.
        fault: as in the variable SHAPERUN_FAULT.
        listing: whether to tell what it passed.
        die_at_step: killed in the rollout in which so many steps were taken.
        die_in_evaluation: killed in the first evaluation after so many steps, some actions in.
        keep_seconds: between checkpoints.
        largest_file: more bytes than these the system refuses to write into a file.
        user: whose rights it has, by number.
    """

    target: str
    arguments: list[Any]
    fault: str = ""
    listing: bool = False
    die_at_step: int | None = None
    die_in_evaluation: int | None = None
    keep_seconds: float = 0.0
    largest_file: int | None = None
    user: int | None = None


class Nursery:
    """A process that forks; to be used in a `with`."""

    def __enter__(self) -> Nursery:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.crashes.fork_server"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def train(self, folder: Path, config: RunConfig, **wishes: Any) -> Ended:
        """Train a run, from nothing or from where it is, with wishes as in `Task`."""
        return self.call(TRAIN, [[str(folder), config.model_dump_json()]], **wishes)

    def call(self, target: str, *arguments: Any, **wishes: Any) -> Ended:
        """Call a function in a process of its own, and wait for its end."""
        task = Task(target, list(arguments), **wishes)
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(f"{json.dumps(asdict(task))}\n")
        self._process.stdin.flush()
        return Ended(**json.loads(self._process.stdout.readline()))


class _Listing:
    """Stands where a fault would, and writes down what passes."""

    def __init__(self, told: int) -> None:
        self._told = told

    def trigger(self, point: str) -> None:
        os.write(self._told, f"{point}\n".encode())


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _arrange(task: Task) -> None:
    """Let happen in this process what the task wants."""
    import resource

    from shaperun.common import fault_injection
    from shaperun.training import recorder, run

    recorder.CHECKPOINT_SECONDS = task.keep_seconds
    recorder.PROGRESS_SECONDS = NEVER  # or a slow machine would pass more points than a quick one
    if task.fault:
        fault_injection.active_fault = fault_injection.Fault(task.fault)
    if task.largest_file:
        resource.setrlimit(resource.RLIMIT_FSIZE, (task.largest_file, task.largest_file))
    if task.user is not None:
        os.setuid(task.user)
    if task.die_at_step is not None:
        run.RunRecorder = _dying_at(task.die_at_step)  # type: ignore[attr-defined]
    if task.die_in_evaluation is not None:
        run.Evaluation = _dying_in(task.die_in_evaluation)  # type: ignore[attr-defined]


def _dying_at(step: int) -> Any:
    from shaperun.training.recorder import RunRecorder

    class Dying(RunRecorder):
        def on_step(self, timesteps: int) -> None:
            if timesteps >= step:
                _die()
            super().on_step(timesteps)

    return Dying


def _dying_in(step: int) -> Any:
    from shaperun.training.evaluation import Evaluation

    class Dying(Evaluation):
        def play(self, episodes: int, progress: float) -> Any:
            playing, actions = super().play(episodes, progress), None
            for taken in count():
                if taken == LAST_ACTION and progress >= step / self.total_timesteps:
                    _die()
                try:
                    obs = playing.send(actions)  # type: ignore[arg-type]
                except StopIteration as end:
                    return end.value
                actions = yield obs

        def __init__(self, config: RunConfig) -> None:
            super().__init__(config)
            self.total_timesteps = config.training.total_timesteps

    return Dying


def _work(task: Task, told: int) -> int:
    from shaperun.common import fault_injection

    try:
        importlib.import_module(task.target.split(":")[0])  # as long as it may read everything
        _arrange(task)
        if task.listing:
            fault_injection.active_fault = _Listing(told)  # type: ignore[assignment]
        Job(task.target, tuple(task.arguments))()
    except Exception:
        os.write(told, f"\0{traceback.format_exc()}".encode())
        return 1
    return 0


def _fork(task: Task) -> Ended:
    ours, theirs = os.pipe()
    child = os.fork()
    if not child:
        os._exit(_work(task, theirs))
    os.close(theirs)
    with os.fdopen(ours) as file:
        passed, _, error = file.read().partition("\0")
    _, status = os.waitpid(child, 0)
    return Ended(os.waitstatus_to_exitcode(status), error, passed.splitlines())


def _warm_up() -> None:
    """Train once, so that children need not import what is only imported then."""
    from shaperun.runs.run_folder import RunFolder
    from shaperun.training import recorder, train

    with tempfile.TemporaryDirectory() as folder:
        recorder.CHECKPOINT_SECONDS = 0.0
        train.train_run(RunFolder(Path(folder) / "run"), tiny())


def main() -> None:
    """Answer every task."""
    _warm_up()
    for line in sys.stdin:
        print(json.dumps(asdict(_fork(Task(**json.loads(line))))), flush=True)


if __name__ == "__main__":
    main()
