"""An environment whose episodes have given lengths, and its wrappers."""

from __future__ import annotations

from functools import partial
from itertools import cycle
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from shaperun.envs.base import Array
from shaperun.rewards.config import RewardConfig
from shaperun.rewards.wrapper import RewardShapingWrapper, VectorRewardShapingWrapper

SPACE = spaces.Box(-np.inf, np.inf, (2,), dtype=np.float64)
GAMMA = 0.9


class Counter(gym.Env[Any, Any]):
    """Environment that observes step and episode, and truncates every other episode."""

    observation_space = SPACE

    def __init__(self, lengths: tuple[int, ...], action_space: spaces.Space[Any]) -> None:
        self.action_space = action_space
        self._lengths = cycle(lengths)
        self._step, self._episode = 0, -1

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self._step, self._length = 0, next(self._lengths)
        self._episode += 1
        return self._obs(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self._step += 1
        done, truncates = self._step == self._length, self._episode % 2 == 1
        return self._obs(), self._step / 2, done and not truncates, done and truncates, {}

    def _obs(self) -> Array:
        return np.array([self._step, self._episode], dtype=np.float64)


CHOICES = spaces.Discrete(3)
THROTTLES = spaces.Box(-1, 1, (2,), dtype=np.float64)
LENGTHS = [(3, 1, 4), (2, 5), (1, 1, 6)]
TOTAL = 30


def near(expected: Any) -> Any:
    return pytest.approx(expected, rel=1e-12, abs=1e-12)


def single(
    config: RewardConfig, lengths: tuple[int, ...], total: int | None = TOTAL, **more: Any
) -> RewardShapingWrapper:
    env = Counter(lengths, more.get("action_space", CHOICES))
    return RewardShapingWrapper(env, config, gamma=GAMMA, total_timesteps=total)


def vector(
    config: RewardConfig,
    lengths: list[tuple[int, ...]],
    mode: AutoresetMode,
    total: int | None = TOTAL,
    **more: Any,
) -> VectorRewardShapingWrapper:
    space = more.get("action_space", CHOICES)
    envs = SyncVectorEnv([partial(Counter, one, space) for one in lengths], autoreset_mode=mode)
    return VectorRewardShapingWrapper(envs, config, gamma=GAMMA, total_timesteps=total)
