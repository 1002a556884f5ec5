"""A whole check: the shipped rewards, the proof of invariance, and the document."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from shaperun.check.check import Check, _invariance, check_study
from shaperun.check.ranking import BehaviourReturn
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


def test_the_tutorials_reward_is_found_out() -> None:
    [headline] = [f for f in checked("article").findings if f.rule == "inverted-ranking"]
    assert headline.arm == "article"
    assert "to land: expect it to crash" in headline.message


def test_behaviours_are_recorded_once_for_all_arms() -> None:
    check = checked("lunar-lander")
    for paid in check.paid.values():
        assert [p.behaviour for p in paid] == check.behaviours


def test_potentials_are_proved_invariant() -> None:
    check = checked("lunar-lander")
    assert list(check.invariance) == ["potential"]
    proof = check.invariance["potential"]
    assert proof.holds
    assert 0 < proof.deviation < 1e-9
    assert proof.episodes == sum(len(b.episodes) for b in check.behaviours)


def test_a_potential_that_does_not_end_with_the_episode_is_found_out() -> None:
    check = checked("cartpole")
    study = check.study
    kernel = RewardKernel(study.environment.describe(), study.arms["guided"], study.training.gamma)
    paid = check.paid["guided"]
    assert _invariance(kernel, paid).holds
    # As in many hand-made wrappers: Φ(s′) is kept where the episode terminates.
    wrong = [
        replace(p, rewards=replace(p.rewards, shaped=p.rewards.shaped + _kept(kernel, p)))
        for p in paid
    ]
    assert not _invariance(kernel, wrong).holds


def _kept(kernel: RewardKernel, payment: BehaviourReturn) -> Array:
    transition = payment.behaviour.transition
    return kernel.gamma * kernel.potential(transition.next_obs) * transition.terminated


def test_a_schedule_is_checked_as_it_starts() -> None:
    study = load_study(EXPERIMENTS / "cartpole.yaml")
    schedule = {"kind": "linear", "from": 0.5, "to": 0.0}
    arm = study.arms["guided"].model_dump() | {"schedule": schedule}
    data = study.model_dump(mode="json") | {"arms": {"guided": arm}}
    scheduled = parse_study(data)
    assert check_study(scheduled, scheduled.arms).invariance["guided"].holds


def test_the_document_is_json_and_complete() -> None:
    check = checked("lunar-lander")
    document = json.loads(json.dumps(check.document(), allow_nan=False))
    assert document["study"] == "lunar-lander"
    assert document["errors"] == []
    assert {"rule", "arm", "message"} == set(document["warnings"][0])
    assert document["rankings"].keys() == check.paid.keys()
    ranking = document["rankings"]["article"]
    assert ranking[0]["controller"] == "crash"
    assert {"controller", "shaped_return", "environment_return", "outcome"} <= set(ranking[0])
    paid = [row["discounted_return"] for row in ranking]
    assert paid == sorted(paid, reverse=True)


def test_where_there_is_no_room_the_inverted_arms_are_shown() -> None:
    assert checked("lunar-lander").shown(2) == ["default", "article"]
    assert checked("lunar-lander").shown(1) == ["article"]


def test_a_reward_that_is_not_finite_is_named() -> None:
    data = {
        "study": "s",
        "environment": {"id": "CartPole-v1"},
        "training": {"total_timesteps": 1},
        "arms": {"a": {"mode": "add", "terms": {"bad": "log(x - x)"}, "weights": {"bad": 1}}},
    }
    study = parse_study(data)
    with pytest.raises(
        UserError, match="the reward of the arm a will not do: the term bad is -inf"
    ):
        check_study(study, study.arms)
