from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shaperun.common.errors import UserError
from shaperun.envs.base import Array
from shaperun.preferences import fit as preferences
from shaperun.preferences.answers import AnswerSheet
from shaperun.preferences.fit import MIN_ANSWERS, Fit, compute_hessian, fit_answers, fit_weights
from tests.helpers.preferences import make_sheet, simulate_answers

WEIGHTS = [2.0, -1.0, 0.5]


def direction(weights: object) -> np.ndarray:
    values = np.array(list(weights.values()) if isinstance(weights, dict) else weights)
    return np.asarray(values / np.linalg.norm(values))


def test_many_answers_recover_the_weights() -> None:
    result = fit_answers(simulate_answers(WEIGHTS, 1500))
    assert direction(result.weights) == pytest.approx(direction(WEIGHTS), abs=0.06)
    assert result.decided == 1500
    assert not result.constant
    assert not result.collinear


def test_chance_is_tested_on_later_answers() -> None:
    preferred = np.array([1, 0, 1, 1, 0.5, 0, 1, 0], dtype=float)
    known_counts = []

    def know_all(known: np.ndarray) -> np.ndarray:
        known_counts.append(int(known.sum()))
        assert known[: known_counts[-1]].all()
        return preferred - 0.5

    # The first is not predicted, and the one that calls both equal does not count.
    assert preferences.compute_p_chance(preferred, know_all) == 1 / 2**6
    assert known_counts[:7] == [1, 2, 3, 4, 5, 6, 7]
    assert preferences.compute_p_chance(preferred, lambda known: 0.0 * preferred) == 1.0
    assert preferences.compute_p_chance(preferred, lambda known: 0.5 - preferred) == 1.0


def test_guesses_pass_the_test_as_often_as_its_level_says() -> None:
    passed = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        differences = rng.normal(size=(40, 6))
        guesses = rng.integers(0, 2, 40).astype(float)

        def predict(
            known: np.ndarray, d: Array = differences, guesses: Array = guesses
        ) -> np.ndarray:
            return d @ fit_weights(d[known], guesses[known], preferences.TEST_RIDGE)

        passed += preferences.compute_p_chance(guesses, predict) <= 0.05
    assert passed <= 8  # 5 expected at most


def test_intervals_have_their_coverage() -> None:
    """Only the direction is known; the length depends on the scale of the answers."""
    covered = []
    for seed in range(24):
        sheet = simulate_answers(WEIGHTS, 200, seed=seed)
        result = fit_answers(sheet)
        unit = np.linalg.norm(list(result.weights.values())) / np.linalg.norm(WEIGHTS)
        for name, weight in zip(result.weights, WEIGHTS, strict=True):
            covered.append(result.low[name] <= unit * weight <= result.high[name])
    assert 0.88 <= np.mean(covered) <= 1.0


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.sampled_from(preferences.RIDGES))
def test_fitted_weights_minimize_the_loss(seed: int, ridge: float) -> None:
    rng = np.random.default_rng(seed)
    differences, preferred = rng.normal(size=(30, 3)), rng.choice([0, 0.5, 1], 30)

    def loss(weights: np.ndarray) -> float:
        logits = differences @ weights
        losses = np.log1p(np.exp(-logits)) + (1 - preferred) * logits
        return float(losses.sum() + ridge / 2 * (weights**2).sum())

    best = fit_weights(differences, preferred, ridge)
    steps = 1e-3 * rng.normal(size=(50, 3))
    assert all(loss(best) <= loss(best + step) for step in steps)
    hessian = compute_hessian(differences, best, ridge)
    for step in steps:
        rise = loss(best + step) - loss(best)
        assert rise == pytest.approx(step @ hessian @ step / 2, rel=0.05, abs=1e-8)


def test_weights_do_not_depend_on_units() -> None:
    spread = np.array([1.0, 1e4, 1e-3])
    plain = fit_answers(simulate_answers(WEIGHTS, 100, noisy=False))
    other = fit_answers(
        simulate_answers(list(np.array(WEIGHTS) / spread), 100, noisy=False, spread=spread)
    )
    for name, factor in zip(plain.weights, spread, strict=True):
        assert other.weights[name] * factor == pytest.approx(plain.weights[name], rel=1e-5)
    assert other.accuracy == plain.accuracy
    assert other.ridge == plain.ridge


