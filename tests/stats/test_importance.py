"""Explained variance: known effects have their share, absent ones no more than chance."""

import numpy as np
import pytest

from shaperun.stats.importance import explained_variance_shares, min_trials
from shaperun.stats.sample import Sample


def draw_data(count: int, seed: int = 0, quantities: int = 3) -> tuple[list[Sample], Sample]:
    """Draw uniform quantities and as many values of noise."""
    rng = np.random.default_rng(seed)
    return list(rng.uniform(size=(quantities, count))), rng.normal(size=count)


def test_shares_of_known_effects() -> None:
    (a, b, c), noise = draw_data(1000)
    shares = explained_variance_shares([a, b, c], 3 * a + 1.5 * (2 * b - 1) ** 2 + 0.5 * noise)
    linear, quadratic, rest = 9 / 12, 1.5**2 * 4 / 45, 0.25
    total = linear + quadratic + rest
    assert [one.share for one in shares] == pytest.approx(
        [linear / total, quadratic / total, 0], abs=0.05
    )
    assert [one.share > one.chance for one in shares] == [True, True, False]


def test_collinear_quantities_have_no_share() -> None:
    (a, b), _ = draw_data(100, quantities=2)
    one, same, other = explained_variance_shares([a, a + 1e-9 * b, b], a + b)
    assert one.share == pytest.approx(0, abs=1e-6)
    assert same.share == pytest.approx(0, abs=1e-6)
    assert other.share == pytest.approx(np.var(b) / np.var(a + b), abs=0.2)


def test_noise_exceeds_chance_in_one_of_twenty_shares() -> None:
    shares = [
        one
        for seed in range(60)
        for one in explained_variance_shares(*draw_data(min_trials(3), seed))
    ]
    exceeded = sum(one.share > one.chance for one in shares)
    assert 1 <= exceeded <= 20  # of 180; a twentieth is 9
    assert np.mean([one.share for one in shares]) > 0.03  # a fit explains some of any noise


def test_strong_effect_is_detected_with_min_trials() -> None:
    detected = 0
    for seed in range(40):
        (a, b, c), noise = draw_data(min_trials(3), seed)
        first, *_ = explained_variance_shares([a, b, c], 3 * a + b + 0.8 * noise)
        detected += first.share > first.chance
    assert detected >= 32


def test_too_few_or_equal_outcomes_have_no_shares() -> None:
    assert (min_trials(1), min_trials(2), min_trials(4)) == (16, 16, 32)
    assert not explained_variance_shares(*draw_data(min_trials(3) - 1))
    assert len(explained_variance_shares(*draw_data(min_trials(3)))) == 3
    quantities, outcomes = draw_data(30)
    assert not explained_variance_shares(quantities, np.zeros_like(outcomes))


def test_quantities_with_one_or_two_values() -> None:
    two, one = np.tile([0.0, 1.0], 8), np.zeros(16)
    first, second = explained_variance_shares([two, one], two + 0.1 * np.arange(16))
    assert first.share == pytest.approx(
        1 - np.var(0.1 * np.arange(16)) / np.var(two + 0.1 * np.arange(16)), abs=0.1
    )
    assert second.share == 0


def test_shares_are_deterministic() -> None:
    assert explained_variance_shares(*draw_data(40)) == explained_variance_shares(*draw_data(40))
