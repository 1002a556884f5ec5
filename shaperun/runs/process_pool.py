"""Runs jobs in processes of their own, a few at a time. It knows nothing of what they do.

A job names a function by text, so that whoever queues it need not import it. A job that fails, or
whose process dies, is reported and does not touch the others.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import signal
import threading
import traceback
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from multiprocessing import forkserver
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

RETRIES = 2


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
class Finished:
    """A job came to its end; `error` is the traceback, or what killed its process."""

    job: Job
    error: str | None


def available_cores() -> int:
    """The processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_inline(jobs: Iterable[Job]) -> Iterator[Finished | None]:
    """Run the jobs one after the other in this process."""
    for job in jobs:
        yield None
        try:
            job()
        except Exception:
            yield Finished(job, traceback.format_exc())
        else:
            yield Finished(job, None)


def run_in_processes(
    jobs: Iterable[Job], workers: int, *, preload: str, tick: float = 0.25
) -> Iterator[Finished | None]:
    """Run each job in a process of its own, at most `workers` at a time.

    Yields a `Finished` for every job, and None every `tick` seconds while nothing happens.
    Closing the iterator, an interrupt included, ends the processes that still run.

    A process that dies without a word, killed from outside or for want of memory, is tried again,
    `RETRIES` times at most; what it does then is the job's matter. An exception is final.

    The module `preload` is imported once for all of them, where the system allows that.
    """
    context = _context(preload)
    waiting, running = deque(jobs), dict[BaseProcess, tuple[Job, Connection]]()
    deaths = Counter[Job]()
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                job = waiting.popleft()
                try:
                    process, errors = _start(context, job)
                except OSError:  # too many files or processes: others may still end well
                    yield Finished(job, traceback.format_exc())
                    continue
                running[process] = (job, errors)
            wait([process.sentinel for process in running], timeout=tick)
            ended = [process for process in running if process.exitcode is not None]
            for process in ended:
                job, errors = running.pop(process)
                error, died = _error(process, errors)
                if died and deaths[job] < RETRIES:
                    deaths[job] += 1
                    waiting.append(job)
                    yield None
                    continue
                yield Finished(job, error)
            if not ended:
                yield None
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.join()


def _context(preload: str) -> Any:
    # One thread of arithmetic a process; this must stand before any of them imports numpy.
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[variable] = "1"
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([preload])
    _start_server()
    return context


def _start_server() -> None:
    """Start the process from which the workers fork, deaf to Ctrl-C, which reaches it as well.

    What is ignored stays ignored in a new program; a handler set by it would come too late, after
    seconds of imports.
    """
    if threading.current_thread() is not threading.main_thread():
        return  # only the main thread may change what a signal does; the server then starts later
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        forkserver.ensure_running()
    finally:
        signal.signal(signal.SIGINT, before)


def _start(context: Any, job: Job) -> tuple[BaseProcess, Connection]:
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(job, sender), daemon=True)
    process.start()
    sender.close()
    return process, receiver


def _work(job: Job, errors: Connection) -> None:
    # Ctrl-C reaches the whole terminal; it is the driver that decides what becomes of us.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_die_with_the_driver, daemon=True).start()
    try:
        job()
    except Exception:
        errors.send(traceback.format_exc()[-20_000:])  # more could fill the pipe and block


def _die_with_the_driver() -> None:
    driver = multiprocessing.parent_process()
    if driver is not None:
        driver.join()
        os._exit(1)


def _error(process: BaseProcess, errors: Connection) -> tuple[str | None, bool]:
    """What went wrong, if anything did; and whether the process died without saying so."""
    try:
        return str(errors.recv()), False
    except (EOFError, OSError):  # it sent nothing, or died while it did
        error = _abnormal_end(process.exitcode or 0)
        return error, error is not None


def _abnormal_end(status: int) -> str | None:
    if status < 0:
        return f"the process was killed by {signal.Signals(-status).name}"
    return f"the process ended with exit status {status}" if status else None
