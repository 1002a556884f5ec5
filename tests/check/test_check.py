"""Whole checks of the shipped studies: findings, invariance and JSON."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from shaperun.check.check import Check, _verify_invariance, check_study
from shaperun.check.ranking import BehaviorReturn
from shaperun.common.errors import UserError
from shaperun.envs.base import Array
from shaperun.rewards.kernel import RewardKernel
from shaperun.study.loader import load_study
from shaperun.study.models import parse_study

EXPERIMENTS = Path(__file__).parents[2] / "experiments"


@cache
def checked(name: str) -> Check:
    study = load_study(EXPERIMENTS / f"{name}.yaml")
    return check_study(study, study.arms)


def test_tutorial_reward_is_flagged() -> None:
    [headline] = [f for f in checked("article").findings if f.rule == "inverted-ranking"]
    assert headline.arm == "article"
    assert "to land; expect it to learn to crash" in headline.message


def test_behaviors_are_recorded_once_for_all_arms() -> None:
    check = checked("lunar-lander")
    for paid in check.returns.values():
        assert [p.behavior for p in paid] == check.behaviors


def test_behaviors_are_also_played_with_the_options_of_the_evaluation() -> None:
    overrides = ["evaluation.options={max_episode_steps: 50}"]
    check = check_study(study := load_study(EXPERIMENTS / "cartpole.yaml", overrides), study.arms)
    [there] = [b for b in check.evaluated if b.name == "balance"]
    [here] = [b for b in check.behaviors if b.name == "balance"]
    assert (here.length, there.length) == (500, 50)
    [paid] = [r for r in check.returns["default"] if r.name == "balance"]
    [yardstick] = [r for r in check.evaluated_returns("default") if r.name == "balance"]
    assert (paid.environment_return, yardstick.environment_return) == (500, 50)
    assert check.difference is not None
    assert check.difference <= 5  # a tenth of 50; of 500 it would be ten times as large


def test_potentials_are_invariant() -> None:
    check = checked("lunar-lander")
    assert list(check.invariance) == ["potential"]
    proof = check.invariance["potential"]
    assert proof.holds
    assert 0 < proof.deviation < 1e-9
    assert proof.episodes == sum(len(b.episodes) for b in check.behaviors)


def test_cut_off_episodes_keep_the_ranking_of_a_potential() -> None:
    study = load_study(
        EXPERIMENTS / "lunar-lander.yaml", ["arms.high={mode: potential, weights: {legs: 300}}"]
    )
    check = check_study(study, study.arms)
    assert check.invariance["high"].holds
    assert any(b.transition.truncated.any() for b in check.behaviors)
    wrong = {f.arm for f in check.findings if f.rule == "inverted-ranking"}
    assert ("high" in wrong) == ("default" in wrong)


def test_potential_kept_at_termination_is_not_invariant() -> None:
    check = checked("cartpole")
    study = check.study
    kernel = RewardKernel(study.environment.describe(), study.arms["guided"], study.training.gamma)
    paid = check.returns["guided"]
    assert _verify_invariance(kernel, paid).holds
    # Many hand-written wrappers keep Φ(s′) where the episode terminates.
    wrong = [
        replace(p, rewards=replace(p.rewards, shaped=p.rewards.shaped + _kept_potential(kernel, p)))
        for p in paid
    ]
    assert not _verify_invariance(kernel, wrong).holds


def _kept_potential(kernel: RewardKernel, result: BehaviorReturn) -> Array:
    transition = result.behavior.transition
    return kernel.gamma * kernel.potential(transition.next_obs) * transition.terminated


def test_schedule_is_checked_at_its_start() -> None:
    study = load_study(EXPERIMENTS / "cartpole.yaml")
    schedule = {"kind": "linear", "from": 0.5, "to": 0.0}
    arm = study.arms["guided"].model_dump() | {"schedule": schedule}
    data = study.model_dump(mode="json") | {"arms": {"guided": arm}}
    scheduled = parse_study(data)
    assert check_study(scheduled, scheduled.arms).invariance["guided"].holds


def test_document_is_complete_json() -> None:
    check = checked("lunar-lander")
    document = json.loads(json.dumps(check.document(), allow_nan=False))
    assert document["study"] == "lunar-lander"
    assert document["errors"] == []
    assert {"rule", "arm", "message"} == set(document["warnings"][0])
    assert document["rankings"].keys() == check.returns.keys()
    ranking = document["rankings"]["article"]
    assert ranking[0]["controller"] == "crash"
    assert {"controller", "shaped_return", "environment_return", "outcome"} <= set(ranking[0])
    paid = [row["discounted_return"] for row in ranking]
    assert paid == sorted(paid, reverse=True)


def test_arms_with_inverted_rankings_are_selected_first() -> None:
    assert checked("lunar-lander").select_arms(2) == ["default", "article"]
    assert checked("lunar-lander").select_arms(1) == ["article"]


def test_non_finite_reward_is_refused() -> None:
    data = {
        "study": "s",
        "environment": {"id": "CartPole-v1"},
        "training": {"total_timesteps": 1},
        "arms": {"a": {"mode": "add", "terms": {"bad": "log(x - x)"}, "weights": {"bad": 1}}},
    }
    study = parse_study(data)
    with pytest.raises(UserError, match="invalid reward for arm a: the term bad is -inf"):
        check_study(study, study.arms)
