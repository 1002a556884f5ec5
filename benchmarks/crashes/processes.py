"""The processes of a command, from /proc of Linux."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path


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
