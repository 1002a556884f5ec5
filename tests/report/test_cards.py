"""The card of an arm: its prediction, what its policies do, and what its training lacked."""

from __future__ import annotations

import re
from dataclasses import replace

import polars as pl

from shaperun.check.check import check_study
from shaperun.report.cards import make_cards
from shaperun.report.data import ReportData, summarize_episodes
from shaperun.study.models import parse_study


def test_card_compares_the_prediction_with_the_policies(report: ReportData) -> None:
    [card] = make_cards(report)
    assert card["prediction"].startswith(
        "Predicted by check: balance (balanced). Observed: fell in"
    )
    # Trained for a few updates, both arms fall; the scripted controller knows better.
    assert "the scripted “balance”: 0%" in card["behavior"]
    assert not card["behavior"].startswith("No exploitation")


def test_card_says_that_the_learner_hardly_learned(report: ReportData) -> None:
    [card] = make_cards(report)
    training = report.study.training
    assert training.updates
    assert card["training"][0].startswith(f"PPO updates its policy {training.updates} times")


def test_scripted_behavior_is_paid_by_the_end_of_a_schedule(report: ReportData) -> None:
    arm = {"mode": "add", "weights": {"upright": 1}, "schedule": {"kind": "linear"}}
    arms = {"default": {}, "guided": arm}
    study = parse_study(report.study.model_dump() | {"arms": arms})
    check = check_study(study, study.arms)
    assert check.returns["guided"][0].shaped_return > 600  # at the start
    [card] = make_cards(replace(report, study=study, check=check))
    assert re.search(r"its reward pays [\d.]+ and 500[,.]", card["behavior"])


def test_card_infers_nothing_from_single_runs(report: ReportData) -> None:
    single = report.episodes.filter(seed=0)
    summary = summarize_episodes(report.study, single)
    [card] = make_cards(replace(report, episodes=single, summary=summary))
    assert card["improvement"] == "–"
    assert {fact["p"] for fact in card["facts"]} == {""}


def test_card_names_what_training_lacked(report: ReportData) -> None:
    updates = report.updates.with_columns(explained_variance=pl.lit(0.0))
    [card] = make_cards(replace(report, updates=updates))
    training = card["training"][-1]
    assert "the critic explains nothing (all seeds)" in training
    assert training.endswith(". See “Training health”.")


def test_cards_need_no_check(report: ReportData) -> None:
    [card] = make_cards(replace(report, check=None))
    assert card["prediction"] == ""
    assert "those of default" in card["behavior"]
