"""The processes of a command: started in a session of their own, found in /proc of Linux."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import IO

from benchmarks.doc_tables import ROOT

FREQUENT_CHECKPOINTS = "benchmarks.crashes.frequent_checkpoints"


def start_command(
    folder: Path,
    *arguments: str,
    module: str = FREQUENT_CHECKPOINTS,
    output: int | IO[bytes] = subprocess.DEVNULL,
    environment: Mapping[str, str] = MappingProxyType({}),
) -> subprocess.Popen[bytes]:
    """Start shaperun in a folder, by default with frequent checkpoints; it leads a session."""
    path = os.pathsep.join((*environment.get("PYTHONPATH", "").split(), str(ROOT)))
    return subprocess.Popen(
        [sys.executable, "-P", "-m", module, *arguments],
        cwd=folder,
        env=os.environ | environment | {"PYTHONPATH": path},
        stdout=output,
        stderr=output,
        start_new_session=True,
    )


def list_processes(session: int) -> dict[int, int]:
    """Return the live processes of a session and their parents; a command leads its session."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):  # the process has just ended
                # pid (name) state parent group session …; the name may have any character
                state, parent, _, its_session, *_ = (
                    (entry / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()
                )
                if int(its_session) == session and state not in "ZX":
                    parents[int(entry.name)] = int(parent)
    return parents


def list_workers(driver: int) -> list[int]:
    """Return the processes that train for a driver: the children of its fork server."""
    parents = list_processes(driver)
    return sorted(pid for pid, parent in parents.items() if parents.get(parent) == driver)


def kill(process: int) -> bool:
    """Send SIGKILL; return False if the process has ended already."""
    try:
        os.kill(process, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def kill_survivors(session: int, seconds: float) -> int:
    """Kill the processes that outlive their driver by this time; return their number."""
    deadline = time.monotonic() + seconds
    while (survivors := list_processes(session)) and time.monotonic() < deadline:
        time.sleep(0.05)
    for process in survivors:
        kill(process)
    return len(survivors)
