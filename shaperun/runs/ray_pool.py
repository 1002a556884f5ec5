"""Pool of Ray tasks on one machine or many, with the same contract as `process_pool`.

Ray distributes the jobs and notices dead workers. Jobs write to a folder that every machine sees,
so that only jobs and their errors travel.
"""

from __future__ import annotations

import importlib
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from shaperun.common.errors import UserError
from shaperun.runs import process_pool
from shaperun.runs.process_pool import Job, JobResult

SHUTDOWN_SECONDS = 10.0  # for workers to end
CONNECT_SECONDS = 5.0  # for a cluster to answer; Ray itself would try for minutes

# Ray reads these when it is imported.
_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",  # under `uv run` it would copy the working directory
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".",  # its messages about workers, which go to our output
}

_DEATHS = {
    "NodeDiedError": "the machine it ran on was lost",
    "OutOfMemoryError": "the process was killed because its machine ran out of memory",
}


def run_on_ray(
    jobs: Iterable[Job], workers: int, *, tick: float = 0.25
) -> Iterator[JobResult | None]:
    """Run each job in a separate process of a cluster, as `process_pool.schedule` says.

    At most `workers` jobs run at a time (0: one per core of the cluster). A lost machine counts as
    a process that died.

    The cluster is the one named by RAY_ADDRESS or started on this machine; without either, a local
    one is started that ends with this process.

    Raises:
        UserError: no cluster can be used, or it has ended.
    """
    jobs = list(jobs)
    ray = _connect(workers)
    # A worker ends after one task. Retries are left to `schedule`: Ray counts them differently.
    task = ray.remote(max_calls=1, max_retries=0, num_cpus=1, scheduling_strategy="SPREAD")(_run)
    origin = Path.cwd(), tuple(sys.path)
    yield from process_pool.schedule(
        jobs,
        workers or len(jobs),
        tick,
        start=lambda job: task.remote(job, *origin),
        poll=lambda tasks, seconds: {
            task: _read_error(ray, task) for task in ray.wait(tasks, timeout=seconds)[0]
        },
        terminate=partial(_cancel, ray),
    )


def _cancel(ray: Any, tasks: list[Any]) -> None:
    for task in tasks:
        ray.cancel(task, force=True)
    if tasks:
        ray.wait(tasks, num_returns=len(tasks), timeout=SHUTDOWN_SECONDS)


def _connect(workers: int) -> Any:
    """Return the module `ray`, connected to a cluster until this process ends.

    Raises:
        UserError: no cluster can be used.
    """
    os.environ.update(_ENVIRONMENT)
    ray = importlib.import_module("ray")
    if ray.is_initialized():
        return ray
    address = _find_address()
    cores = (
        {"num_cpus": max(workers, process_pool.count_available_cores())}
        if address == "local"
        else {}
    )
    on_sigterm = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(
            None if address == "auto" else address,  # for Ray, "auto" must be running already
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.CRITICAL,
            **cores,
        )
    except Exception as error:  # about versions, tokens and folders: many types
        raise UserError(f"Ray cannot be used ({address}): {error}") from None
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, on_sigterm)  # Ray replaces it
    return ray


def _find_address() -> str:
    """Return the address of the named cluster, `auto` for one started here, or else `local`.

    Raises:
        UserError: the named cluster does not answer.
    """
    address = os.environ.get("RAY_ADDRESS") or "auto"
    if address == "auto":
        return address if _is_local_cluster_running() else "local"
    if address != "local" and not _is_reachable(address):
        raise UserError(
            f"no Ray cluster answers at {address}; set RAY_ADDRESS to HOST:PORT of its head node, "
            "or unset it to use only this machine"
        )
    return address


def _is_local_cluster_running() -> bool:
    """Return whether a cluster of `ray start` answers here; a crashed one leaves its address."""
    file = Path(os.environ.get("RAY_TMPDIR", "/tmp"), "ray", "ray_current_cluster")  # noqa: S108
    try:
        return _is_reachable(file.read_text(encoding="utf-8").strip())
    except OSError:
        return False


def _is_reachable(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
    except (OSError, ValueError):
        return False
    return True


def _run(job: Job, folder: Path, path: tuple[str, ...]) -> str | None:
    """Run a job as a process of the driver would; return the traceback if it raises."""
    process_pool.limit_threads()
    # Ray puts the working directory first, where a file could shadow a library.
    sys.path[:] = dict.fromkeys((*path, *sys.path))
    with suppress(OSError):  # the folder need not exist on this machine
        os.chdir(folder)
    error = process_pool.run_job(job)
    return error and error[-process_pool.MAX_ERROR_CHARACTERS :]


def _read_error(ray: Any, task: Any) -> tuple[str | None, bool]:
    """Return the error of a task, and whether its process died without raising.

    Raises:
        UserError: Ray has ended on this machine.
    """
    try:
        return ray.get(task), False
    except ray.exceptions.LocalRayletDiedError:
        raise UserError(
            "Ray has ended on this machine; run the same command again to resume, with or without "
            "Ray"
        ) from None
    except ray.exceptions.RayTaskError as error:  # the job could not be started
        return str(error), False
    except ray.exceptions.RayError as error:
        death = _DEATHS.get(type(error).__name__, "the process was killed, or died by itself")
        return f"{error}\n{death}", True
