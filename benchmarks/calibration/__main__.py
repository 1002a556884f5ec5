"""Measure coverage and false positives: python -m benchmarks.calibration [--draws N]."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from benchmarks.calibration import other_intervals
from benchmarks.calibration.measure import (
    Coverage,
    DifferenceMethod,
    Method,
    Pairing,
    measure_coverage,
    measure_difference_coverage,
    measure_false_positives,
)
from benchmarks.calibration.populations import HARD, PAIRS, POPULATIONS, Population
from benchmarks.doc_tables import ROOT, format_table, log, publish
from shaperun.stats import intervals

RUNS = (3, 5, 10, 20)
DRAWS = 20_000
PAGE = ROOT / "docs" / "calibration.md"

Rows = Iterator[list[object]]


def arm_method(statistic: str) -> Method:
    """Return the intervals of shaperun."""
    return lambda x, rng: intervals.intervals(x, statistic=statistic, rng=rng)


def difference_method(*, paired: bool) -> DifferenceMethod:
    """Return the intervals of `compare`."""
    return lambda a, b, rng: intervals.difference_intervals(a, b, paired=paired, rng=rng)


# Title, statistic, method; those of others in italics.
ARM_COLUMNS: list[tuple[str, str, Method]] = [
    ("median, order statistics", "median", arm_method("median")),
    ("IQM, widened t and bootstrap", "iqm", arm_method("iqm")),
    ("mean, t and bootstrap-t", "mean", arm_method("mean")),
    ("*IQM, bootstrap alone*", "iqm", other_intervals.bootstrap_iqm),
    ("*mean, Student's t*", "mean", other_intervals.student_t),
    ("*mean, bootstrap*", "mean", other_intervals.bootstrap_mean),
]

DIFFERENCE_COLUMNS: list[tuple[str, str, DifferenceMethod, Pairing]] = [
    ("IQM, combined intervals", "iqm", difference_method(paired=False), "independent"),
    ("the same, opposed pairs", "iqm", difference_method(paired=True), "opposed"),
    ("the same, pairs together", "iqm", difference_method(paired=True), "together"),
    ("*IQM, bootstrap*", "iqm", other_intervals.bootstrap_difference, "independent"),
    ("*mean, Welch's t*", "mean", other_intervals.welch_t, "independent"),
    ("*mean, shifts not rejected*", "mean", other_intervals.shifts_not_rejected, "independent"),
]


def arm_rows(draws: int) -> Rows:
    """Yield the intervals of single populations, and the tests of each against itself."""
    titles = [title for title, _, _ in ARM_COLUMNS]
    yield ["population", "runs", *titles, "unpaired test", "paired test"]
    for population in POPULATIONS:
        for n in RUNS:
            tests = [
                measure_false_positives(population, n, paired=paired, draws=draws)
                for paired in (False, True)
            ]
            shares = [f"{100 * share:.1f}" for share in tests]
            yield [*_interval_row(population, n, ARM_COLUMNS, draws), *shares]


def hard_rows(draws: int) -> Rows:
    """Yield the intervals of populations that few runs cannot represent."""
    columns = [column for column in ARM_COLUMNS if column[1] == "iqm"]
    yield ["population", "runs", *(title for title, _, _ in columns)]
    for population in HARD:
        yield from (_interval_row(population, n, columns, draws) for n in RUNS)


def _interval_row(
    population: Population, n: int, columns: list[tuple[str, str, Method]], draws: int
) -> list[object]:
    log(f"{population.name}, {n} runs")
    cells = [measure_coverage(population, n, *column[1:], draws) for column in columns]
    return [population.name, n, *map(format_coverage, cells)]


def difference_rows(draws: int) -> Rows:
    """Yield the intervals of the difference of two populations."""
    yield ["population", "against", "runs", *(title for title, *_ in DIFFERENCE_COLUMNS)]
    for pair in PAIRS:
        for n in RUNS:
            log(f"{pair.a.name} against {pair.b.name}, {n} runs")
            cells = [
                measure_difference_coverage(pair, n, statistic, method, draws, pairing=pairing)
                for _, statistic, method, pairing in DIFFERENCE_COLUMNS
            ]
            yield [pair.a.name, pair.b.name, n, *map(format_coverage, cells)]


# Block of the page -> its rows and the number of columns of text.
TABLES = {"arms": (arm_rows, 1), "differences": (difference_rows, 2), "hard": (hard_rows, 1)}


def format_coverage(coverage: Coverage) -> str:
    """Return the share in percent, with the nominal level in brackets unless it is 95%."""
    if coverage is None:
        return "–"
    share, level = coverage
    nominal = "" if abs(level - 0.95) < 1e-9 else f" ({100 * level:.1f})"
    return f"{100 * share:.1f}{nominal}"


def main() -> None:
    """Measure, and print the tables; those of the full number of draws are published."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.calibration", description=__doc__)
    parser.add_argument("--draws", type=int, default=DRAWS, help="samples per cell")
    draws = parser.parse_args().draws
    blocks = {
        name: f"{draws:,} samples per cell, in percent.\n\n{format_table(list(rows(draws)), left)}"
        for name, (rows, left) in TABLES.items()
    }
    publish(PAGE, blocks, complete=draws >= DRAWS)


if __name__ == "__main__":
    main()
