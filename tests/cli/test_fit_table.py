from __future__ import annotations

import io

import pytest
from rich.console import Console

from shaperun.cli import fit_table
from shaperun.preferences import arm
from shaperun.preferences.fit import Fit, NetworkFit, fit
from tests.helpers.preferences import simulated
from tests.rewards.test_network_term import of_sizes


def shown(found: Fit, answers: int, network: NetworkFit | None = None) -> str:
    console = Console(file=io.StringIO(), width=100)
    sheet = simulated([2.0, -1.0], answers)
    fit_table.print_fit(found, network, sheet, "mine", arm.fitted_arm(found, network), console)
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return text


def test_a_fit_says_what_it_is_worth() -> None:
    text = shown(fit(simulated([2.0, -1.0], 60)), 60)
    assert "60 prefer one of two episodes" in text
    assert "a coin foresees 50%" in text
    assert "mine:\n  mode: replace" in text
    assert "t0" in text


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"collinear": [("t0", "t1", 0.99)]}, "t0 and t1 rise together"),
        ({"collinear": [("t0", "t1", -0.99)]}, "t0 and t1 rise against each other"),
        ({"constant": ["t7"]}, "t7: the same in both episodes of every pair"),
        ({"negligible": ["t7"]}, "t7: γ = 0.98 leaves less than 1% of how it differs"),
        ({"equal": 3}, "3 call both equal"),
    ],
)
def test_what_the_answers_leave_open_is_said(changes: dict[str, object], said: str) -> None:
    found = fit(simulated([2.0, -1.0], 60))
    assert said in " ".join(shown(Fit(**vars(found) | changes), 60).split())


def test_a_weight_that_may_be_nothing_is_marked() -> None:
    found = fit(simulated([5.0, 0.0], 60))
    text = shown(found, 60)
    assert ("may be for or against" in text) == any(
        found.low[name] <= 0 <= found.high[name] for name in found.weights
    )


def test_a_network_says_whether_it_was_worth_it() -> None:
    found = fit(simulated([2.0, -1.0], 60))
    worse, better = (NetworkFit(of_sizes(4, 16, 1), share, 1.0) for share in (0.5, 1.0))
    text = shown(found, 60, better)
    assert "With a network of the state beside them (4–16–1), 100%." in text
    assert "kind: network" in text
    assert "no more" not in text
    assert "That is no more than they do by themselves." in " ".join(
        shown(found, 60, worse).split()
    )
    nothing = shown(found, 60, NetworkFit(None, 0.9, 10.0))
    assert "has nothing to add" in nothing
    assert "kind: network" not in nothing
