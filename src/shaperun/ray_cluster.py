"""Runs jobs as tasks of a Ray cluster: one machine or many, the same jobs as in local processes.

Ray hands out the work and notices who died. What a job makes is on disk, in a folder that every
machine sees, so that nothing but jobs and error messages travels.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import traceback
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from importlib.util import find_spec
from typing import Any

from shaperun.errors import UserError
from shaperun.execute import RETRIES, Finished, Job

END_SECONDS = 10.0  # that killed workers are given to be gone


def ray_tasks(
    jobs: Iterable[Job], workers: int = 0, *, tick: float = 0.25
) -> Iterator[Finished | None]:
    """Run each job in a process of its own somewhere in a cluster, at most `workers` at a time.

    With 0, as many as the cluster has processors. Events, retries and closing are those of
    `execute.processes`; a machine that is lost is a process that died.

    Raises:
        UserError: Ray is not installed, or its cluster cannot be had.
    """
    waiting = deque(jobs)
    if not waiting:
        return  # which is not worth a cluster
    ray = _connect()
    # Ray would try again as well, but it would not count as we do.
    task = ray.remote(num_cpus=1, max_calls=1, max_retries=0, scheduling_strategy="SPREAD")(_work)
    here = (os.getcwd(), tuple(sys.path))
    limit = workers or len(waiting)
    running = dict[Any, Job]()
    deaths = Counter[Job]()
    try:
        while waiting or running:
            while waiting and len(running) < limit:
                job = waiting.popleft()
                running[task.remote(job, *here)] = job
            ended, _ = ray.wait(list(running), timeout=tick)
            for result in ended:
                job = running.pop(result)
                error, died = _error(ray, result)
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
            ray.wait(list(running), num_returns=len(running), timeout=END_SECONDS)
        ray.shutdown()


def _connect() -> Any:
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["RAY_ENABLE_UV_RUN_RUNTIME_ENV"] = "0"
    os.environ["RAY_DEDUP_LOGS_SKIP_REGEX"] = "."
    import ray

    before = signal.getsignal(signal.SIGTERM)
    ray.init(include_dashboard=False, logging_level=logging.CRITICAL, log_to_driver=False)
    signal.signal(signal.SIGTERM, before)
    return ray


def _work(job: Job, folder: str, path: tuple[str, ...]) -> str | None:
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[variable] = "1"
    sys.path[:] = dict.fromkeys((*path, *sys.path))
    with suppress(OSError):
        os.chdir(folder)
    try:
        job()
    except Exception:
        return traceback.format_exc()[-20_000:]
    return None


def _error(ray: Any, result: Any) -> tuple[str | None, bool]:
    try:
        return ray.get(result), False
    except ray.exceptions.RayTaskError as error:
        return str(error), False
    except ray.exceptions.RayError as error:
        return str(error), True
