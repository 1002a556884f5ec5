"""What a weight explains: found where it is there, and no more than chance where it is not."""

import numpy as np
import pytest

from shaperun.stats.importance import Sample, explained_variance_shares, min_trials


def drawn(count: int, seed: int = 0, quantities: int = 3) -> tuple[list[Sample], Sample]:
    """Quantities that are spread evenly, and as much noise."""
    rng = np.random.default_rng(seed)
    return list(rng.uniform(size=(quantities, count))), rng.normal(size=count)


def test_shares_are_what_each_quantity_adds_to_the_variance() -> None:
    (a, b, c), noise = drawn(1000)
    found = explained_variance_shares([a, b, c], 3 * a + 1.5 * (2 * b - 1) ** 2 + 0.5 * noise)
    line, curve, rest = 9 / 12, 1.5**2 * 4 / 45, 0.25
    whole = line + curve + rest
    assert [one.share for one in found] == pytest.approx([line / whole, curve / whole, 0], abs=0.05)
    assert [one.share > one.chance for one in found] == [True, True, False]


def test_what_two_explain_equally_well_is_counted_for_neither() -> None:
    (a, b), _ = drawn(100, quantities=2)
    alone, same, other = explained_variance_shares([a, a + 1e-9 * b, b], a + b)
    assert alone.share == pytest.approx(0, abs=1e-6)
    assert same.share == pytest.approx(0, abs=1e-6)
    assert other.share == pytest.approx(np.var(b) / np.var(a + b), abs=0.2)


def test_chance_is_passed_by_chance_one_time_in_twenty() -> None:
    found = [
        one for seed in range(60) for one in explained_variance_shares(*drawn(min_trials(3), seed))
    ]
    passed = sum(one.share > one.chance for one in found)
    assert 1 <= passed <= 20  # of 180; a twentieth is 9
    assert np.mean([one.share for one in found]) > 0.03  # a fit explains something of anything


def test_a_strong_weight_is_heard_with_the_fewest_trials() -> None:
    heard = 0
    for seed in range(40):
        (a, b, c), noise = drawn(min_trials(3), seed)
        first, *_ = explained_variance_shares([a, b, c], 3 * a + b + 0.8 * noise)
        heard += first.share > first.chance
    assert heard >= 32


def test_too_few_and_equal_outcomes_have_no_shares() -> None:
    assert (min_trials(1), min_trials(2), min_trials(4)) == (16, 16, 32)
    assert not explained_variance_shares(*drawn(min_trials(3) - 1))
    assert len(explained_variance_shares(*drawn(min_trials(3)))) == 3
    quantities, outcomes = drawn(30)
    assert not explained_variance_shares(quantities, np.zeros_like(outcomes))


def test_values_of_a_grid_need_no_curve() -> None:
    """Two values have no curve, and one value explains nothing."""
    two, one = np.tile([0.0, 1.0], 8), np.zeros(16)
    first, second = explained_variance_shares([two, one], two + 0.1 * np.arange(16))
    assert first.share == pytest.approx(
        1 - np.var(0.1 * np.arange(16)) / np.var(two + 0.1 * np.arange(16)), abs=0.1
    )
    assert second.share == 0


def test_the_same_numbers_give_the_same_shares() -> None:
    assert explained_variance_shares(*drawn(40)) == explained_variance_shares(*drawn(40))
