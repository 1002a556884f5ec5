"""Returns of behaviors computed by hand, and which preferences count as inversions."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest

from shaperun.check.behaviors import Behavior, record_behaviors
from shaperun.check.ranking import (
    BehaviorReturn,
    behavior_returns,
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
def behaviors() -> tuple[Behavior, ...]:
    return tuple(record_behaviors(EnvironmentConfig(id="CartPole-v1"), 6))


def paid(mode: Any, **weights: float) -> list[BehaviorReturn]:
    config = RewardConfig(mode=mode, weights=weights)
    kernel = RewardKernel(environments()["CartPole-v1"], config, GAMMA)
    return behavior_returns(kernel, behaviors(), GAMMA)


def names(returns: list[BehaviorReturn]) -> list[str]:
    return [result.behavior.name for result in returns]


def test_returns_are_the_sums_of_the_rewards() -> None:
    for result in paid("add", upright=2.0):
        start = 0
        for number, episode in enumerate(result.behavior.episodes):
            rewards = result.rewards.shaped[start : start + len(episode)]
            discounts = GAMMA ** np.arange(len(episode))
            assert result.shaped[number] == pytest.approx(rewards.sum())
            assert result.discounted[number] == pytest.approx((rewards * discounts).sum())
            assert result.environment[number] == len(episode)
            start += len(episode)


def test_environment_reward_has_no_inversions() -> None:
    own = paid("log")
    assert best_by_environment(own) is most_rewarded(own)
    assert best_by_environment(own).behavior.name == "balance"
    assert inversions(own) == []


def test_reward_for_falling_is_inverted() -> None:
    returns = paid("replace", fell=1.0)
    assert most_rewarded(returns).behavior.name == "fall"
    assert "fall" in names(inversions(returns))
    assert "balance" not in names(inversions(returns))
    payments = [result.discounted_return for result in inversions(returns)]
    assert payments == sorted(payments, reverse=True)


def test_indifference_is_no_inversion() -> None:
    assert inversions(paid("replace", upright=0.0)) == []


def test_difference_within_noise_is_no_inversion() -> None:
    # Depends on the start only, so that no behavior is paid clearly more than another.
    config = RewardConfig(
        mode="replace", weights={"noise": 1.0}, terms={"noise": "sin(1000 * last_x) * terminated"}
    )
    kernel = RewardKernel(environments()["CartPole-v1"], config, GAMMA)
    assert inversions(behavior_returns(kernel, behaviors(), GAMMA)) == []


def test_non_finite_reward_names_episode_and_step() -> None:
    config = RewardConfig(mode="add", weights={"bad": 1.0}, terms={"bad": "1 / (x - x)"})
    kernel = RewardKernel(environments()["CartPole-v1"], config, GAMMA)
    with pytest.raises(RewardError, match=r"bad is nan|bad is inf") as caught:
        behavior_returns(kernel, behaviors(), GAMMA)
    assert "(episode 0, step 0) of the behavior balance" in str(caught.value)
