"""Shows the rows in the terminal, and keeps the last full table in README.md."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from rich.console import JustifyMethod
from rich.table import Table
from rich.text import Text

from benchmarks.speed.measure import ROOT, Row, cores

README = ROOT / "benchmarks" / "README.md"
BEGIN, END = "<!-- the last table: begin -->", "<!-- the last table: end -->"
HEAD = ("row", "median", "range", "target", "reached", "rounds")
PACKAGES = (
    "gymnasium",
    "stable-baselines3",
    "torch",
    "numpy",
    "envpool",
    "pillow",
    "imageio",
    "typer",
)
VERDICTS = {True: "yes", False: "no", None: ""}
STYLES = {True: "green", False: "bold red", None: ""}


def terminal(rows: Sequence[Row]) -> Table:
    """The table for a terminal."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in HEAD[:-1]:  # all that fits into 80 columns
        justify: JustifyMethod = "left" if column in ("row", "reached") else "right"
        table.add_column(column, justify=justify, no_wrap=True)
    for row in rows:
        *cells, reached, _ = _cells(row)
        table.add_row(*cells, Text(reached, style=STYLES[row.reached]))
    return table


def write(rows: Sequence[Row], peers: Sequence[str], load: float) -> None:
    """Put the table, and where it comes from, between the marks of README.md."""
    lines = [HEAD, ("---", "---:", "---:", "---:", "---", "---:"), *(_cells(row) for row in rows)]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    before, _, rest = README.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    text = f"{before}{BEGIN}\n{_origin(peers, load)}\n\n{table}\n{END}{after}"
    README.write_text(text, encoding="utf-8")


def _cells(row: Row) -> tuple[str, ...]:
    verdict, rounds = VERDICTS[row.reached], str(len(row.figures))
    return (row.what, row.measured, row.spread, row.target, verdict, rounds)


def _origin(peers: Sequence[str], load: float) -> str:
    packages = ", ".join([*(f"{name} {version(name)}" for name in PACKAGES), *peers])
    return (
        f"Measured on {datetime.now(UTC):%Y-%m-%d} on {_cpu()}, {cores()} cores, "
        f"{platform.system()}, with Python {platform.python_version()}, {packages}. "
        f"{load:.1f} processes were busy on the machine when it began."
    )


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def load_now() -> float:
    """Processes that are busy on this machine, as a mean of the last minute."""
    return os.getloadavg()[0]
