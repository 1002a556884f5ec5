"""Which processes belong to a command, by Linux's /proc, and an end to them."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path


def family(session: int) -> dict[int, int]:
    """The living processes of a session, each with its parent. A command's session is its id."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):  # it has just ended
                # pid (name) state parent group session …, and a name may hold anything
                state, parent, _, its_session, *_ = (
                    (entry / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()
                )
                if int(its_session) == session and state not in "ZX":
                    found[int(entry.name)] = int(parent)
    return found


def workers(driver: int) -> list[int]:
    """The processes that train for a driver: they are its server's children."""
    parents = family(driver)
    return sorted(pid for pid, parent in parents.items() if parents.get(parent) == driver)


def kill(process: int) -> bool:
    """End a process at once; False if it was quicker."""
    try:
        os.kill(process, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def survivors(session: int, seconds: float) -> int:
    """How many processes of a session outlive its driver by so long; they are ended then."""
    deadline = time.monotonic() + seconds
    while (left := family(session)) and time.monotonic() < deadline:
        time.sleep(0.05)
    for process in left:
        kill(process)
    return len(left)
