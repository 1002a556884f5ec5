"""A short version of `make calibrate`: intervals and tests keep the levels they claim."""

from __future__ import annotations

import re

import numpy as np
import pytest

from benchmarks.calibration import other_intervals
from benchmarks.calibration.__main__ import PAGE, arm_method, difference_method
from benchmarks.calibration.measure import (
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
    NORMAL,
    PAIRS,
    POPULATIONS,
    REAL_WORST,
    TWO_PEAKED,
    Pair,
    Population,
    Seeds,
)

RUNS = (3, 5, 10, 20)
DRAWS = 1_000
NOISE = 0.025  # more than three standard errors of a share of 0.93 in 1,000 draws

each = pytest.mark.parametrize("population", POPULATIONS, ids=lambda p: p.name)
each_pair = pytest.mark.parametrize("pair", PAIRS, ids=lambda p: f"{p.a.name}, {p.b.name}")


@each
@pytest.mark.parametrize("n", RUNS)
def test_median_is_covered_at_its_level(population: Population, n: int) -> None:
    coverage = measure_coverage(population, n, "median", arm_method("median"), DRAWS)
    assert coverage
    share, level = coverage
    assert share > level - (0.05 if n == 3 else NOISE)  # at a level of 0.75 draws scatter more


@each
@pytest.mark.parametrize("n", RUNS)
def test_iqm_is_covered(population: Population, n: int) -> None:
    coverage = measure_coverage(population, n, "iqm", arm_method("iqm"), DRAWS)
    assert coverage
    assert coverage[0] > 0.93 - NOISE


@each
def test_mean_is_covered_from_20_runs_on(population: Population) -> None:
    coverage = measure_coverage(population, 20, "mean", arm_method("mean"), DRAWS)
    assert coverage
    assert coverage[0] > 0.93 - NOISE
    assert measure_coverage(population, 10, "mean", arm_method("mean"), DRAWS) is None


@each_pair
@pytest.mark.parametrize("n", RUNS)
def test_difference_is_covered(pair: Pair, n: int) -> None:
    method = difference_method(paired=False)
    coverage = measure_difference_coverage(pair, n, "iqm", method, DRAWS)
    assert coverage
    assert coverage[0] > 0.93 - NOISE


@pytest.mark.parametrize("population", BOUNDED, ids=lambda p: p.name)
@pytest.mark.parametrize("n", RUNS)
def test_metrics_with_bounds_are_covered(population: Population, n: int) -> None:
    for statistic in ("iqm", "mean"):
        method = arm_method(statistic, population.bounds)
        coverage = measure_coverage(population, n, statistic, method, DRAWS)
        assert coverage is None or coverage[0] > 0.93 - NOISE


@pytest.mark.parametrize("pair", BOUNDED_PAIRS, ids=lambda p: f"{p.a.name}, {p.b.name}")
@pytest.mark.parametrize("n", RUNS)
def test_differences_with_bounds_are_covered(pair: Pair, n: int) -> None:
    method = difference_method(paired=False, bounds=pair.a.bounds)
    coverage = measure_difference_coverage(pair, n, "iqm", method, DRAWS)
    assert coverage
    assert coverage[0] > 0.93 - NOISE


def test_ignoring_the_bounds_would_be_detected() -> None:
    coverage = measure_coverage(BOUNDED[3], 3, "iqm", arm_method("iqm"), DRAWS)
    assert coverage
    assert coverage[0] < 0.7


def test_pairs_that_fail_together_are_compared_with_power() -> None:
    for paired, least, most in ((True, 0.5, 1), (False, 0, 0.1)):
        share = measure_verdicts(Seeds(0.5, 0.2), 20, 1.1, paired=paired, arms=1, draws=100)
        assert least <= share <= most


@each_pair
@pytest.mark.parametrize("pairing", ["opposed", "together"])
def test_difference_of_correlated_pairs_is_covered(pair: Pair, pairing: Pairing) -> None:
    method = difference_method(paired=True)
    coverage = measure_difference_coverage(pair, 6, "iqm", method, DRAWS, pairing=pairing)
    assert coverage
    assert coverage[0] > 0.93 - NOISE


