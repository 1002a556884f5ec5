"""Policies and episodes to test learners without a critic."""

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


class SpacesOnlyEnv(gym.Env[Any, Any]):
    """An environment that only has spaces."""

    observation_space = spaces.Box(-1, 1, (4,))

    def __init__(self, action_space: spaces.Space[Any]) -> None:
        self.action_space = action_space


def build_model(
    action_space: spaces.Space[Any],
    *,
    optimizer_class: Any = torch.optim.Adam,
    learning_rate: float = 1e-3,
) -> PPO:
    """Return a model with fixed weights."""
    return PPO(
        "MlpPolicy",
        DummyVecEnv([lambda: SpacesOnlyEnv(action_space)]),
        learning_rate=learning_rate,
        seed=3,
        device="cpu",
        policy_kwargs={"net_arch": {"pi": [8], "vf": []}, "optimizer_class": optimizer_class},
    )


def make_batch(model: PPO, lengths: list[int]) -> EpisodeBatch:
    """Return episodes with random observations, actions and rewards."""
    rng = np.random.default_rng(sum(lengths))
    shape = (max(lengths), len(lengths))
    obs = rng.normal(size=(*shape, 4)).astype(np.float32)
    space = model.action_space
    if isinstance(space, spaces.Discrete):
        actions: Any = rng.integers(0, space.n, shape)
    else:
        actions = rng.normal(size=(*shape, *(space.shape or ()))).astype(np.float32)
    return EpisodeBatch.from_episodes(obs, actions, [rng.normal(size=length) for length in lengths])
