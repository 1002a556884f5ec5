"""python -m calibration [--draws N]: measure coverage and false positives, and keep the table."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from calibration.populations import POPULATIONS, Population
from shaperun import stats

RUNS = (3, 5, 10, 20)
DRAWS = 4_000
PAGE = Path(__file__).parent.parent / "docs" / "calibration.md"
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"

Find = Callable[[np.ndarray, np.random.Generator], "stats.Interval | None"]


def claimed(statistic: str) -> Find:
    """An interval as shaperun gives it."""
    return lambda x, rng: stats.interval(x, statistic=statistic, rng=rng)


def bootstrap_of_the_mean(x: np.ndarray, rng: np.random.Generator) -> stats.Interval:
    """What is usually drawn: the percentile bootstrap of the mean."""
    means = rng.choice(x, size=(999, len(x))).mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return stats.Interval(float(low), float(high), 0.95, "percentile bootstrap")


def bootstrap_of_the_iqm(x: np.ndarray, rng: np.random.Generator) -> stats.Interval:
    """The percentile bootstrap of the interquartile mean: rliable's interval for one task."""
    cut = len(x) // 4
    drawn = np.sort(rng.choice(x, size=(999, len(x))), axis=1)[:, cut : len(x) - cut]
    low, high = np.quantile(drawn.mean(axis=1), [0.025, 0.975])
    return stats.Interval(float(low), float(high), 0.95, "percentile bootstrap")


COLUMNS: list[tuple[str, str, Find]] = [
    ("median, order statistics", "median", claimed("median")),
    ("IQM, widened t and bootstrap", "iqm", claimed("iqm")),
    ("IQM, bootstrap alone", "iqm", bootstrap_of_the_iqm),
    ("mean, Student's t", "mean", claimed("mean")),
    ("mean, bootstrap", "mean", bootstrap_of_the_mean),
]


def coverage(
    population: Population, n: int, statistic: str, find: Find, draws: int
) -> tuple[float, float] | None:
    """The share of samples whose interval covers the truth, and the level that was promised."""
    rng = np.random.default_rng(n)
    truth, hits, level = population.truth[statistic], 0, 0.0
    for _ in range(draws):
        found = find(population.draw(rng, n), rng)
        if found is None:
            return None
        hits += found.low <= truth <= found.high
        level = found.level
    return hits / draws, level


def false_positives(population: Population, n: int, *, paired: bool, draws: int) -> float:
    """The share of comparisons of a population with itself in which the test speaks up at 5%."""
    rng = np.random.default_rng(n)
    found = 0
    for _ in range(draws):
        a, b = population.draw(rng, n), population.draw(rng, n)
        comparison = stats.compare(a, b, paired=paired, rng=rng)
        found += comparison is not None and comparison.p_value <= 0.05
    return found / draws


def rows(draws: int) -> Iterator[list[str]]:
    """The table, a row a population and number of runs."""
    for population in POPULATIONS:
        for n in RUNS:
            print(f"{population.name}, {n} runs", file=sys.stderr, flush=True)
            cells = [
                coverage(population, n, statistic, find, draws) for _, statistic, find in COLUMNS
            ]
            tests = [false_positives(population, n, paired=p, draws=draws) for p in (False, True)]
            yield [
                population.name,
                str(n),
                *(_cell(cell) for cell in cells),
                *(f"{100 * share:.1f}" for share in tests),
            ]


def _cell(found: tuple[float, float] | None) -> str:
    if found is None:
        return "–"
    share, level = found
    promised = "" if abs(level - 0.95) < 1e-9 else f" ({100 * level:.1f})"
    return f"{100 * share:.1f}{promised}"


def table(draws: int) -> str:
    """The table in Markdown."""
    head = ["population", "runs", *(name for name, _, _ in COLUMNS), "unpaired test", "paired test"]
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows(draws)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    """Measure, and write the table into its page."""
    parser = argparse.ArgumentParser(prog="python -m calibration", description=__doc__)
    parser.add_argument("--draws", type=int, default=DRAWS, help="samples a cell")
    draws = parser.parse_args().draws
    measured = f"{BEGIN}\n{draws:,} samples a cell, in percent.\n\n{table(draws)}\n{END}"
    page = PAGE.read_text(encoding="utf-8")
    pattern = re.compile(f"{re.escape(BEGIN)}.*{re.escape(END)}", re.DOTALL)
    PAGE.write_text(pattern.sub(lambda _: measured, page), encoding="utf-8")
    print(f"Written into {PAGE.name}.", file=sys.stderr)


if __name__ == "__main__":
    main()
