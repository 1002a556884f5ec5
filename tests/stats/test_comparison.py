"""Comparisons against hand calculations, and their invariances."""

from collections.abc import Callable
from dataclasses import asdict, replace
from math import isnan

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from shaperun.stats.comparison import Comparison, compare, seeds_needed
from shaperun.stats.intervals import difference_intervals, interval, intervals
from shaperun.stats.permutation import holm, min_runs, p_values
from shaperun.stats.sample import Sample, iqm
from tests.helpers.samples import compare_samples, rng


def test_difference_of_iqms() -> None:
    assert compare_samples([0, 250, 260, 270], [0, 10, 20, -900]).difference == 255 - 5


@pytest.mark.parametrize(("n", "m"), [(3, 3), (4, 7), (20, 20)])
def test_difference_interval_combines_both_intervals(n: int, m: int) -> None:
    a, b = rng().normal(size=n) + 1, rng().lognormal(size=m + n)[n:]
    result = compare_samples(a, b)
    seed = int(rng().integers(2**32))
    in_a, in_b = (interval(x, statistic="iqm", rng=np.random.default_rng(seed)) for x in (a, b))
    assert in_a
    assert in_b
    low = result.difference - np.hypot(iqm(a) - in_a.low, in_b.high - iqm(b))
    high = result.difference + np.hypot(in_a.high - iqm(a), iqm(b) - in_b.low)
    assert (result.low, result.high, result.level) == pytest.approx((low, high, 0.95))


def test_difference_interval_uses_the_trusted_correlation() -> None:
    x, other = np.linalg.qr(rng().normal(size=(10, 3)) - [1, 0, 0])[0].T[:2]
    x, other = x - x.mean(), other - other.mean()
    other -= x * (x @ other) / (x @ x)
    half = x / np.linalg.norm(x) + 3**0.5 * other / np.linalg.norm(other)  # r = 0.5
    width = {}
    nearly = 0.96 * x / np.linalg.norm(x) + 0.28 * other / np.linalg.norm(other)
    others = {"negative": -x, "positive": x, "half": half, "constant": np.zeros(10)}
    others["nearly"] = nearly * np.linalg.norm(x)  # r = 0.96, shown to be above 0.8 only
    for name, y in others.items():
        unpaired, paired = (compare_samples(x, y, paired=which) for which in (False, True))
        width[name] = (paired.high - paired.low) / (unpaired.high - unpaired.low)
    assert width["negative"] == pytest.approx(np.sqrt(2), rel=0.02)
    assert width["positive"] == 0  # all differences are equal
    assert width["nearly"] == pytest.approx(np.sqrt(1 - 0.7), rel=0.02)
    assert width["half"] == 1  # ten pairs with r = 0.5 may be uncorrelated
    assert width["constant"] == 1


@pytest.mark.parametrize("paired", [False, True])
def test_two_runs_per_arm_are_underpowered(paired: bool) -> None:
    result = compare_samples([1000, 1001], [0, 1], paired=paired)
    assert isnan(result.low)
    assert isnan(result.high)
    assert result.verdict == "underpowered"
    assert difference_intervals([[1, 2]], [[1, 2]], paired=paired, rng=rng()) is None


def test_different_spread_alone_is_not_better_or_worse() -> None:
    """The permutation test alone may reject populations that differ only in spread."""
    tight, wide = np.linspace(-1, 1, 30) + 6, np.linspace(-60, 60, 30)
    result = compare_samples(tight, wide)
    assert result.low < 0 < result.difference
    assert result.verdict not in ("better", "worse")


def test_improvement_by_hand() -> None:
    a, b = [1, 2, 3, 3], [0, 3, 3]
    u = scipy.stats.mannwhitneyu(a, b).statistic
    assert compare_samples(a, b).improvement == pytest.approx(u / 12)
    assert compare_samples([1, 2, 3, 3], [0, 2, 4, 0], paired=True).improvement == pytest.approx(
        2.5 / 4
    )


@pytest.mark.parametrize(
    ("n", "m", "paired", "level", "needed"),
    [
        (3, 3, False, 0.95, 4),
        (2, 5, False, 0.95, 4),
        (4, 4, False, 0.95, None),
        (3, 3, False, 0.90, None),  # 2/20 reaches 0.1 exactly
        (4, 4, False, 0.99, 5),
        (5, 5, True, 0.95, 6),
        (6, 6, True, 0.95, None),
        (1, 1, False, 0.5, 2),
        (1, 50, False, 0.95, 4),  # 2/51 is enough for the test, but one run has no variance
        (1, 1, True, 0.95, 6),
    ],
)
def test_underpowered_gives_seeds_needed(
    n: int, m: int, paired: bool, level: float, needed: int | None
) -> None:
    result = compare_samples(np.arange(n) + 1000, np.arange(m), paired=paired, level=level)
    assert result.seeds_needed == needed
    if paired and needed is None:
        assert result.p_value <= 1 - level
    assert result.verdict == ("better" if needed is None else "underpowered")


