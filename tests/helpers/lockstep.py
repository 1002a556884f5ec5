"""Models with real rollouts, alone and stacked, to test the lockstep engine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.vec_env import DummyVecEnv

from shaperun.study.training import TrainingConfig
from shaperun.training.algorithms.ppo import Rollout, StackedPPO
from shaperun.training.sb3_model import build_algorithm
from shaperun.training.stacked.actor import extract_features
from shaperun.training.stacked.policy import StackedPolicy

HYPERPARAMETERS = {"n_steps": 24, "batch_size": 16, "n_epochs": 3, "learning_rate": 3e-3}
PROGRESS = 0.7


class RandomObsEnv(gym.Env[Any, Any]):
    """Random observations; the reward is the sum of the action."""

    observation_space = spaces.Box(-1, 1, (3,))

    def __init__(self, action_space: spaces.Space[Any]) -> None:
        self.action_space = action_space

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return self._observe(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        ended = bool(self.np_random.random() < 0.1)
        return self._observe(), float(np.sum(action)), ended, False, {}

    def _observe(self) -> Any:
        return self.np_random.uniform(-1, 1, 3).astype(np.float32)


ENVIRONMENTS: dict[str, Callable[[], gym.Env[Any, Any]]] = {
    "discrete": partial(gym.make, "CartPole-v1"),
    "box": partial(gym.make, "Pendulum-v1"),
    "short": partial(gym.make, "Pendulum-v1", max_episode_steps=7),
    "several": lambda: RandomObsEnv(spaces.Box(-2, 2, (3,))),
    "hopper": partial(gym.make, "Hopper-v5"),
    "countable": partial(gym.make, "FrozenLake-v1"),
    "multidiscrete": lambda: RandomObsEnv(spaces.MultiDiscrete([2, 3])),
    "multibinary": lambda: RandomObsEnv(spaces.MultiBinary(3)),
}


def build_learner(environment: str, seed: int, n_envs: int = 4, **hyperparameters: Any) -> PPO:
    """Return a model with a rollout in its buffer, before its update."""
    training = TrainingConfig.model_validate(
        {"total_timesteps": 1000, "hyperparameters": {**HYPERPARAMETERS, **hyperparameters}}
    )
    envs = DummyVecEnv([ENVIRONMENTS[environment]] * n_envs)
    envs.seed(seed)
    torch.manual_seed(seed)
    model = build_algorithm(training, envs)
    assert isinstance(model, PPO)
    _, callback = model._setup_learn(training.total_timesteps)
    model.collect_rollouts(envs, callback, model.rollout_buffer, model.n_steps)
    model._current_progress_remaining = PROGRESS
    return model


def to_float64(model: PPO) -> PPO:
    """Convert a model and its rollout to float64, where stable-baselines3 would cast to float32."""
    model.policy.double()
    model.policy.extract_features = lambda obs, _=None: obs.double().flatten(1)  # type: ignore
    evaluate = model.policy.evaluate_actions
    model.policy.evaluate_actions = lambda obs, actions: evaluate(obs, actions.double())  # type: ignore
    for name in ("values", "log_probs", "advantages", "returns"):
        setattr(model.rollout_buffer, name, getattr(model.rollout_buffer, name).astype(np.float64))
    return model


def stack_rollouts(models: Sequence[PPO], policy: StackedPolicy) -> Rollout:
    """Stack the rollouts in the buffers of models."""
    buffers: list[RolloutBuffer] = [model.rollout_buffer for model in models]

    def stacked(name: str) -> torch.Tensor:
        return torch.from_numpy(np.stack([getattr(buffer, name) for buffer in buffers], 1))

    observations = stacked("observations")
    steps, runs, envs = observations.shape[:3]
    space = models[0].observation_space
    features = extract_features(
        observations.reshape(steps, -1, *(space.shape or ())).numpy(), space
    )
    inputs = torch.from_numpy(features).to(policy.rows).view(steps, runs, envs, -1)
    names = ("values", "log_probs", "advantages", "returns")
    return Rollout(inputs, stacked("actions"), *map(stacked, names))


def stack_learners(models: Sequence[PPO], seeds: Sequence[int]) -> tuple[StackedPPO, Rollout]:
    """Stack models and their rollouts."""
    learners = StackedPPO(models, [np.random.RandomState(seed) for seed in seeds])
    return learners, stack_rollouts(models, learners.policy)


def update_with_sb3(model: PPO, seed: int) -> dict[str, float]:
    """Update a model with stable-baselines3; return its statistics."""
    np.random.seed(seed)
    model.train()
    return dict(model.logger.name_to_value)
