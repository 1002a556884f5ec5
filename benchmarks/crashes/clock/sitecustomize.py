"""Let the clock of every process with this folder in PYTHONPATH jump, all at the same moment.

CLOCK_JUMP has the seconds to jump by, and a file: the jump is when this is created. Files keep the
right times, as on a server with a clock of its own.
"""

import os
import time
from pathlib import Path
from typing import Any

seconds, signal = os.environ["CLOCK_JUMP"].split(maxsplit=1)
right_time, right_gmtime = time.time, time.gmtime


def wrong_time() -> float:
    """Return the time after the jump, or the right one before it."""
    return right_time() + float(seconds) * Path(signal).exists()


def wrong_gmtime(at: Any = None) -> time.struct_time:
    """Return the date after the jump, or the right one before it."""
    return right_gmtime(wrong_time() if at is None else at)


time.time, time.gmtime = wrong_time, wrong_gmtime
