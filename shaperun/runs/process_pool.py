"""Pool of worker processes, and the scheduling loop that it shares with the Ray pool.

A job names its function by text, so that the driver need not import it. A job that fails, or whose
process dies, is reported and does not affect the others.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import signal
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from multiprocessing import connection, forkserver
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

from shaperun.common.errors import exits_as_errors, format_traceback

MAX_RETRIES = 2
MAX_ERROR_CHARACTERS = 20_000  # more could fill the pipe and block

_Worker = tuple[BaseProcess, Connection]


@dataclass(frozen=True)
class Job:
    """A function, written `package.module:function`, and the arguments to call it with."""

    target: str
    arguments: tuple[Any, ...]

    def __call__(self) -> None:
        """Import the function and call it."""
        module, function = self.target.split(":")
        getattr(importlib.import_module(module), function)(*self.arguments)


@dataclass(frozen=True)
class JobResult:
    """A job that has ended; `error` is its traceback, or what killed its process."""

    job: Job
    error: str | None


def count_available_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_inline(jobs: Iterable[Job]) -> Iterator[JobResult | None]:
    """Run the jobs one after another in this process."""
    for job in jobs:
        yield None
        yield JobResult(job, run_job(job))


def run_in_processes(
    jobs: Iterable[Job], workers: int, *, preload: str, tick: float = 0.25
) -> Iterator[JobResult | None]:
    """Run each job in a separate process, at most `workers` at a time, as `schedule` says.

    The module `preload` is imported once for all processes, where the system allows that.
    """
    start = partial(_start, _make_context(preload))
    yield from schedule(jobs, workers, tick, start, _poll, _terminate)


def schedule(
    jobs: Iterable[Job],
    limit: int,
    tick: float,
    start: Callable[[Job], Any],
    poll: Callable[[list[Any], float], Mapping[Any, tuple[str | None, bool]]],
    terminate: Callable[[list[Any]], None],
) -> Iterator[JobResult | None]:
    """Run each job in a worker, at most `limit` at a time.

    Yields a `JobResult` per job, and None every `tick` seconds while nothing happens. Closing the
    iterator, an interrupt included, terminates the workers that still run.

    A job whose worker dies without raising, killed from outside or out of memory, is started again
    at most `MAX_RETRIES` times; an exception is final. `poll` waits at most so many seconds for any
    worker to end, and returns the error of each that has, and whether it died without raising.
    """
    waiting, running, deaths = deque(jobs), dict[Any, Job](), Counter[Job]()
    try:
        while waiting or running:
            while waiting and len(running) < limit:
                job = waiting.popleft()
                try:
                    running[start(job)] = job
                except OSError as failed:  # too many open files or processes
                    yield JobResult(job, format_traceback(failed))  # others may still succeed
            ended = poll(list(running), tick)
            for worker, (error, died) in ended.items():
                job = running.pop(worker)
                if died and deaths[job] < MAX_RETRIES:
                    deaths[job] += 1
                    waiting.append(job)
                    yield None
                else:
                    yield JobResult(job, error)
            if not ended:
                yield None
    finally:
        terminate(list(running))


def run_job(job: Job) -> str | None:
    """Run a job in this process; return the traceback if it raises."""
    try:
        with exits_as_errors():
            job()
    except Exception as error:
        return format_traceback(error)
    return None


def limit_threads() -> None:
    """Limit numerical libraries to one thread per process; call before numpy is imported."""
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[variable] = "1"


def _make_context(preload: str) -> Any:
    limit_threads()
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([preload])
    _start_fork_server()
    return context


def _start_fork_server() -> None:
    """Start the process from which workers fork, and let it ignore Ctrl-C, which reaches it too.

    An ignored signal stays ignored in a new program; a handler set by it would come too late, after
    seconds of imports.
    """
    if threading.current_thread() is not threading.main_thread():
        return  # only the main thread may change signal handlers; the server then starts later
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        forkserver.ensure_running()
    finally:
        signal.signal(signal.SIGINT, before)


def _start(context: Any, job: Job) -> _Worker:
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_run_worker, args=(job, sender), daemon=True)
    process.start()
    sender.close()
    return process, receiver


def _run_worker(job: Job, errors: Connection) -> None:
    # Ctrl-C reaches every process of the terminal; the driver decides when workers end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_exit_with_driver, daemon=True).start()
    if error := run_job(job):
        errors.send(error[-MAX_ERROR_CHARACTERS:])


def _exit_with_driver() -> None:
    driver = multiprocessing.parent_process()
    if driver is not None:
        driver.join()
        os._exit(1)


def _poll(workers: list[_Worker], seconds: float) -> dict[_Worker, tuple[str | None, bool]]:
    connection.wait([process.sentinel for process, _ in workers], timeout=seconds)
    return {worker: _read_error(*worker) for worker in workers if worker[0].exitcode is not None}


def _read_error(process: BaseProcess, errors: Connection) -> tuple[str | None, bool]:
    try:
        return str(errors.recv()), False
    except (EOFError, OSError):  # it sent nothing, or died while sending
        status = process.exitcode or 0
        if status < 0:
            return f"the process was killed by {signal.Signals(-status).name}", True
        return (f"the process ended with exit status {status}", True) if status else (None, False)


def _terminate(workers: list[_Worker]) -> None:
    for process, _ in workers:
        process.terminate()
    for process, _ in workers:
        process.join()