def test_ignoring_negative_correlation_would_be_detected() -> None:
    method, pair = difference_method(paired=False), Pair(NORMAL, NORMAL)
    coverage = measure_difference_coverage(pair, 20, "iqm", method, DRAWS, pairing="opposed")
    assert coverage
    assert coverage[0] < 0.90


def test_common_intervals_would_be_detected() -> None:
    method = other_intervals.bootstrap_mean
    coverage = measure_coverage(TWO_PEAKED, 5, "mean", method, DRAWS)
    assert coverage
    assert coverage[0] < 0.75
    pair = Pair(NORMAL, TWO_PEAKED)
    for difference in (other_intervals.welch_t, other_intervals.shifts_not_rejected):
        coverage = measure_difference_coverage(pair, 5, "mean", difference, DRAWS)
        assert coverage
        assert coverage[0] < 0.90


def test_page_shows_populations_that_few_runs_cannot_represent() -> None:
    shares = [measure_coverage(p, 3, "iqm", arm_method("iqm"), DRAWS) for p in HARD]
    assert min(share[0] for share in shares if share) < 0.80
    text = PAGE.read_text(encoding="utf-8")
    assert all(f"| {population.name} | 3 |" in text for population in HARD)


@each
@pytest.mark.parametrize("paired", [False, True])
@pytest.mark.parametrize("n", [6, 20])
def test_false_positives_are_rare(population: Population, paired: bool, n: int) -> None:
    assert measure_false_positives(population, n, paired=paired, draws=DRAWS) < 0.055 + 0.015


def test_opposed_pairs_have_the_distributions_of_their_populations() -> None:
    pair = Pair(NORMAL, TWO_PEAKED)
    a, b = pair.draw_opposed(make_rng(), (1, 20_000))
    assert a.mean() == pytest.approx(240, abs=1)
    assert b.mean() == pytest.approx(pair.b.truth["mean"], abs=2)
    assert (a[0].argsort() == (-b[0]).argsort()).mean() > 0.9
    assert pair.truth["iqm"] == pytest.approx(240 - pair.b.truth["iqm"], abs=0.1)


def test_shifts_equal_those_by_hand() -> None:
    # 4 5 against 0 1: the five other splits reach the observed difference once a is shifted by
    # 3, 4, 4, 5 (one swapped) and 4 (both).
    a, b = np.array([[4, 5]]), np.array([[0, 1]])
    interval = other_intervals.shifts_not_rejected(a, b, make_rng())
    assert (interval.low[0], interval.high[0]) == pytest.approx((3, 5))


def test_page_has_no_coverage_below_the_claimed_level() -> None:
    """Except for pairs with five repeated values, which the page names."""
    text = PAGE.read_text(encoding="utf-8")
    arms, pairs = (
        re.findall(r"^\| (?!---|population)(.*) \|$", block, re.MULTILINE)
        for block in (find_block(text, "arms"), find_block(text, "differences"))
    )
    assert (len(arms), len(pairs)) == (4 * len(POPULATIONS), 4 * len(PAIRS))
    for row in arms:
        cells = row.split(" | ")
        assert float(cells[3]) >= 93, row
        assert cells[4] == "–" or float(cells[4]) >= 93, row
        assert max(float(share) for share in cells[-2:]) <= 5.5, row
    bounded = re.findall(
        r"^\| (?!---|population)(.*) \|$", find_block(text, "bounded"), re.MULTILINE
    )
    assert len(bounded) == 4 * len(BOUNDED)
    for row in bounded:
        cells = row.split(" | ")
        assert float(cells[2]) >= 93, row
        assert cells[3] == "–" or float(cells[3]) >= 93, row
    for row in pairs:
        cells = row.split(" | ")
        assert float(cells[3]) >= 93, row
        few = REAL_WORST.name in cells and int(cells[2]) < 6
        assert float(cells[4]) >= (91 if few else 93), row


def find_block(text: str, name: str) -> str:
    return text[text.index(f"<!-- {name}: begin") : text.index(f"<!-- {name}: end")]


def make_rng() -> np.random.Generator:
    return np.random.default_rng(0)
