"""Networks fitted to answers that no weights of the terms explain."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest

from shaperun.common.errors import UserError
from shaperun.envs.base import Array
from shaperun.preferences import network as preference_network
from shaperun.preferences.answers import AnswerSheet, parts
from shaperun.preferences.fit import Fit, NetworkFit, fit
from shaperun.rewards import network_term
from tests.helpers.preferences import asked, sheet_of, simulated

GAMMA, LENGTH = 0.98, 10


def near_one(count: int, *, sway: float) -> AnswerSheet:
    """Answers of somebody who likes states near 1, and a term as far as `sway`."""
    luck = np.random.default_rng(3)
    rows, worths = [], []
    for place in range(2 * count):
        states = luck.normal(luck.normal(0.5, 1.5), 0.3, size=(LENGTH, 2))
        states[:, 1] = luck.normal(40, 5, LENGTH)  # of another scale, and of no interest
        own = luck.normal()
        pays = (GAMMA ** np.arange(LENGTH) * -np.abs(states[:, 0] - 1)).sum()
        worths.append(pays + sway * own)
        rows.append(
            asked(place, sums=[own, 0.0, 0.0], length=LENGTH, states=states.round(3).tolist())
        )
    given = [
        (left, left + 1, "left" if worths[left] > worths[left + 1] else "right")
        for left in range(0, 2 * count, 2)
    ]
    return AnswerSheet.model_validate(sheet_of(rows, given))


@pytest.fixture(scope="module")
def fitted() -> tuple[AnswerSheet, Fit, NetworkFit]:
    """What 40 answers come to."""
    sheet = near_one(40, sway=1.0)
    linear = fit(sheet)
    return sheet, linear, preference_network.fit_network(sheet, linear)


def value(found: NetworkFit) -> Callable[[Array], Array]:
    """What the network makes of states (N, 2)."""
    assert found.term
    return network_term.network_term("learned", found.term).function


def test_it_learns_what_the_terms_leave_open(fitted: tuple[AnswerSheet, Fit, NetworkFit]) -> None:
    _, linear, found = fitted
    assert linear.predicted < 0.75
    assert found.predicted > linear.predicted + 0.1
    there, below, above = value(found)(np.array([[1.0, 40.0], [-1.0, 40.0], [3.0, 40.0]]))
    assert there > max(below, above)


def test_what_it_foresees_is_not_what_it_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a coin nothing can be foreseen, however well a network can learn it by heart."""
    luck = np.random.default_rng(0)
    sheet = near_one(40, sway=0.0)
    coins = [
        answer.model_copy(update={"answer": luck.choice(["left", "right"])})
        for answer in sheet.answers
    ]
    tossed = sheet.model_copy(update={"answers": coins})
    assert preference_network.fit_network(tossed, fit(tossed)).term is None
    monkeypatch.setattr(preference_network, "RIDGES", (1e-3,))
    assert preference_network.fit_network(tossed, fit(tossed)).predicted < 0.65


def test_it_is_in_the_units_of_the_weights(fitted: tuple[AnswerSheet, Fit, NetworkFit]) -> None:
    """Terms and network together order the pairs as they were answered."""
    sheet, linear, found = fitted
    worths, right = [], []
    for episode in sheet.episodes:
        shares = [(GAMMA**part).sum() for part in parts(episode.length)]
        own = dict(zip(sheet.terms, episode.sums, strict=True))
        paid = sum(weight * own[name] for name, weight in linear.weights.items())
        worths.append(paid + float(shares @ value(found)(np.array(episode.states))))
    for answer in sheet.answers:
        right.append((worths[answer.left] > worths[answer.right]) == (answer.answer == "left"))
    assert np.mean(right) > 0.9


def test_it_is_the_same_every_time(fitted: tuple[AnswerSheet, Fit, NetworkFit]) -> None:
    sheet, linear, found = fitted
    told: list[int] = []
    assert preference_network.fit_network(sheet, linear, lambda done, _: told.append(done)) == found
    assert told == list(range(1, preference_network.FITS + 1))


def test_without_states_there_is_nothing_to_learn_from() -> None:
    sheet = simulated([2.0, -1.0], 30)
    with pytest.raises(UserError, match="kept no observations of CartPole-v1"):
        preference_network.fit_network(sheet, fit(sheet))
    assert json.loads(sheet.table)[0]["states"] == []
