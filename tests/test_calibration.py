"""The shorter version of `make calibrate`: what is claimed holds; what does not, is not claimed."""

from __future__ import annotations

import pytest
from calibration.__main__ import bootstrap_of_the_mean, claimed, coverage, false_positives
from calibration.populations import POPULATIONS, Population

each = pytest.mark.parametrize("population", POPULATIONS, ids=lambda p: p.name)


@each
@pytest.mark.parametrize("n", [3, 5, 10, 20])
def test_the_median_is_covered_at_its_level(population: Population, n: int) -> None:
    found = coverage(population, n, "median", claimed("median"), 2_000)
    assert found
    share, level = found
    assert share > level - 0.025  # five standard errors at the least


@each
@pytest.mark.parametrize("n", [3, 5, 10, 20])
def test_the_iqm_is_covered(population: Population, n: int) -> None:
    found = coverage(population, n, "iqm", claimed("iqm"), 500)
    assert found
    assert found[0] > 0.93 - 0.03


def test_the_usual_interval_would_be_found_out() -> None:
    two_peaked = POPULATIONS[2]
    found = coverage(two_peaked, 5, "mean", bootstrap_of_the_mean, 500)
    assert found
    assert found[0] < 0.75


@each
@pytest.mark.parametrize("paired", [False, True])
def test_false_positives(population: Population, paired: bool) -> None:
    assert false_positives(population, 6, paired=paired, draws=500) < 0.055 + 0.03
