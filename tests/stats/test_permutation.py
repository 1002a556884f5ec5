"""Permutation tests and Holm's correction against scipy and hand calculations."""

from itertools import product
from math import comb

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from shaperun.stats.permutation import holm, min_runs, p_values
from shaperun.stats.sample import Sample
from tests.helpers.samples import compare_samples, rng


def test_unpaired_p_by_hand() -> None:
    assert compare_samples([3, 4, 5], [0, 1, 2]).p_value == pytest.approx(2 / 20)
    assert compare_samples([4, 5, 6, 7], [0, 1, 2, 3]).p_value == pytest.approx(2 / 70)
    # 2 of the 6 splits of 0 1 1 2 are [2, 1]: 2 · 2/6. Ties count as extreme.
    assert compare_samples([2, 1], [0, 1]).p_value == pytest.approx(2 / 3)
    assert compare_samples([1, 1], [1, 1, 1]).p_value == 1
    assert compare_samples([9], [0, 1, 2]).p_value == pytest.approx(2 / 4)


def test_paired_p_by_hand() -> None:
    assert compare_samples([1, 2, 3, 4, 5, 6], [0] * 6, paired=True).p_value == pytest.approx(
        2 / 64
    )
    # Signs of 1, 2, 4: only 2 of the 8 sums, 7 and 5, reach 5.
    assert compare_samples([0, 2, 4], [1, 0, 0], paired=True).p_value == pytest.approx(2 * 2 / 8)
    # Two pairs are equal, so only one sign can change.
    assert compare_samples([5, 1, 1], [0, 1, 1], paired=True).p_value == 1


@pytest.mark.parametrize(("n", "m"), [(4, 4), (3, 7), (6, 2), (7, 7)])
def test_unpaired_p_matches_scipy(n: int, m: int) -> None:
    a, b = rng().lognormal(size=n), rng().lognormal(size=m + n)[n:]
    p = scipy.stats.permutation_test((a, b), statistic, n_resamples=np.inf).pvalue
    assert compare_samples(a, b).p_value == pytest.approx(p)


@pytest.mark.parametrize("n", [3, 6, 10])
def test_paired_p_matches_scipy(n: int) -> None:
    a, b = rng().lognormal(size=(2, n))
    p = scipy.stats.permutation_test(
        (a, b), statistic, n_resamples=np.inf, permutation_type="samples"
    ).pvalue
    assert compare_samples(a, b, paired=True).p_value == pytest.approx(p)


def statistic(a: Sample, b: Sample, axis: int) -> Sample:
    trimmed = scipy.stats.trim_mean(a, 0.25, axis=axis) - scipy.stats.trim_mean(b, 0.25, axis=axis)
    return np.asarray(trimmed + 1e-3 * (a.mean(axis=axis) - b.mean(axis=axis)))


def test_four_against_four_can_be_significant() -> None:
    """With the IQM alone they could not: trimming ties two of the 70 splits at either end."""
    assert compare_samples([4, 5, 6, 7], [0, 1, 2, 3]).p_value == pytest.approx(2 / 70)
    assert compare_samples([4.0, 50, 60, 70], [0.0, 1, 2, 3]).p_value == pytest.approx(2 / 70)


@pytest.mark.parametrize("paired", [False, True])
def test_p_values_match_compare_for_each_row(paired: bool) -> None:
    a, b = rng().normal(size=(2, 5, 7))
    result = p_values(a, b, paired=paired, rng=rng())
    expected = [compare_samples(x, y, paired=paired).p_value for x, y in zip(a, b, strict=True)]
    assert result == pytest.approx(expected)


def test_sampled_p_is_close_to_the_exact_p(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = rng().normal(size=(2, 8))
    exact = [compare_samples(a, b, paired=paired).p_value for paired in (False, True)]
    monkeypatch.setattr("shaperun.stats.permutation.MAX_ENUMERATED", 0)
    sampled = [compare_samples(a, b, paired=paired).p_value for paired in (False, True)]
    assert sampled == pytest.approx(exact, abs=0.03)
    assert sampled != exact


@pytest.mark.parametrize("paired", [False, True])
def test_sampled_p_is_never_zero(paired: bool) -> None:
    a = np.arange(30.0)
    assert compare_samples(a + 1000, a, paired=paired).p_value == pytest.approx(2 / 10_000)


def test_rounding_does_not_break_ties() -> None:
    a, b = [0.1 + 0.2, 0.3, 0.3], [0.3, 0.1 + 0.2, 0.3]
    assert compare_samples(a, b).p_value == 1
    assert compare_samples(a, b, paired=True).p_value == 1


def test_min_runs_is_the_smallest_number_that_reaches_alpha() -> None:
    for alpha in (0.2, 0.05, 0.01, 0.001):
        needed = compare_samples([1], [0], level=1 - alpha).seeds_needed
        assert needed == min_runs(alpha, paired=False)
        assert needed is not None
        assert 2 / comb(2 * needed, needed) <= alpha < 2 / comb(2 * needed - 2, needed - 1)


@pytest.mark.parametrize(("n", "m", "paired"), [(20, 20, False), (15, 25, False), (20, 20, True)])
def test_swapping_keeps_a_sampled_p(n: int, m: int, paired: bool) -> None:
    a, b = rng().normal(size=n) + 0.3, rng().normal(size=m + n)[n:]
    assert (
        compare_samples(a, b, paired=paired).p_value == compare_samples(b, a, paired=paired).p_value
    )


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.6]) == pytest.approx([1, 1])
    assert holm([0.2]) == pytest.approx([0.2])
    assert len(holm([])) == 0


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_lies_between_no_correction_and_bonferroni(p: list[float]) -> None:
    adjusted = holm(p)
    assert (adjusted >= p).all()
    assert (adjusted <= np.minimum(1, np.multiply(p, len(p))) + 1e-12).all()
    for i, j in product(range(len(p)), repeat=2):
        assert p[i] > p[j] or adjusted[i] <= adjusted[j]
