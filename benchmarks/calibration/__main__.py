"""Measure coverage and false positives: python -m benchmarks.calibration [--draws N] [TABLE …]."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from functools import partial

import numpy as np

from benchmarks.calibration import other_intervals
from benchmarks.calibration.measure import (
    Coverage,
    DifferenceMethod,
    Method,
    Pairing,
    measure_coverage,
    measure_difference_coverage,
    measure_false_positives,
    measure_verdicts,
)
from benchmarks.calibration.populations import (
    BOUNDED,
    BOUNDED_PAIRS,
    HARD,
    PAIRS,
    POPULATIONS,
    SEEDS,
    Population,
)
from benchmarks.doc_tables import ROOT, add_choices, format_table, log, publish
from shaperun.stats import intervals
from shaperun.stats.intervals import Bounds
from shaperun.stats.permutation import min_pairs

RUNS = (3, 5, 10, 20)
STATISTICS = ("iqm", "mean", "median")
DRAWS = 20_000
# Runs -> difference in standard deviations, times √(1 − ¾ r²) for pairs with a correlation of r.
DIFFERENCES = {5: 3.0, 6: 2.5, 8: 2.0, 10: 1.5, 20: 1.2}
COMPARED = (1, 2, 3)  # arms that are compared with the baseline
PAGE = ROOT / "docs" / "calibration.md"

Rows = Iterator[list[object]]


def arm_method(statistic: str, bounds: Bounds | None = None) -> Method:
    """Return the intervals of shaperun."""
    return lambda x, rng: intervals.intervals(x, statistic=statistic, bounds=bounds, rng=rng)


def difference_method(*, paired: bool, bounds: Bounds | None = None) -> DifferenceMethod:
    """Return the intervals of `compare`."""
    return lambda a, b, rng: intervals.difference_intervals(
        a, b, paired=paired, bounds=bounds, rng=rng
    )


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
                measure_difference_coverage(
                    pair,
                    n,
                    statistic,
                    method,
                    draws // 10 if pairing == "together" else draws,  # they take the longest
                    pairing=pairing,
                )
                for _, statistic, method, pairing in DIFFERENCE_COLUMNS
            ]
            yield [pair.a.name, pair.b.name, n, *map(format_coverage, cells)]


def bounded_rows(draws: int) -> Rows:
    """Yield the intervals of metrics with bounds at which many runs sit."""
    yield ["population", "runs", "IQM", "mean", "median", "*IQM, bounds unknown*"]
    for population in BOUNDED:
        columns: list[tuple[str, str, Method]] = [
            *(("", name, arm_method(name, population.bounds)) for name in STATISTICS),
            ("", "iqm", arm_method("iqm")),
        ]
        yield from (_interval_row(population, n, columns, draws) for n in RUNS)


def bounded_difference_rows(draws: int) -> Rows:
    """Yield the intervals of the difference of two such metrics."""
    yield ["population", "against", "runs", "IQM, combined intervals", "the same, pairs together"]
    for pair in BOUNDED_PAIRS:
        for n in RUNS:
            log(f"{pair.a.name} against {pair.b.name}, {n} runs")
            measure = partial(measure_difference_coverage, pair, n, "iqm")
            apart = measure(difference_method(paired=False, bounds=pair.a.bounds), draws)
            method = difference_method(paired=True, bounds=pair.a.bounds)
            enough = n >= min_pairs(0.05)
            together = measure(method, draws // 10, pairing="together") if enough else None
            yield [pair.a.name, pair.b.name, n, *map(format_coverage, (apart, together))]


def pairing_rows(draws: int) -> Rows:
    """Yield how often the tests show a difference, and with the chosen one, none that exists."""
    tests = ("unpaired", "paired", "**chosen**")
    heads = [f"{test}, {arms}" for test in tests for arms in COMPARED]
    yield ["failing", "correlation", "runs", "difference", *heads, "*no difference, chosen, 1*"]
    for seeds in SEEDS:
        for n, scale in DIFFERENCES.items():
            log(f"pairing: {seeds}, {n} runs")
            size = scale * (1 - 0.75 * seeds.correlation**2) ** 0.5
            measure = partial(measure_verdicts, seeds, n, draws=draws)
            unpaired, paired = (
                [measure(size, paired=which, arms=arms) for arms in COMPARED]
                for which in (False, True)
            )
            pairs = [n >= min_pairs(0.05 / arms) for arms in COMPARED]
            chosen = np.where(pairs, paired, unpaired)
            shares = [f"{100 * share:.0f}" for share in (*unpaired, *paired, *chosen)]
            false = f"{100 * measure(0.0, paired=pairs[0], arms=1):.1f}"
            yield [f"{seeds.failing:.0%}", seeds.correlation, n, f"{size:.2f}", *shares, false]


# Block of the page -> its rows, the number of columns of text, and the share of the draws.
TABLES = {
    "arms": (arm_rows, 1, 1.0),
    "differences": (difference_rows, 2, 1.0),
    "bounded": (bounded_rows, 1, 0.25),
    "bounded-differences": (bounded_difference_rows, 2, 0.25),
    "pairing": (pairing_rows, 0, 0.1),
    "hard": (hard_rows, 1, 1.0),
}


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
    add_choices(parser, "table", TABLES)
    arguments = parser.parse_args()
    draws, blocks = arguments.draws, {}
    for name in arguments.tables or TABLES:
        rows, left, share = TABLES[name]
        count = int(share * draws)
        table = format_table(list(rows(count)), left)
        blocks[name] = f"{count:,} samples per cell, in percent.\n\n{table}"
    publish(PAGE, blocks, complete=draws >= DRAWS)


if __name__ == "__main__":
    main()
