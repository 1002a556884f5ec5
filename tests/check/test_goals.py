"""Rewards for reaching the end of an episode."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import pytest

from shaperun.check.behaviors import record_behaviors
from shaperun.check.goals import _pays_for_termination
from shaperun.check.ranking import behavior_returns
from shaperun.check.rule import ArmContext
from shaperun.rewards.config import RewardConfig
from shaperun.rewards.kernel import RewardKernel
from shaperun.study.environment import EnvironmentConfig


@dataclass
class Arm:
    kernel: RewardKernel


@pytest.mark.parametrize(
    ("formula", "pays"),
    [
        ("terminated", True),
        ("-terminated", False),
        ("terminated and steps() > 1", True),
        ("terminated and steps() == 1", False),
    ],
)
def test_termination_is_judged_after_the_steps_before_it(formula: str, *, pays: bool) -> None:
    environment = EnvironmentConfig(id="CartPole-v1")
    config = RewardConfig(mode="replace", terms={"own": formula}, weights={"own": 1.0})
    kernel = RewardKernel(environment.describe(), config)
    [first, *_] = behavior_returns(kernel, record_behaviors(environment, 2), 0.99)
    arm: Any = Arm(kernel)
    assert _pays_for_termination(cast(ArmContext, arm), first) is pays
