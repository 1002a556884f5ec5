"""A server that trains runs in processes that are to die; it imports the learners once and forks.

`python -m benchmarks.crashes.fork_server` reads one task per line, in JSON, and writes one result
per line after the task's process has ended; `ForkServer` is its client.
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

from benchmarks.crashes import fault_injection
from benchmarks.crashes.studies import tiny_run
from benchmarks.doc_tables import ROOT
from shaperun.runs.process_pool import Job
from shaperun.study.models import RunConfig

KILLED_ACTION = 5  # of the evaluation in which a run is killed; all episodes are longer
NEVER = 1e9  # seconds
TRAIN = "shaperun.training.train:train_cohort"


@dataclass(frozen=True)
class ProcessResult:
    """How a process ended."""

    status: int  # exit status, or minus the signal
    error: str  # traceback, if an exception was raised
    points: list[str]  # that were reached, if the task lists them

    @property
    def killed(self) -> bool:
        """Return whether it was killed by SIGKILL."""
        return self.status == -signal.SIGKILL


@dataclass(frozen=True)
class Task:
    """A function to call in a process, and what happens to the process."""

    target: str  # as in `Job`
    arguments: list[Any]
    fault: str = ""  # as in `fault_injection`
    list_points: bool = False
    kill_at_step: int | None = None  # in the rollout that has reached this timestep
    kill_in_evaluation: float | None = None  # in the first one after this share of training
    checkpoint_seconds: float = 0.0  # between checkpoints
    max_file_size: int | None = None  # bytes, more of which the system refuses to write
    user: int | None = None  # numerical id; this user's permissions apply


class ForkServer:
    """Client of a server process; a context manager."""

    def __enter__(self) -> ForkServer:
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

    def train(self, folder: Path, config: RunConfig, **options: Any) -> ProcessResult:
        """Start or resume a run, with options of `Task`."""
        return self.call(TRAIN, [[str(folder), config.model_dump_json()]], **options)

    def call(self, target: str, *arguments: Any, **options: Any) -> ProcessResult:
        """Call a function in a new process, and wait for the end of the process."""
        task = Task(target, list(arguments), **options)
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(f"{json.dumps(asdict(task))}\n")
        self._process.stdin.flush()
        return ProcessResult(**json.loads(self._process.stdout.readline()))


def _kill_self() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _apply_options(task: Task) -> None:
    import resource

    from shaperun.training import recorder

    recorder.CHECKPOINT_SECONDS = task.checkpoint_seconds
    recorder.PROGRESS_SECONDS = NEVER  # else the points would depend on the machine's speed
    if task.fault:
        fault_injection.install(fault_injection.Fault(task.fault))
    if task.max_file_size:
        resource.setrlimit(resource.RLIMIT_FSIZE, (task.max_file_size, task.max_file_size))
    if task.user is not None:
        os.setuid(task.user)
    if task.kill_at_step is not None:
        _kill_at_step(task.kill_at_step)
    if task.kill_in_evaluation is not None:
        _kill_in_evaluation(task.kill_in_evaluation)


def _kill_at_step(step: int) -> None:
    from shaperun.training.recorder import RunRecorder

    on_step = RunRecorder.on_step

    def kill_or_record(self: RunRecorder, timesteps: int) -> None:
        if timesteps >= step:
            _kill_self()
        on_step(self, timesteps)

    setattr(RunRecorder, "on_step", kill_or_record)  # noqa: B010 (mypy refuses the assignment)


def _kill_in_evaluation(share: float) -> None:
    from shaperun.training.evaluation import Evaluation

    play = Evaluation.play

    def play_or_kill(self: Evaluation, episodes: int, progress: float) -> Any:
        steps, actions = play(self, episodes, progress), None
        for number in count():
            if number == KILLED_ACTION and progress >= share:
                _kill_self()
            try:
                obs = steps.send(actions)  # type: ignore[arg-type]
            except StopIteration as end:
                return end.value
            actions = yield obs

    setattr(Evaluation, "play", play_or_kill)  # noqa: B010 (as above)


def _work(task: Task, pipe: int) -> int:
    try:
        importlib.import_module(task.target.split(":")[0])  # while all files are readable
        _apply_options(task)
        if task.list_points:
            fault_injection.install(lambda point: _write(pipe, f"{point}\n"))
        Job(task.target, tuple(task.arguments))()
    except Exception:
        _write(pipe, f"\0{traceback.format_exc()}")
        return 1
    return 0


def _write(pipe: int, text: str) -> None:
    os.write(pipe, text.encode())


def _fork(task: Task) -> ProcessResult:
    read_end, write_end = os.pipe()
    child = os.fork()
    if not child:
        os._exit(_work(task, write_end))
    os.close(write_end)
    with os.fdopen(read_end) as file:
        points, _, error = file.read().partition("\0")
    _, status = os.waitpid(child, 0)
    return ProcessResult(os.waitstatus_to_exitcode(status), error, points.splitlines())


def _warm_up() -> None:
    """Train once, so that child processes need not repeat lazy imports."""
    from shaperun.runs.run_folder import RunFolder
    from shaperun.training import recorder, train

    with tempfile.TemporaryDirectory() as folder:
        recorder.CHECKPOINT_SECONDS = 0.0
        train.train_run(RunFolder(Path(folder) / "run"), tiny_run())


def main() -> None:
    """Serve tasks from stdin."""
    _warm_up()
    for line in sys.stdin:
        print(json.dumps(asdict(_fork(Task(**json.loads(line))))), flush=True)


if __name__ == "__main__":
    main()