def test_seeds_needed_by_hand() -> None:
    # (1.95996 + 0.84162)² · (2 + 2) / (0.84 · 1.5²) + 1.95996² / 2 = 18.53
    a, b = [3.5, 1.5], [2.0, 0.0]
    assert seeds_needed(a, b, paired=False, alpha=0.05) == 19
    assert seeds_needed(b, a, paired=False, alpha=0.05) == 19
    assert seeds_needed(a, b, paired=True, alpha=0.05) == 19  # positively correlated pairs: no gain
    # var(a − b) is 8: (2.80159)² · 8 / 1.89 + 1.92 = 35.1
    assert seeds_needed(a, b[::-1], paired=True, alpha=0.05) == 36
    assert seeds_needed(a, b, paired=False, alpha=0.01) == 29


def test_seeds_needed_at_the_edges() -> None:
    def needed(a: object, b: object, alpha: float = 0.05) -> int | None:
        return seeds_needed(a, b, paired=False, alpha=alpha)  # type: ignore[arg-type]

    assert needed([1, 2, 3, 4], [4, 3, 2, 1]) is None
    assert needed([0.1 + 0.2] * 4, [0.3] * 4) is None
    assert needed([1, 1, 1, 1], [0, 0, 0, 0]) == 5  # more than the present 4
    assert needed([100] * 9, range(9)) == 10
    assert needed([1] * 3, [0] * 9) == 4
    assert needed([1] * 100, [0] * 100) is None
    assert needed([0, 1, 2, 3], [0, 1, 2, 3.2]) is None  # needs thousands
    assert needed([0, 1, 2], [0, 1, 2.1]) == 4  # so does this, but the test needs 4
    assert needed([1], [0]) == needed([1], [1]) == 4


@pytest.mark.parametrize(
    ("effect", "paired", "correlation"),
    [(1.0, False, 0.0), (1.5, False, 0.0), (2.0, False, 0.0), (1.5, True, -0.7), (1.0, True, 0.0)],
)
def test_seeds_needed_gives_80_percent_power(
    effect: float, paired: bool, correlation: float
) -> None:
    """800 draws from normal populations whose means differ by `effect` standard deviations."""
    x, y = np.array([[-1, 1, 1, -1], [-1, -1, 1, 1]]) * np.sqrt(3) / 2
    n = seeds_needed(x + effect, mixed(x, y, correlation), paired=paired, alpha=0.05)
    assert n is not None
    generator = np.random.default_rng(1)
    a, c = generator.normal(size=(2, 800, n))
    b = mixed(a, c, correlation)
    result = difference_intervals(a + effect, b, paired=paired, rng=generator)
    assert result
    p = p_values(a + effect, b, paired=paired, rng=generator, resamples=499)
    assert 0.70 < np.mean((p <= 0.05) & (result.low > 0)) < 0.92


def mixed(x: Sample, y: Sample, correlation: float) -> Sample:
    return np.asarray(correlation * x + np.sqrt(1 - correlation**2) * y)


def test_verdicts_by_hand() -> None:
    low, high = [0.0, 1, 2, 3], [10.0, 11, 12, 13]
    assert compare_samples(high, low).verdict == "better"
    assert compare_samples(low, high).verdict == "worse"
    assert compare_samples(low, low[::-1]).verdict == "no difference shown"
    assert compare_samples([1] * 4, [1] * 4).verdict == "no difference shown"
    assert compare_samples([1, 1], [1, 1]).verdict == "underpowered"  # whatever they were
    wide = [-50.0, -20, 20, 60]
    assert compare_samples(np.add(wide, 40), wide).verdict == "underpowered"
    assert compare_samples(np.add(wide, 1), wide).verdict == "no difference shown"
    assert compare_samples([1, 1, 1, 1], [0, 0, 0, 0]).verdict == "better"


def test_one_run_has_no_interval() -> None:
    for paired in (False, True):
        result = compare_samples([3], [1], paired=paired)
        assert isnan(result.low)
        assert isnan(result.high)
        assert (result.difference, result.p_value, result.improvement) == (2, 1, 1)


def test_empty_samples_give_no_comparison() -> None:
    assert compare([], [1.0], paired=False, rng=rng()) is None
    assert compare([1.0], [], paired=False, rng=rng()) is None
    assert compare([], [], paired=True, rng=rng()) is None


