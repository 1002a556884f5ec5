from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shaperun.common.errors import UserError
from shaperun.envs.base import Array
from shaperun.preferences import fit as preferences
from shaperun.preferences.answers import AnswerSheet
from shaperun.preferences.fit import MIN_ANSWERS, Fit, curvature, fit, fit_weights
from tests.helpers.preferences import simulated

WEIGHTS = [2.0, -1.0, 0.5]


def direction(weights: object) -> np.ndarray:
    values = np.array(list(weights.values()) if isinstance(weights, dict) else weights)
    return np.asarray(values / np.linalg.norm(values))


def test_many_answers_give_the_weights_back() -> None:
    found = fit(simulated(WEIGHTS, 1500))
    assert direction(found.weights) == pytest.approx(direction(WEIGHTS), abs=0.06)
    assert found.decided == 1500
    assert not found.constant
    assert not found.collinear


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    """The direction is known; the length is that of the answers' own scale."""
    held = []
    for seed in range(24):
        sheet = simulated(WEIGHTS, 200, seed=seed)
        found = fit(sheet)
        unit = np.linalg.norm(list(found.weights.values())) / np.linalg.norm(WEIGHTS)
        for name, weight in zip(found.weights, WEIGHTS, strict=True):
            held.append(found.low[name] <= unit * weight <= found.high[name])
    assert 0.88 <= np.mean(held) <= 1.0


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.sampled_from(preferences.RIDGES))
def test_nothing_near_the_maximum_is_better(seed: int, ridge: float) -> None:
    luck = np.random.default_rng(seed)
    differences, preferred = luck.normal(size=(30, 3)), luck.choice([0, 0.5, 1], 30)

    def loss(weights: np.ndarray) -> float:
        worth = differences @ weights
        own = np.log1p(np.exp(-worth)) + (1 - preferred) * worth
        return float(own.sum() + ridge / 2 * (weights**2).sum())

    best = fit_weights(differences, preferred, ridge)
    steps = 1e-3 * luck.normal(size=(50, 3))
    assert all(loss(best) <= loss(best + step) for step in steps)
    second = curvature(differences, best, ridge)
    for step in steps:
        rise = loss(best + step) - loss(best)
        assert rise == pytest.approx(step @ second @ step / 2, rel=0.05, abs=1e-8)


def test_the_unit_of_a_term_does_not_matter() -> None:
    spread = np.array([1.0, 1e4, 1e-3])
    plain = fit(simulated(WEIGHTS, 100, wrong=False))
    other = fit(simulated(list(np.array(WEIGHTS) / spread), 100, wrong=False, spread=spread))
    for name, factor in zip(plain.weights, spread, strict=True):
        assert other.weights[name] * factor == pytest.approx(plain.weights[name], rel=1e-5)
    assert other.predicted == plain.predicted
    assert other.ridge == plain.ridge


def test_worths_spread_as_the_returns_do() -> None:
    sheet = simulated(WEIGHTS, 50)
    worths = sheet.sums[0] @ np.array(list(fit(sheet).weights.values()))
    returns = [episode.discounted for episode in sheet.episodes]
    assert worths.std() == pytest.approx(np.std(returns))


def test_equal_answers_say_that_worths_are_near() -> None:
    sure, torn = (simulated(WEIGHTS, 80, wrong=False, equal_within=w) for w in (0.0, 1.0))
    assert fit(sure).equal == 0
    found = fit(torn)
    assert found.equal > 5
    assert found.decided + found.equal == 80
    assert direction(found.weights) == pytest.approx(direction(WEIGHTS), abs=0.15)


def test_what_is_foreseen_is_what_was_not_known() -> None:
    assert fit(simulated(WEIGHTS, 120, wrong=False)).predicted > 0.9
    # Of somebody who throws a coin nothing can be foreseen, however well the fit follows him.
    coins = [fit(simulated([0.0] * 6, 60, seed=seed)).predicted for seed in range(12)]
    assert 0.4 < np.mean(coins) < 0.6


def test_terms_that_cannot_be_told_apart_are_named() -> None:
    sheet = with_sums(lambda sums: np.column_stack([sums, 3 * sums[:, 0], sums[:, 1] * -2]))
    pairs = [(one, other, round(alike)) for one, other, alike in fit(sheet).collinear]
    assert pairs == [("t0", "t3", 1), ("t1", "t4", -1)]


def test_a_term_that_is_the_same_everywhere_has_no_weight() -> None:
    sheet = with_sums(lambda sums: np.column_stack([sums, np.full(len(sums), 7.0)]))
    found = fit(sheet)
    assert found.constant == ["t3"]
    assert "t3" not in found.weights
    with pytest.raises(UserError, match="no term differs"):
        fit(with_sums(lambda sums: np.ones_like(sums)))


def test_a_term_of_which_nothing_is_left_with_gamma_has_no_weight() -> None:
    """As an outcome after 500 steps at γ 0.98: whatever its weight, the answers are the same."""
    ends = (np.arange(80) % 7 == 0).astype(float)

    def found(left: float) -> Fit:
        plain = with_sums(lambda sums: np.column_stack([sums, ends])).sums[0]
        return fit(with_sums(lambda sums: np.column_stack([sums, left * ends]), plain))

    assert found(0.98**500).negligible == ["t3"]
    for part in (found(0.98**500).weights, found(0.98**500).low, found(0.98**500).high):
        assert list(part) == ["t0", "t1", "t2"]
    assert found(0.98**200).negligible == []
    assert "t3" in found(0.98**200).weights
    with pytest.raises(UserError, match="no term differs"):
        fit(with_sums(lambda sums: 1e-3 * sums, simulated(WEIGHTS, 40).sums[0]))


def test_a_few_answers_are_too_few() -> None:
    with pytest.raises(UserError, match=f"{MIN_ANSWERS - 1} answers prefer one of two"):
        fit(simulated(WEIGHTS, MIN_ANSWERS - 1))
    fit(simulated(WEIGHTS, MIN_ANSWERS))


def test_the_document_is_plain() -> None:
    sheet = simulated(WEIGHTS, 30)
    found = fit(sheet)
    document = preferences.document(found, sheet, None)
    assert document["weights"]["t0"]["weight"] == found.weights["t0"]  # type: ignore[index]
    assert document["answers"] == {"preferring": 30, "equal": 0, "unsure": 0}


def with_sums(change: object, without_gamma: Array | None = None) -> AnswerSheet:
    """Simulated answers about episodes with other sums."""
    import json

    from tests.helpers.preferences import sheet_of

    sheet = simulated(WEIGHTS, 40)
    sums = change(sheet.sums[0])  # type: ignore[operator]
    undiscounted = sums if without_gamma is None else without_gamma
    rows = [
        row | {"sums": own.tolist(), "undiscounted": plain.tolist()}
        for row, own, plain in zip(json.loads(sheet.table), sums, undiscounted, strict=True)
    ]
    terms = {f"t{place}": "built in" for place in range(sums.shape[1])}
    subject = sheet.subject.model_dump() | {"terms": terms}
    given = [(a.left, a.right, str(a.answer)) for a in sheet.answers]
    return AnswerSheet.model_validate(sheet_of(rows, given, subject=subject))
