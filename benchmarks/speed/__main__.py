"""Measure speed, memory and start-up time: python -m benchmarks.speed [--quick] [ROW…]."""

from __future__ import annotations

import argparse
import os
import platform
from datetime import UTC, datetime
from pathlib import Path
from pkgutil import resolve_name

from benchmarks.doc_tables import ROOT, add_choices, describe_machine, format_table, log, publish
from benchmarks.speed.measure import ONE_THREAD, Row

# Row -> its function, imported when its turn comes: some modules import torch, and the memory of
# a child process is never less than its parent's.
ROWS = {
    "training": "throughput:training_rows",
    "lockstep": "throughput:lockstep_rows",
    "one-run": "throughput:one_run_rows",
    "simulator-share": "throughput:simulator_share_rows",
    "cohorts": "cohorts:cohorts_rows",
    "memory": "throughput:memory_rows",
    "article": "commands:article_rows",
    "shaping": "shaping:shaping_rows",
    "workers": "commands:workers_rows",
    "startup": "commands:startup_rows",
    "check": "commands:check_rows",
    "compare": "commands:compare_rows",
    "gif": "gif:gif_rows",
    "kernel": "kernel:kernel_rows",
}
README = ROOT / "benchmarks" / "README.md"
PACKAGES = (
    *("gymnasium", "stable-baselines3", "torch", "numpy"),
    *("envpool", "pillow", "imageio", "typer"),
)
MAX_LOAD = 0.5


def main() -> None:
    """Measure the rows and print their table; a complete one is written into the README."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed", description=__doc__)
    add_choices(parser, "row", ROWS)
    parser.add_argument("--quick", action="store_true", help="few and short rounds, as a test")
    options = parser.parse_args()
    os.environ.update(ONE_THREAD)
    load = os.getloadavg()[0]
    if load > MAX_LOAD:
        log(f"{load:.1f} processes are busy on this machine; the figures will be less steady")
    rows: list[Row] = []
    for name in options.rows or ROWS:
        log(name)
        rows += resolve_name(f"benchmarks.speed.{ROWS[name]}")(quick=options.quick)
    header = ["row", "median", "range", "target", "reached", "rounds"]
    table = format_table([header, *(row.cells() for row in rows)])
    text = f"{describe_origin(load)}\n\n{table}"
    publish(README, {"speed": text}, complete=not (options.quick or options.rows))


def describe_origin(load: float) -> str:
    """Return when, on which machine and with which packages the figures were measured."""
    from benchmarks.speed.venvs import peer_versions

    return (
        f"Measured on {datetime.now(UTC):%Y-%m-%d} on {_cpu()}, "
        f"{', '.join([describe_machine(PACKAGES), *peer_versions()])}. "
        f"{load:.1f} processes were busy on the machine at the beginning."
    )


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


if __name__ == "__main__":
    main()
