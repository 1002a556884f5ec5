"""Runs jobs as tasks of a Ray cluster, on one machine or many, as `execute` does in processes.

Ray hands out the work and notices who died. What jobs make is in a folder that every machine sees,
so that nothing travels but jobs, and why they failed.
"""

from __future__ import annotations

import importlib
import logging
import os
import signal
import socket
import sys
import threading
import traceback
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from shaperun.common.errors import UserError
from shaperun.runs.process_pool import RETRIES, Finished, Job, available_cores

SHUTDOWN_SECONDS = 10.0  # that workers are given to be gone
ANSWER_SECONDS = 5.0  # that a cluster is given to answer; Ray itself would try for minutes

# What Ray reads when it is imported.
_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",  # under `uv run` it would copy the working directory
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".",  # its messages about workers, which go to our output
}

_DEATHS = {
    "NodeDiedError": "the machine that it ran on was lost",
    "OutOfMemoryError": "the process was killed, for its machine was out of memory",
}


def run_on_ray(
    jobs: Iterable[Job], workers: int, *, tick: float = 0.25
) -> Iterator[Finished | None]:
    """Run each job in a process of its own somewhere in a cluster, at most `workers` at a time.

    With 0 workers, as many as the cluster has processors. Events, what is tried again and what
    closing does are those of `execute.run_in_processes`; a machine that is lost is a process that died.

    The cluster is the one that RAY_ADDRESS names, or that was started on this machine; where there
    is neither, one is started here that lives as long as this process.

    Raises:
        UserError: there is no cluster to be had, or it has ended.
    """
    waiting, running = deque(jobs), dict[Any, Job]()
    limit = workers or len(waiting)
    deaths = Counter[Job]()
    ray = _connected(workers)
    # A worker that has done one task ends. Ray could try again by itself; it would count otherwise.
    task = ray.remote(max_calls=1, max_retries=0, num_cpus=1, scheduling_strategy="SPREAD")(_work)
    place = Path.cwd(), tuple(sys.path)
    try:
        while waiting or running:
            while waiting and len(running) < limit:
                job = waiting.popleft()
                running[task.remote(job, *place)] = job
            ended, _ = ray.wait(list(running), timeout=tick)
            for result in ended:
                job = running.pop(result)
                error, died = _outcome(ray, result)
                if died and deaths[job] < RETRIES:
                    deaths[job] += 1
                    waiting.append(job)
                    yield None
                    continue
                yield Finished(job, error)
            if not ended:
                yield None
    finally:
        for result in running:
            ray.cancel(result, force=True)
        if running:
            ray.wait(list(running), num_returns=len(running), timeout=SHUTDOWN_SECONDS)


def _connected(workers: int) -> Any:
    """Ray itself, connected to a cluster until this process ends.

    Raises:
        UserError: there is none to be had.
    """
    os.environ.update(_ENVIRONMENT)
    ray = importlib.import_module("ray")
    if ray.is_initialized():
        return ray
    address = _address()
    own = {"num_cpus": max(workers, available_cores())} if address == "local" else {}
    on_sigterm = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(
            None if address == "auto" else address,  # to which "auto" is any that runs here
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.CRITICAL,
            **own,
        )
    except Exception as error:  # of its own versions, tokens and folders: many kinds
        raise UserError(f"Ray cannot be used ({address}): {error}") from None
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, on_sigterm)  # which Ray takes for itself
    return ray


def _address() -> str:
    """The address of the cluster that is named, or else was started here, or else `local`.

    Raises:
        UserError: nobody answers at the address that was named.
    """
    named = os.environ.get("RAY_ADDRESS") or "auto"
    if named == "auto":
        return named if _start_local_cluster() else "local"
    if named != "local" and not _is_reachable(named):
        raise UserError(
            f"no Ray cluster answers at {named}; set RAY_ADDRESS to HOST:PORT of its head, "
            "or unset it to use this machine alone"
        )
    return named


def _start_local_cluster() -> bool:
    """Whether `ray start` was given on this machine; a cluster that crashed leaves its address."""
    note = Path(os.environ.get("RAY_TMPDIR", "/tmp"), "ray", "ray_current_cluster")  # noqa: S108
    try:
        return _is_reachable(note.read_text(encoding="utf-8").strip())
    except OSError:
        return False


def _is_reachable(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), ANSWER_SECONDS).close()
    except (OSError, ValueError):
        return False
    return True


def _work(job: Job, folder: Path, path: tuple[str, ...]) -> str | None:
    """Do a job as a process of the driver would; returns the traceback if it fails."""
    # One thread of arithmetic a process; this must stand before it imports numpy.
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[variable] = "1"
    # Ray puts the working directory first, where a file could pass itself off as a library.
    sys.path[:] = dict.fromkeys((*path, *sys.path))
    with suppress(OSError):  # a folder that is not shared, and need not be
        os.chdir(folder)
    try:
        job()
    except Exception:
        return traceback.format_exc()[-20_000:]
    return None


def _outcome(ray: Any, result: Any) -> tuple[str | None, bool]:
    """What went wrong, if anything did; and whether the process died without saying so.

    Raises:
        UserError: Ray has ended on this machine.
    """
    try:
        return ray.get(result), False
    except ray.exceptions.LocalRayletDiedError:
        raise UserError(
            "Ray has ended on this machine; the same command goes on, with Ray or without"
        ) from None
    except ray.exceptions.RayTaskError as error:  # the job could not even begin
        return str(error), False
    except ray.exceptions.RayError as error:
        death = _DEATHS.get(type(error).__name__, "the process was killed, or died by itself")
        return f"{error}\n{death}", True
