"""How long `shaperun check` takes, and what one arm more costs it."""

from __future__ import annotations

import tempfile
from pathlib import Path

import yaml

from benchmarks.speed.measure import ROOT, SHAPERUN, Command, Row, alternate, on_cores, run, seconds

ARTICLE = ROOT / "experiments" / "article.yaml"
MORE = 10


def rows(*, quick: bool) -> list[Row]:
    """Wall times of whole processes on one core: the article's study, and with ten arms more."""
    rounds = 2 if quick else 7
    with tempfile.TemporaryDirectory() as folder, on_cores(1):
        larger = Path(folder) / "larger.yaml"
        larger.write_text(yaml.safe_dump(_with_more_arms()), encoding="utf-8")
        pairs = alternate(lambda: _check(ARTICLE, folder), lambda: _check(larger, folder), rounds)
    return [
        Row("check, the article's study", [a for a, _ in pairs], "{:.1f}", "s", at_most=10.0),
        Row("check, an arm more", [1000 * (b - a) / MORE for a, b in pairs], "{:.0f}", "ms"),
    ]


def _check(study: Path, folder: str) -> float:
    command: Command = [SHAPERUN, "check", study, "--json", "--results", folder]
    return seconds(lambda: run(command))


def _with_more_arms() -> dict[str, object]:
    study = yaml.safe_load(ARTICLE.read_text(encoding="utf-8"))
    article = study["arms"]["article"]
    more = {f"more{number}": {**article, "scale": 1 / number} for number in range(1, MORE + 1)}
    return {**study, "arms": {**study["arms"], **more}}
