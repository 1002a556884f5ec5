"""The card of an arm: its prediction, what its policies do, and what its training lacked."""

from __future__ import annotations

from dataclasses import replace

from shaperun.report.cards import make_cards
from shaperun.report.data import ReportData


def test_card_compares_the_prediction_with_the_policies(report: ReportData) -> None:
    [card] = make_cards(report)
    assert card["prediction"].startswith(
        "Predicted by check: balance (balanced). Observed: fell in"
    )
    # Trained for a few updates, both arms fall; the scripted controller knows better.
    assert "the scripted “balance”: 0%" in card["behaviour"]
    assert not card["behaviour"].startswith("No exploitation")


def test_card_says_that_the_learner_hardly_learned(report: ReportData) -> None:
    [card] = make_cards(report)
    training = report.study.training
    assert training.updates
    assert card["training"][0].startswith(f"PPO updates its policy {training.updates} times")


def test_cards_need_no_check(report: ReportData) -> None:
    [card] = make_cards(replace(report, check=None))
    assert card["prediction"] == ""
    assert "those of default" in card["behaviour"]