@pytest.mark.parametrize(
    "call",
    [
        lambda: compare_samples([1, float("nan")], [1, 2]),
        lambda: compare_samples([1, 2], [1, float("inf")]),
        lambda: compare_samples([[1, 2]], [1, 2]),
        lambda: compare_samples([1, 2], [1], paired=True),
        lambda: compare_samples([1, 2], [1, 2], level=1.0),
        lambda: interval([1, float("nan")], rng=rng()),
        lambda: interval([1, 2], level=0.0, rng=rng()),
        lambda: intervals([1, 2], rng=rng()),
        lambda: intervals([[1, float("nan")]], rng=rng()),
        lambda: p_values([1, 2], [3, 4], paired=False, rng=rng()),
        lambda: iqm([float("-inf")]),
        lambda: holm([0.5, float("nan")]),
        lambda: holm([0.5, 1.5]),
    ],
)
def test_invalid_input_is_refused(call: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match=r"finite|dimension|length|level|between"):
        call()


@pytest.mark.parametrize("paired", [False, True])
def test_false_positive_rate_is_at_most_alpha(paired: bool) -> None:
    """Populations that are skewed, have outliers or have ties."""
    generator, repeats = np.random.default_rng(1), 600
    draws: list[Callable[[], Sample]] = [
        lambda: generator.lognormal(sigma=2, size=6),
        lambda: np.where(generator.random(6) < 0.8, 240, 100) + generator.normal(0, 30, 6),
        lambda: generator.integers(0, 3, size=6).astype(float),
    ]
    for draw in draws:
        result = [compare_samples(draw(), draw(), paired=paired) for _ in range(repeats)]
        rejected = np.mean([c.p_value <= 0.05 for c in result])
        assert rejected <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / repeats)
        assert np.mean([c.verdict in ("better", "worse") for c in result]) <= rejected


SIZES = st.sampled_from([(1, 1), (2, 5), (3, 3), (4, 4), (3, 6), (6, 6)])
# Quarters are exact in binary, so only the arithmetic on them is rounded.
VALUES = st.integers(-400, 400).map(lambda k: k / 4)


@st.composite
def samples(draw: st.DrawFn) -> tuple[list[float], list[float], bool]:
    n, m = draw(SIZES)
    a, b = (draw(st.lists(VALUES, min_size=k, max_size=k)) for k in (n, m))
    return a, b, n == m and draw(st.booleans())


def assert_same(result: Comparison, expected: Comparison) -> None:
    """Assert that all fields are equal, floats up to rounding."""
    for (name, one), other in zip(asdict(result).items(), asdict(expected).values(), strict=True):
        if isinstance(one, float):
            other = pytest.approx(other, abs=1e-9, nan_ok=True)
        assert one == other, name


@settings(deadline=None)
@given(samples())
def test_swapping_mirrors_the_comparison(case: tuple[list[float], list[float], bool]) -> None:
    a, b, paired = case
    one, other = compare_samples(a, b, paired=paired), compare_samples(b, a, paired=paired)
    mirror = {"better": "worse", "worse": "better"}
    expected = replace(
        one,
        difference=-one.difference,
        low=-one.high,
        high=-one.low,
        improvement=1 - one.improvement,
        verdict=mirror.get(one.verdict, one.verdict),
    )
    assert_same(other, expected)
    assert other.p_value == one.p_value


@settings(deadline=None)
@given(samples(), st.integers(-1000, 1000))
def test_shifting_both_samples_changes_nothing(
    case: tuple[list[float], list[float], bool], shift: int
) -> None:
    a, b, paired = case
    moved = compare_samples(np.add(a, shift), np.add(b, shift), paired=paired)
    assert_same(moved, compare_samples(a, b, paired=paired))


@settings(deadline=None)
@given(samples(), st.sampled_from([0.25, 2.0, 64.0]))
def test_scaling_both_samples_scales_the_difference(
    case: tuple[list[float], list[float], bool], scale: float
) -> None:
    a, b, paired = case
    one = compare_samples(a, b, paired=paired)
    expected = replace(
        one, difference=scale * one.difference, low=scale * one.low, high=scale * one.high
    )
    assert_same(
        compare_samples(np.multiply(a, scale), np.multiply(b, scale), paired=paired), expected
    )


@settings(deadline=None)
@given(samples())
def test_verdict_agrees_with_its_numbers(
    case: tuple[list[float], list[float], bool],
) -> None:
    a, b, paired = case
    result = compare_samples(a, b, paired=paired)
    assert (result.verdict == "underpowered") == (result.seeds_needed is not None)
    assert isnan(result.low) == (min(len(a), len(b)) < 3)
    if result.verdict in ("better", "worse"):
        assert result.p_value <= 0.05
        assert result.low > 0 if result.verdict == "better" else result.high < 0
    if result.seeds_needed:
        assert min(len(a), len(b)) < result.seeds_needed <= 100
        assert result.seeds_needed >= min_runs(0.05, paired)


@settings(deadline=None)
@given(samples())
def test_order_of_runs_does_not_matter(case: tuple[list[float], list[float], bool]) -> None:
    a, b, _ = case
    assert_same(compare_samples(sorted(a), sorted(b)), compare_samples(a, b))
