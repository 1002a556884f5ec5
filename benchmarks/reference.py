"""python -m benchmarks.reference: keep what `make demo` made as the figures that the README shows.

Run by `make reference`. Floating point differs between machines, so that all figures come from one.
"""

from __future__ import annotations

import json
import shutil
from argparse import ArgumentParser
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.doc_tables import ROOT, describe_machine, format_table, publish

FOLDER = ROOT / "docs" / "reference" / "article"
FIGURES = (
    "compare/curves.png",
    "compare/summary.json",
    "check/rankings.png",
    "gifs/side-by-side.gif",
)
PACKAGES = ("gymnasium", "stable-baselines3", "torch", "numpy")
COLUMNS = ("reward", "environment return", "landed", "crashed", "steps", "verdict")


def table(summary: Mapping[str, Any]) -> str:
    """Return the comparison of the arms as the README shows it."""
    rows = [
        [name, _return(arm), _percent(arm, "success"), _percent(arm, "crashed"), _steps(arm)]
        for name, arm in summary["arms"].items()
    ]
    return format_table(
        [COLUMNS, *([*row, _verdict(summary, str(row[0]))] for row in rows)], left=1
    )


def _return(arm: Mapping[str, Any]) -> str:
    value = arm["return"]
    return f"{_number(value['iqm'])} [{_number(value['low'])}, {_number(value['high'])}]"


def _percent(arm: Mapping[str, Any], rate: str) -> str:
    return f"{arm[f'{rate}_rate']['iqm']:.0%}"


def _steps(arm: Mapping[str, Any]) -> str:
    return f"{arm['length']['iqm']:.0f}"


def _verdict(summary: Mapping[str, Any], arm: str) -> str:
    for one in summary["comparisons"]:
        if one["arm"] == arm and one["metric"] == "return":
            interval = f"[{_number(one['low'])}, {_number(one['high'])}]"
            difference = _number(one["difference"])
            return f"{one['verdict']}: {difference} {interval}, p = {one['p_adjusted']:.2g}"
    return "baseline"


def _number(value: float) -> str:
    return f"{value:.0f}".replace("-", "−")


def main() -> None:
    """Copy the figures, and write the table and the machine into the pages."""
    parser = ArgumentParser(prog="python -m benchmarks.reference", description=__doc__)
    parser.add_argument("results", type=Path, nargs="?", default=ROOT / "results" / "article")
    results = parser.parse_args().results
    FOLDER.mkdir(parents=True, exist_ok=True)
    for figure in FIGURES:
        shutil.copy(results / figure, FOLDER)
    summary = json.loads((FOLDER / "summary.json").read_text(encoding="utf-8"))
    publish(ROOT / "README.md", {"article": table(summary)}, complete=True)
    machine = f"Made on {_processor()}: {describe_machine(PACKAGES)}."
    publish(FOLDER.parent / "README.md", {"machine": machine}, complete=True)


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    facts = {key.strip(): value.strip() for key, _, value in (x.partition(":") for x in lines)}
    return f"{facts['model name']} (family {facts['cpu family']}, model {facts['model']})"


if __name__ == "__main__":
    main()
