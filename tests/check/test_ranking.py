"""What rewards pay behaviours: by hand, and which preferences count as wrong."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest

from shaperun.check.behaviours import Behaviour, record_behaviours
from shaperun.check.ranking import (
    BehaviourReturn,
    behaviour_returns,
    best_by_environment,
    inversions,
    most_rewarded,
)
from shaperun.envs.builtin import environments
from shaperun.rewards.config import RewardConfig
from shaperun.rewards.kernel import RewardError, RewardKernel
from shaperun.study.environment import EnvironmentConfig

GAMMA = 0.95


@cache
def behaviours() -> tuple[Behaviour, ...]:
    return tuple(record_behaviours(EnvironmentConfig(id="CartPole-v1"), 6))


def paid(mode: Any, **weights: float) -> list[BehaviourReturn]:
    config = RewardConfig(mode=mode, weights=weights)
    kernel = RewardKernel(environments()["CartPole-v1"], config, GAMMA)
    return behaviour_returns(kernel, behaviours(), GAMMA)


def names(found: list[BehaviourReturn]) -> list[str]:
    return [payment.behaviour.name for payment in found]


def test_returns_are_the_sums_of_the_rewards() -> None:
    for payment in paid("add", upright=2.0):
        place = 0
        for number, episode in enumerate(payment.behaviour.episodes):
            rewards = payment.rewards.shaped[place : place + len(episode)]
            discounts = GAMMA ** np.arange(len(episode))
            assert payment.shaped[number] == pytest.approx(rewards.sum())
            assert payment.discounted[number] == pytest.approx((rewards * discounts).sum())
            assert payment.environment[number] == len(episode)
            place += len(episode)


def test_the_environments_own_reward_prefers_what_it_ranks_highest() -> None:
    own = paid("log")
    assert best_by_environment(own) is most_rewarded(own)
    assert best_by_environment(own).behaviour.name == "balance"
    assert inversions(own) == []


def test_a_reward_for_falling_is_inverted() -> None:
    found = paid("replace", fell=1.0)
    assert most_rewarded(found).behaviour.name == "fall"
    assert "fall" in names(inversions(found))
    assert "balance" not in names(inversions(found))
    returns = [payment.discounted_return for payment in inversions(found)]
    assert returns == sorted(returns, reverse=True)


def test_no_preference_is_no_inversion() -> None:
    assert inversions(paid("replace", upright=0.0)) == []


def test_a_difference_within_the_noise_is_no_inversion() -> None:
    # Pays by luck of the start only: no behaviour clearly more than another.
    config = RewardConfig(
        mode="replace", weights={"luck": 1.0}, terms={"luck": "sin(1000 * last_x) * terminated"}
    )
    kernel = RewardKernel(environments()["CartPole-v1"], config, GAMMA)
    assert inversions(behaviour_returns(kernel, behaviours(), GAMMA)) == []


def test_what_is_not_finite_is_placed() -> None:
    config = RewardConfig(mode="add", weights={"bad": 1.0}, terms={"bad": "1 / (x - x)"})
    kernel = RewardKernel(environments()["CartPole-v1"], config, GAMMA)
    with pytest.raises(RewardError, match=r"bad is nan|bad is inf") as caught:
        behaviour_returns(kernel, behaviours(), GAMMA)
    assert "(episode 0, step 0) when it tries to balance" in str(caught.value)
