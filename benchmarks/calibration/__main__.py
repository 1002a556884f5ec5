"""python -m benchmarks.calibration [--draws N]: measure coverage and false positives."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.calibration import other_intervals
from benchmarks.calibration.measure import (
    Find,
    FindDifference,
    Found,
    Pairs,
    coverage,
    coverage_of_difference,
    false_positives,
)
from benchmarks.calibration.populations import HARD, PAIRS, POPULATIONS
from shaperun.stats import intervals

RUNS = (3, 5, 10, 20)
DRAWS = 20_000
PAGE = Path(__file__).parents[2] / "docs" / "calibration.md"


def claimed(statistic: str) -> Find:
    """The intervals that shaperun gives."""
    return lambda x, rng: intervals.intervals(x, statistic=statistic, rng=rng)


def claimed_difference(*, paired: bool) -> FindDifference:
    """The intervals that `compare` gives."""
    return lambda a, b, rng: intervals.differences(a, b, paired=paired, rng=rng)


COLUMNS: list[tuple[str, str, Find]] = [
    ("median, order statistics", "median", claimed("median")),
    ("IQM, widened t and bootstrap", "iqm", claimed("iqm")),
    ("mean, t and bootstrap-t", "mean", claimed("mean")),
    ("*IQM, bootstrap alone*", "iqm", other_intervals.bootstrap_of_the_iqm),
    ("*mean, Student's t*", "mean", other_intervals.students_t),
    ("*mean, bootstrap*", "mean", other_intervals.bootstrap_of_the_mean),
]

DIFFERENCES: list[tuple[str, str, FindDifference, Pairs]] = [
    ("IQM, combined intervals", "iqm", claimed_difference(paired=False), "strangers"),
    ("the same, opposed pairs", "iqm", claimed_difference(paired=True), "opposed"),
    ("the same, pairs together", "iqm", claimed_difference(paired=True), "together"),
    ("*IQM, bootstrap*", "iqm", other_intervals.bootstrap_of_the_difference, "strangers"),
    ("*mean, Welch's t*", "mean", other_intervals.welchs_t, "strangers"),
    ("*mean, shifts not rejected*", "mean", other_intervals.shifts_not_rejected, "strangers"),
]


def arms(draws: int) -> Iterator[list[str]]:
    """One population: intervals, and the tests of the population against itself."""
    yield ["population", "runs", *(name for name, _, _ in COLUMNS), "unpaired test", "paired test"]
    for population in POPULATIONS:
        for n in RUNS:
            _say(f"{population.name}, {n} runs")
            cells = [
                coverage(population, n, statistic, find, draws) for _, statistic, find in COLUMNS
            ]
            tests = [false_positives(population, n, paired=p, draws=draws) for p in (False, True)]
            shares = [f"{100 * share:.1f}" for share in tests]
            yield [population.name, str(n), *map(_cell, cells), *shares]


def differences(draws: int) -> Iterator[list[str]]:
    """Two populations: intervals for their difference."""
    yield ["population", "against", "runs", *(name for name, *_ in DIFFERENCES)]
    for pair in PAIRS:
        for n in RUNS:
            _say(f"{pair.a.name} against {pair.b.name}, {n} runs")
            cells = [
                coverage_of_difference(pair, n, statistic, find, draws, pairs=pairs)
                for _, statistic, find, pairs in DIFFERENCES
            ]
            yield [pair.a.name, pair.b.name, str(n), *map(_cell, cells)]


def hard(draws: int) -> Iterator[list[str]]:
    """Populations that few runs cannot know."""
    columns = [column for column in COLUMNS if column[1] == "iqm"]
    yield ["population", "runs", *(name for name, _, _ in columns)]
    for population in HARD:
        for n in RUNS:
            _say(f"{population.name}, {n} runs")
            cells = [
                coverage(population, n, statistic, find, draws) for _, statistic, find in columns
            ]
            yield [population.name, str(n), *map(_cell, cells)]


TABLES = {"arms": arms, "differences": differences, "hard": hard}


def _say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


def _cell(found: Found) -> str:
    if found is None:
        return "–"
    share, level = found
    promised = "" if abs(level - 0.95) < 1e-9 else f" ({100 * level:.1f})"
    return f"{100 * share:.1f}{promised}"


def markdown(lines: Sequence[list[str]]) -> str:
    """A table; columns from "runs" on hold numbers."""
    head, *rows = lines
    numbers = head.index("runs")
    rule = ["---" if i < numbers else "---:" for i in range(len(head))]
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, rule, *rows))


def replaced(page: str, name: str, text: str) -> str:
    """The page with `text` between the marks of that name."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    pattern = re.compile(f"{re.escape(begin)}.*{re.escape(end)}", re.DOTALL)
    return pattern.sub(lambda _: f"{begin}\n{text}\n{end}", page)


def main() -> None:
    """Measure, and write the tables into their page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.calibration", description=__doc__)
    parser.add_argument("--draws", type=int, default=DRAWS, help="samples a cell")
    draws = parser.parse_args().draws
    tables = {name: markdown(list(rows(draws))) for name, rows in TABLES.items()}
    page = PAGE.read_text(encoding="utf-8")  # not before: somebody may have written in it meanwhile
    for name, table in tables.items():
        page = replaced(page, name, f"{draws:,} samples a cell, in percent.\n\n{table}")
    PAGE.write_text(page, encoding="utf-8")
    _say(f"Written into {PAGE.name}.")


if __name__ == "__main__":
    main()
