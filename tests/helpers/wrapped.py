"""Rewards of every mode on real environments, and the wrapper around these."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import pytest

from shaperun.rewards.config import RewardConfig
from shaperun.rewards.wrapper import RewardShapingWrapper

REWARDS = {
    "LunarLander-v3": {
        "log": RewardConfig(mode="log", weights={"distance": 200.0, "main_engine": 0.3}),
        "add": RewardConfig(mode="add", weights={"legs": 10.0, "side_engine": 0.03}),
        "replace": RewardConfig(mode="replace", weights={"distance": 2.0, "velocity": 1.0}),
        "potential": RewardConfig(mode="potential", weights={"distance": 100.0, "angle": 5.0}),
    },
    "CartPole-v1": {
        "log": RewardConfig(),
        "add": RewardConfig(mode="add", weights={"upright": 1.0, "push_right": 0.1}, scale=0.5),
        "replace": RewardConfig(mode="replace", weights={"centred": 1.0}),
        "potential": RewardConfig(mode="potential", weights={"still": 1.0, "upright": 3.0}),
        "memory": RewardConfig(
            mode="add",
            terms={
                "record": "highest(x) - previous(highest(x))",
                "restless": "changed(action) - std_so_far(angle) * lowest(vx)",
                "late": "mean_so_far(angle) + steps() + total(env_reward)",
            },
            weights={"record": 1.0, "restless": -1.0, "late": 0.01},
        ),
    },
}
CASES = [
    pytest.param(env_id, config, id=f"{env_id}-{mode}")
    for env_id, configs in REWARDS.items()
    for mode, config in configs.items()
]
GAMMA = 0.9

UPRIGHT = RewardConfig(mode="add", weights={"upright": 1.0})

each_case = pytest.mark.parametrize(("env_id", "config"), CASES)


def wrapped(env_id: str, config: RewardConfig, **options: Any) -> RewardShapingWrapper:
    return RewardShapingWrapper(gym.make(env_id, **options), config, gamma=GAMMA)
