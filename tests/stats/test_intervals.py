"""Intervals against scipy and hand calculations."""

import subprocess
import sys
from time import perf_counter

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from shaperun.stats.intervals import Interval, interval, intervals
from shaperun.stats.sample import iqm
from tests.helpers.samples import rng


def test_scipy_is_imported_lazily() -> None:
    code = (
        "import sys, shaperun.stats.intervals; assert not {'scipy', 'pydantic'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("level", [0.5, 0.95])
def test_interval_of_the_mean_is_the_union_of_both_methods(level: float) -> None:
    x, generator = rng().exponential(size=25), np.random.default_rng(1)
    result = [interval(x, level=level, rng=generator) for _ in range(30)]
    assert {(f.level, f.method) for f in result if f} == {(level, "Student's t and bootstrap-t")}
    low, high = np.mean([(f.low, f.high) for f in result if f], axis=0)
    drawn = generator.choice(x, size=(30_000, 25))
    error = x.std(ddof=1) / 5
    t = (drawn.mean(axis=1) - x.mean()) / (drawn.std(axis=1, ddof=1) / 5)
    least, most = np.quantile(t, [(1 - level) / 2, (1 + level) / 2])
    students = scipy.stats.ttest_1samp(x, 0).confidence_interval(level)
    expected = (min(students.low, x.mean() - most * error), x.mean() - least * error)
    assert (low, high) == pytest.approx(expected, abs=0.1 * error)


def test_interval_of_the_mean_needs_twenty_runs() -> None:
    assert interval(np.arange(19), rng=rng()) is None
    assert interval(np.arange(20), rng=rng())


def test_interval_at_the_edges() -> None:
    for statistic in ("mean", "median", "iqm"):
        assert interval([], statistic=statistic, rng=rng()) is None
        assert interval([1.0], statistic=statistic, rng=rng()) is None
        same = interval([0.1] * 20, statistic=statistic, rng=rng())
        assert same
        assert (same.low, same.high) == pytest.approx((0.1, 0.1))
    # All runs but one are equal: a third of the resamples have no variance, so t is unbounded.
    nearly_equal = [5.0] + [0.1] * 24
    assert interval(nearly_equal, rng=rng()) is None
    unbounded = intervals([nearly_equal], rng=rng())
    assert unbounded
    assert np.isfinite(unbounded.low[0])
    assert unbounded.high[0] == np.inf
    with pytest.raises(ValueError, match="'mode'"):
        interval([1, 2], statistic="mode", rng=rng())


@pytest.mark.parametrize("statistic", ["mean", "median", "iqm"])
def test_intervals_match_interval_of_each_row(statistic: str) -> None:
    x = rng().lognormal(size=(6, 23))
    result = intervals(x, statistic=statistic, rng=rng())
    assert result
    for row, low, high in zip(x, result.low, result.high, strict=True):
        one = interval(row, statistic=statistic, rng=rng())
        assert one
        assert (low, high) == pytest.approx((one.low, one.high), rel=1e-12)
        assert (result.level, result.method) == (one.level, one.method)


@pytest.mark.parametrize("n", [5, 50])
def test_intervals_of_many_rows_are_fast(n: int) -> None:
    x = rng().normal(size=(4_000, n))
    begin = perf_counter()
    intervals(x, statistic="iqm", rng=rng())
    assert perf_counter() - begin < 3  # 0.1 s on an idle machine


@settings(deadline=None)
@given(
    st.lists(st.integers(-400, 400), min_size=3, max_size=30),
    st.sampled_from([0.25, 1.0, 64.0]),
    st.integers(-1000, 1000),
    st.sampled_from(["mean", "median", "iqm"]),
)
def test_intervals_follow_shift_and_scale(
    x: list[int], scale: float, shift: int, statistic: str
) -> None:
    one = interval(x, statistic=statistic, rng=rng())
    other = interval(scale * np.array(x) + shift, statistic=statistic, rng=rng())
    assert (one is None) == (other is None)
    if one and other:
        expected = (scale * one.low + shift, scale * one.high + shift)
        assert (other.low, other.high) == pytest.approx(expected, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize(
    ("n", "low", "high", "level"),
    [
        (2, 0, 1, 0.5),
        (3, 0, 2, 0.75),
        (5, 0, 4, 0.9375),
        (6, 0, 5, 0.96875),
        (10, 1, 8, 0.978515625),
    ],
)
def test_interval_of_the_median_by_hand(n: int, low: float, high: float, level: float) -> None:
    result = interval(range(n), statistic="median", rng=rng())
    assert result == Interval(low, high, level, "order statistics")


def test_level_of_the_median_matches_the_sign_test() -> None:
    for n in range(6, 40):
        result = interval(range(n), statistic="median", rng=rng())
        assert result
        outside = 2 * scipy.stats.binom.cdf(result.low, n, 0.5)
        assert result.level == pytest.approx(1 - outside)
        wider = 2 * scipy.stats.binom.cdf(result.low + 1, n, 0.5)
        assert outside <= 0.05 < wider


def test_interval_of_the_iqm_is_the_union_of_both_methods() -> None:
    x = np.array([3.0, -1, 4, 1, 5, 9, 2, 6, 5, 30])
    result = interval(x, statistic="iqm", rng=rng())
    assert result
    resamples = np.random.default_rng(1).choice(x, size=(4_000, 10))
    bootstrap = np.quantile(scipy.stats.trim_mean(resamples, 0.25, axis=1), [0.025, 0.975])
    t = 1.1 * scipy.stats.t.ppf(0.975, 9) * x.std(ddof=1) / np.sqrt(10)
    assert result.low == pytest.approx(min(bootstrap[0], iqm(x) - t), abs=0.2)
    assert result.high == pytest.approx(max(bootstrap[1], iqm(x) + t), abs=0.4)
    assert interval(x[::-1], statistic="iqm", rng=rng()) == result
    assert interval([1, 2], statistic="iqm", rng=rng()) is None
    same = interval([7] * 6, statistic="iqm", rng=rng())
    assert same
    assert (same.low, same.high) == (7, 7)
