"""Trains runs in processes that are to die. It has imported the learners once, and forks.

`python -m soak.nursery` takes a task a line, in JSON, and answers each with a line when its process
has ended; `Nursery` talks to it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from shaperun.study import RunConfig

ROOT = Path(__file__).resolve().parent.parent


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
    """A run to train, from nothing or from where it is, and what is to happen meanwhile.

    Args:
        folder: where it is kept.
        config: the run, in JSON.
        fault: as in the variable SHAPERUN_FAULT.
        die_at_step: killed in the rollout in which so many steps were taken.
        die_at_action: killed when the deterministic policy is to act for the so manieth time.
        keep_seconds: between checkpoints.
        largest_file: more bytes than these the system refuses to write into a file.
        user: whose rights it has, by number; the folder is then relative to `directory`.
        directory: where it works.
    """

    folder: str
    config: str
    fault: str = ""
    die_at_step: int | None = None
    die_at_action: int | None = None
    keep_seconds: float = 0.0
    largest_file: int | None = None
    user: int | None = None
    directory: str = "."


class Nursery:
    """A process that forks; to be used in a `with`."""

    def __enter__(self) -> Nursery:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "soak.nursery"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._process.communicate()

    def train(self, folder: Path, config: RunConfig, **wishes: Any) -> Ended:
        """Train a run in a process of its own, and wait for its end.

        Args:
            folder: where it is kept.
            config: the run.
            wishes: as in `Task`.
        """
        task = Task(str(folder), config.model_dump_json(), **wishes)
        assert self._process.stdin, self._process.stdout
        self._process.stdin.write(f"{json.dumps(asdict(task))}\n")
        self._process.stdin.flush()
        return Ended(**json.loads(self._process.stdout.readline()))


class _Listing:
    """Stands where a fault would, and writes down what passes."""

    def __init__(self, told: int) -> None:
        self._told = told

    def meet(self, point: str) -> None:
        os.write(self._told, f"{point}\n".encode())


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _arrange(task: Task) -> None:
    """Let happen in this process what the task wants."""
    import resource

    from shaperun import faults, train

    train.KEEP_SECONDS = task.keep_seconds
    if task.fault:
        faults.awaited = faults.Fault(task.fault)
    if task.largest_file:
        resource.setrlimit(resource.RLIMIT_FSIZE, (task.largest_file, task.largest_file))
    os.chdir(task.directory)
    if task.user is not None:
        os.setuid(task.user)
    if task.die_at_step is not None:
        train.Recording = _dying_at(task.die_at_step)  # type: ignore[misc]
    if task.die_at_action is not None:
        train.actor = _dying_actor(task.die_at_action)


def _dying_at(step: int) -> Any:
    from shaperun import train

    class Dying(train.Recording):
        def _on_step(self) -> bool:
            if self.num_timesteps >= step:
                _die()
            return super()._on_step()

    return Dying


def _dying_actor(number: int) -> Callable[..., Any]:
    from shaperun import train

    make, left = train.actor, [number]

    def dying(*arguments: Any) -> Callable[[Any], Any]:
        act = make(*arguments)

        def last_act(obs: Any) -> Any:
            left[0] -= 1
            if not left[0]:
                _die()
            return act(obs)

        return last_act

    return dying


def _work(task: Task, told: int) -> int:
    from shaperun import faults, train

    try:
        _arrange(task)
        if not faults.awaited:
            faults.awaited = _Listing(told)  # type: ignore[assignment]
        train.train_cohort([(task.folder, task.config)])
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


def main() -> None:
    """Answer every task."""
    import torch._dynamo  # what torch would import in every child, in a second each

    import shaperun.train  # noqa: F401

    torch.set_num_threads(1)
    for line in sys.stdin:
        print(json.dumps(asdict(_fork(Task(**json.loads(line))))), flush=True)


if __name__ == "__main__":
    main()