def test_values_vary_as_much_as_returns() -> None:
    sheet = simulate_answers(WEIGHTS, 50)
    values = sheet.sums[0] @ np.array(list(fit_answers(sheet).weights.values()))
    returns = [episode.discounted for episode in sheet.episodes]
    assert values.std() == pytest.approx(np.std(returns))


def test_equal_answers_are_fitted() -> None:
    decided, undecided = (
        simulate_answers(WEIGHTS, 80, noisy=False, equal_within=w) for w in (0.0, 1.0)
    )
    assert fit_answers(decided).equal == 0
    result = fit_answers(undecided)
    assert result.equal > 5
    assert result.decided + result.equal == 80
    assert direction(result.weights) == pytest.approx(direction(WEIGHTS), abs=0.15)


def test_accuracy_is_held_out() -> None:
    assert fit_answers(simulate_answers(WEIGHTS, 120, noisy=False)).accuracy > 0.9
    # Random answers cannot be predicted, however well they can be fitted.
    coins = [fit_answers(simulate_answers([0.0] * 6, 60, seed=seed)).accuracy for seed in range(12)]
    assert 0.4 < np.mean(coins) < 0.6


def test_collinear_terms_are_listed() -> None:
    sheet = with_sums(lambda sums: np.column_stack([sums, 3 * sums[:, 0], sums[:, 1] * -2]))
    pairs = [
        (one, other, round(correlation)) for one, other, correlation in fit_answers(sheet).collinear
    ]
    assert pairs == [("t0", "t3", 1), ("t1", "t4", -1)]


def test_a_constant_term_has_no_weight() -> None:
    sheet = with_sums(lambda sums: np.column_stack([sums, np.full(len(sums), 7.0)]))
    result = fit_answers(sheet)
    assert result.constant == ["t3"]
    assert "t3" not in result.weights
    with pytest.raises(UserError, match="no term differs"):
        fit_answers(with_sums(lambda sums: np.ones_like(sums)))


def test_a_term_made_negligible_by_gamma_has_no_weight() -> None:
    """An outcome after 500 steps at γ = 0.98 does not change the answers at any weight."""
    ends = (np.arange(80) % 7 == 0).astype(float)

    def fit_with(share: float) -> Fit:
        plain = with_sums(lambda sums: np.column_stack([sums, ends])).sums[0]
        return fit_answers(with_sums(lambda sums: np.column_stack([sums, share * ends]), plain))

    assert fit_with(0.98**500).negligible == ["t3"]
    for part in (fit_with(0.98**500).weights, fit_with(0.98**500).low, fit_with(0.98**500).high):
        assert list(part) == ["t0", "t1", "t2"]
    assert fit_with(0.98**200).negligible == []
    assert "t3" in fit_with(0.98**200).weights
    with pytest.raises(UserError, match="no term differs"):
        fit_answers(with_sums(lambda sums: 1e-3 * sums, simulate_answers(WEIGHTS, 40).sums[0]))


def test_too_few_answers_are_refused() -> None:
    with pytest.raises(UserError, match=f"{MIN_ANSWERS - 1} answers prefer one of two"):
        fit_answers(simulate_answers(WEIGHTS, MIN_ANSWERS - 1))
    fit_answers(simulate_answers(WEIGHTS, MIN_ANSWERS))


def test_the_document_has_weights_and_counts() -> None:
    sheet = simulate_answers(WEIGHTS, 30)
    result = fit_answers(sheet)
    document = preferences.fit_document(result, sheet, None)
    assert document["weights"]["t0"]["weight"] == result.weights["t0"]  # type: ignore[index]
    assert document["answers"] == {"preferring": 30, "equal": 0, "unsure": 0}


def with_sums(change: object, without_gamma: Array | None = None) -> AnswerSheet:
    """Return simulated answers about episodes with other sums."""
    sheet = simulate_answers(WEIGHTS, 40)
    sums = change(sheet.sums[0])  # type: ignore[operator]
    undiscounted = sums if without_gamma is None else without_gamma
    rows = [
        row | {"sums": discounted.tolist(), "undiscounted": plain.tolist()}
        for row, discounted, plain in zip(json.loads(sheet.table), sums, undiscounted, strict=True)
    ]
    terms = {f"t{i}": "built in" for i in range(sums.shape[1])}
    subject = sheet.subject.model_dump() | {"terms": terms}
    given = [(a.left, a.right, str(a.answer)) for a in sheet.answers]
    return AnswerSheet.model_validate(make_sheet(rows, given, subject=subject))
