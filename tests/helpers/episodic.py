"""Policies and whole episodes for the tests of learners without a critic."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv

from shaperun.training.algorithms.episode_batch import EpisodeBatch

DISCRETE, BOX = spaces.Discrete(3), spaces.Box(-1, 1, (2,))


class Blank(gym.Env[Any, Any]):
    """Nothing but its spaces."""

    observation_space = spaces.Box(-1, 1, (4,))

    def __init__(self, action_space: spaces.Space[Any]) -> None:
        self.action_space = action_space


def model_over(
    action_space: spaces.Space[Any],
    *,
    optimizer_class: Any = torch.optim.Adam,
    learning_rate: float = 1e-3,
) -> PPO:
    """A policy, the same every time."""
    return PPO(
        "MlpPolicy",
        DummyVecEnv([lambda: Blank(action_space)]),
        learning_rate=learning_rate,
        seed=3,
        device="cpu",
        policy_kwargs={"net_arch": {"pi": [8], "vf": []}, "optimizer_class": optimizer_class},
    )


def played(model: PPO, lengths: list[int]) -> EpisodeBatch:
    """Episodes of such lengths: chance looks, the policy acts, chance pays."""
    luck = np.random.default_rng(sum(lengths))
    shape = (max(lengths), len(lengths))
    obs = luck.normal(size=(*shape, 4)).astype(np.float32)
    space = model.action_space
    if isinstance(space, spaces.Discrete):
        actions: Any = luck.integers(0, space.n, shape)
    else:
        actions = luck.normal(size=(*shape, *(space.shape or ()))).astype(np.float32)
    return EpisodeBatch.from_episodes(
        obs, actions, [luck.normal(size=length) for length in lengths]
    )
