"""Networks fitted to answers that the terms cannot explain."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest

from shaperun.common.errors import UserError
from shaperun.envs.base import Array
from shaperun.preferences import network as preference_network
from shaperun.preferences.answers import AnswerSheet, split_steps
from shaperun.preferences.fit import Fit, NetworkFit, fit_answers
from shaperun.rewards import network_term
from tests.helpers.preferences import episode_row, make_sheet, simulate_answers

GAMMA, LENGTH = 0.98, 10


def prefer_states_near_one(count: int, *, weight: float) -> AnswerSheet:
    """Return answers that prefer states near 1, and a term with the weight `weight`."""
    rng = np.random.default_rng(3)
    rows, values = [], []
    for i in range(2 * count):
        states = rng.normal(rng.normal(0.5, 1.5), 0.3, size=(LENGTH, 2))
        states[:, 1] = rng.normal(40, 5, LENGTH)  # another scale, and irrelevant
        term = rng.normal()
        pays = (GAMMA ** np.arange(LENGTH) * -np.abs(states[:, 0] - 1)).sum()
        values.append(pays + weight * term)
        rows.append(
            episode_row(i, sums=[term, 0.0, 0.0], length=LENGTH, states=states.round(3).tolist())
        )
    given = [
        (left, left + 1, "left" if values[left] > values[left + 1] else "right")
        for left in range(0, 2 * count, 2)
    ]
    return AnswerSheet.model_validate(make_sheet(rows, given))


@pytest.fixture(scope="module")
def fitted() -> tuple[AnswerSheet, Fit, NetworkFit]:
    """Forty answers and their fits."""
    sheet = prefer_states_near_one(40, weight=1.0)
    linear = fit_answers(sheet)
    return sheet, linear, preference_network.fit_network(sheet, linear)


def network_function(result: NetworkFit) -> Callable[[Array], Array]:
    """Return the function of the network, from states (N, 2) to values."""
    assert result.term
    return network_term.network_term("learned", result.term).function


def test_a_network_explains_what_the_terms_cannot(
    fitted: tuple[AnswerSheet, Fit, NetworkFit],
) -> None:
    _, linear, result = fitted
    assert linear.accuracy < 0.75
    assert result.accuracy > linear.accuracy + 0.1
    near, below, above = network_function(result)(
        np.array([[1.0, 40.0], [-1.0, 40.0], [3.0, 40.0]])
    )
    assert near > max(below, above)


def test_accuracy_is_held_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Random answers cannot be predicted, however well a network memorizes them."""
    rng = np.random.default_rng(0)
    sheet = prefer_states_near_one(40, weight=0.0)
    random_answers = [
        answer.model_copy(update={"answer": rng.choice(["left", "right"])})
        for answer in sheet.answers
    ]
    shuffled = sheet.model_copy(update={"answers": random_answers})
    assert preference_network.fit_network(shuffled, fit_answers(shuffled)).term is None
    monkeypatch.setattr(preference_network, "RIDGES", (1e-3,))
    assert preference_network.fit_network(shuffled, fit_answers(shuffled)).accuracy < 0.65


def test_a_network_has_the_units_of_the_weights(
    fitted: tuple[AnswerSheet, Fit, NetworkFit],
) -> None:
    """Terms and network together rank the pairs as answered."""
    sheet, linear, result = fitted
    values, right = [], []
    for episode in sheet.episodes:
        shares = [(GAMMA**part).sum() for part in split_steps(episode.length)]
        own = dict(zip(sheet.terms, episode.sums, strict=True))
        paid = sum(weight * own[name] for name, weight in linear.weights.items())
        values.append(paid + float(shares @ network_function(result)(np.array(episode.states))))
    for answer in sheet.answers:
        right.append((values[answer.left] > values[answer.right]) == (answer.answer == "left"))
    assert np.mean(right) > 0.9


def test_a_network_fit_is_deterministic(fitted: tuple[AnswerSheet, Fit, NetworkFit]) -> None:
    sheet, linear, result = fitted
    calls: list[int] = []
    assert (
        preference_network.fit_network(sheet, linear, lambda done, _: calls.append(done)) == result
    )
    assert calls == list(range(1, preference_network.N_FITS + 1))


def test_answers_without_states_are_refused() -> None:
    sheet = simulate_answers([2.0, -1.0], 30)
    with pytest.raises(UserError, match="no observations of CartPole-v1"):
        preference_network.fit_network(sheet, fit_answers(sheet))
    assert json.loads(sheet.table)[0]["states"] == []
