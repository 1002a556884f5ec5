"""Intervals of values with bounds, and tests that more seeds never weaken."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shaperun.analysis.summary import ALPHA
from shaperun.stats.comparison import compare, seeds_needed
from shaperun.stats.intervals import Interval, difference_intervals, interval
from shaperun.stats.permutation import min_pairs, min_runs


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def bounded(x: object, statistic: str = "iqm") -> Interval:
    result = interval(x, statistic=statistic, bounds=(0, 1), rng=rng())  # type: ignore[arg-type]
    assert result
    return result


@pytest.mark.parametrize("n", [3, 4, 5, 10, 30])
def test_runs_that_are_all_at_a_bound_may_hide_others(n: int) -> None:
    # At most this share of the population is elsewhere, with 95% confidence: (1 − share)ⁿ = 0.05.
    share = 1 - 0.05 ** (1 / n)
    iqm, mean = max(0, (share - 0.25) / 0.5), share
    result = bounded(np.ones(n))
    assert result.high == 1
    assert result.low == pytest.approx(1 - iqm, abs=0.06)
    mirrored = bounded(np.zeros(n))
    assert mirrored.low == 0
    assert mirrored.high == pytest.approx(1 - result.low)
    if n >= 20:
        assert bounded(np.ones(n), "mean").low == pytest.approx(1 - mean, abs=0.03)
    median = bounded(np.ones(n), "median")
    assert (median.low, median.high) == (1, 1)


def test_half_of_the_runs_at_a_bound_widen_the_interval() -> None:
    one, most = [0.97, 0.98, 0.96, 0.97, 0.99, 1.0], [0.98, 0.99, 0.99, 1.0, 1.0, 1.0]
    free = interval(most, statistic="iqm", rng=rng())
    assert free
    assert free.high > 1
    assert bounded(most).low < 0.7 < 0.95 < free.low
    assert bounded(one).low == interval(one, statistic="iqm", rng=rng()).low  # type: ignore[union-attr]


def test_bounds_hold_up_to_rounding() -> None:
    result = bounded([1 + 1e-15, 1 - 1e-15, 1, 1, 1])
    assert 0.5 < result.low < 0.7
    outside = bounded([1, 1, 1, 3.0])  # damaged data: no value is cut off
    assert outside.high == 3


@pytest.mark.parametrize("bounds", [(1, 0), (0, np.inf), (-np.inf, 1), (np.nan, 1)])
def test_bounds_must_be_finite_and_in_order(bounds: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="two finite numbers in order"):
        interval([0, 1, 1], statistic="iqm", bounds=bounds, rng=rng())
    with pytest.raises(ValueError, match="two finite numbers in order"):
        compare([0, 1, 1], [0, 0, 1], paired=False, bounds=bounds, rng=rng())


@settings(deadline=None)
@given(
    st.lists(st.sampled_from([0, 0.2, 0.5, 0.99, 1]), min_size=3, max_size=24),
    st.lists(st.sampled_from([0, 0.2, 0.5, 0.99, 1]), min_size=3, max_size=24),
)
def test_no_interval_exceeds_its_bounds(x: list[float], y: list[float]) -> None:
    for statistic in ("iqm", "median", "mean"):
        result = interval(x, statistic=statistic, bounds=(0, 1), rng=rng())
        assert (
            result is None
            or 0 <= result.low <= np.mean(x) + 1 <= result.high + 1 <= 2
            or (statistic != "mean" and 0 <= result.low <= result.high <= 1)
        )
    y = (y * len(x))[: len(x)]
    for paired in (False, True):
        ends = difference_intervals([x], [y], paired=paired, bounds=(0, 1), rng=rng())
        assert ends
        assert -1 - 1e-9 <= ends.low[0] <= ends.high[0] <= 1 + 1e-9


@settings(deadline=None, max_examples=40)
@given(
    st.integers(1, 700),
    st.integers(3, 24),
    st.sampled_from([None, (0.0, 1.0)]),
    st.booleans(),
)
def test_more_seeds_never_hide_an_extreme_difference(
    arms: int, n: int, bounds: tuple[float, float] | None, spread: bool
) -> None:
    """Of so many arms that differ alike; a rule that loses them at n + 1 seeds is detected."""
    shown = []
    for runs in (n, n + 1):
        noise = np.random.default_rng(1).normal(0, 0.001, (2, runs)) if spread else 0.0
        a, b = np.abs(np.array([[1.0] * runs, [0.0] * runs]) - np.abs(noise))
        paired = runs >= min_pairs(ALPHA / arms)
        result = compare(a, b, paired=paired, comparisons=arms, bounds=bounds, rng=rng())
        assert result
        shown.append(result.verdict == "better" and arms * result.p_value <= ALPHA)
    assert shown[0] == (n >= min_runs(ALPHA / arms, paired=False))
    assert shown[1] >= shown[0]


@pytest.mark.parametrize("arms", [1, 2, 3, 8, 100, 1000])
def test_pairs_can_always_reach_the_corrected_level(arms: int) -> None:
    fewest = min_runs(ALPHA / arms, paired=False)
    assert fewest < min_runs(ALPHA / arms, paired=True) < min_pairs(ALPHA / arms)


def test_seeds_needed_know_what_runs_at_a_bound_hide() -> None:
    solved, half = [500.0] * 5, [380.0, 400, 420, 400, 400]
    assert seeds_needed(half, solved, paired=False, alpha=ALPHA) == 6
    needed = seeds_needed(half, solved, paired=False, alpha=ALPHA, bounds=(1, 500))
    assert needed is not None
    assert needed > 6
    for runs, verdict in ((5, "underpowered"), (needed, "worse")):
        more = np.resize(half, runs), np.resize(solved, runs)
        result = compare(*more, paired=False, bounds=(1, 500), rng=rng())
        assert result
        assert result.verdict == verdict
