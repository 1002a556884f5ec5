"""python -m benchmarks.speed [--quick] [ROWS…]."""

from __future__ import annotations

import argparse
import importlib
import os

from benchmarks.speed.measure import ONE_THREAD, ROOT, Row, tell

# Row -> its module, which is imported when its turn comes: some need torch, some must not have it.
TOPICS = {
    "training": "benchmarks.speed.rl_zoo3",
    "lockstep": "benchmarks.speed.lockstep",
    "one-run": "benchmarks.speed.one_run",
    "bare": "benchmarks.speed.simulator_share",
    "cohorts": "benchmarks.speed.cohorts",
    "memory": "benchmarks.speed.memory",
    "article": "benchmarks.speed.article",
    "shaping": "benchmarks.speed.shaping",
    "workers": "benchmarks.speed.workers",
    "scheduling": "benchmarks.speed.scheduling",
    "start-up": "benchmarks.speed.startup",
    "check": "benchmarks.speed.check",
    "compare": "benchmarks.speed.compare",
    "gif": "benchmarks.speed.gif",
    "kernel": "benchmarks.speed.kernel",
}
BUSY = 0.5


def main() -> None:
    """Measure, show the table, and keep it if it is a full one."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed", description=__doc__)
    parser.add_argument("rows", nargs="*", metavar="ROWS", help=f"of: {', '.join(TOPICS)}")
    parser.add_argument("--quick", action="store_true", help="few and short rounds: does it work?")
    given = parser.parse_args()
    unknown = [name for name in given.rows if name not in TOPICS]
    if unknown:
        parser.error(f"there is no row {', '.join(unknown)}; there are {', '.join(TOPICS)}")
    os.environ.update(ONE_THREAD)
    from rich.console import Console

    from benchmarks.speed import table, venvs

    load = table.load_now()
    if load > BUSY:
        tell(f"{load:.1f} processes are busy on this machine; figures will be less steady")
    rows: list[Row] = []
    for name in given.rows or TOPICS:
        tell(name)
        rows += importlib.import_module(TOPICS[name]).rows(quick=given.quick)
    Console(highlight=False).print(table.terminal(rows))
    if given.quick or given.rows:
        tell("README.md is left as it is: only a full table is kept there.")
    else:
        table.write(rows, venvs.versions(), load)
        tell(f"Written into {table.README.relative_to(ROOT)}.")


if __name__ == "__main__":
    main()
