from __future__ import annotations

import io

import pytest
from rich.console import Console

from shaperun.cli import fit_table
from shaperun.preferences import arm
from shaperun.preferences.fit import Fit, NetworkFit, fit_answers
from tests.helpers.preferences import simulate_answers
from tests.rewards.test_network_term import random_network


def print_to_text(result: Fit, answers: int, network: NetworkFit | None = None) -> str:
    console = Console(file=io.StringIO(), width=100)
    sheet = simulate_answers([2.0, -1.0], answers)
    fit_table.print_fit(result, network, sheet, "mine", arm.build_arm(result, network), console)
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return text


def test_a_fit_shows_its_accuracy() -> None:
    text = print_to_text(fit_answers(simulate_answers([2.0, -1.0], 60)), 60)
    assert "60 prefer one of two episodes" in text
    assert "(chance 50%, p = " in text
    assert "mine:\n  mode: replace" in text
    assert "t0" in text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"collinear": [("t0", "t1", 0.99)]}, "t0 and t1 are correlated in these episodes (0.99)"),
        ({"collinear": [("t0", "t1", -0.99)]}, "t0 and t1 are negatively correlated"),
        ({"constant": ["t7"]}, "t7: equal in both episodes of every pair"),
        ({"negligible": ["t7"]}, "t7: γ = 0.98 leaves less than 1% of the variation"),
        ({"equal": 3}, "3 call both equal"),
    ],
)
def test_caveats_are_listed(changes: dict[str, object], message: str) -> None:
    result = fit_answers(simulate_answers([2.0, -1.0], 60))
    assert message in " ".join(print_to_text(Fit(**vars(result) | changes), 60).split())


def test_a_weight_of_unknown_sign_is_marked() -> None:
    result = fit_answers(simulate_answers([5.0, 0.0], 60))
    text = print_to_text(result, 60)
    assert ("sign unknown" in text) == any(
        result.low[name] <= 0 <= result.high[name] for name in result.weights
    )


def test_a_network_shows_its_accuracy() -> None:
    result = fit_answers(simulate_answers([2.0, -1.0], 60))
    worse, better = (NetworkFit(random_network(4, 16, 1), share, 0.01, 1.0) for share in (0.5, 1.0))
    text = print_to_text(result, 60, better)
    assert "held-out accuracy with a network of the state (4–16–1): 100%" in text
    assert "kind: network" in text
    assert "no higher" not in text
    assert "no higher than without it" in " ".join(print_to_text(result, 60, worse).split())
    rejected = print_to_text(result, 60, NetworkFit(None, 0.9, 0.01, 10.0))
    assert "does not improve" in rejected
    assert "kind: network" not in rejected
