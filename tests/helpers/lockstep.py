"""Learners with real rollouts, alone and stacked, for the tests of the lockstep engine."""

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
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecEnvWrapper

from shaperun.study.training import TrainingConfig
from shaperun.training.algorithms.ppo import Rollout, StackedPPO
from shaperun.training.sb3_model import build_algorithm
from shaperun.training.stacked.actor import features_of
from shaperun.training.stacked.policy import StackedPolicy

HYPERPARAMETERS = {"n_steps": 24, "batch_size": 16, "n_epochs": 3, "learning_rate": 3e-3}
PROGRESS = 0.7


class Switches(gym.Env[Any, Any]):
    """Three numbers to look at, and actions of a space; worth what the actions add up to."""

    observation_space = spaces.Box(-1, 1, (3,))

    def __init__(self, action_space: spaces.Space[Any]) -> None:
        self.action_space = action_space

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return self._look(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        ended = bool(self.np_random.random() < 0.1)
        return self._look(), float(np.sum(action)), ended, False, {}

    def _look(self) -> Any:
        return self.np_random.uniform(-1, 1, 3).astype(np.float32)


ENVIRONMENTS: dict[str, Callable[[], gym.Env[Any, Any]]] = {
    "discrete": partial(gym.make, "CartPole-v1"),
    "box": partial(gym.make, "Pendulum-v1"),
    "short": partial(gym.make, "Pendulum-v1", max_episode_steps=7),
    "several": lambda: Switches(spaces.Box(-2, 2, (3,))),
    "countable": partial(gym.make, "FrozenLake-v1"),
    "multidiscrete": lambda: Switches(spaces.MultiDiscrete([2, 3])),
    "multibinary": lambda: Switches(spaces.MultiBinary(3)),
}


class Watched(VecEnvWrapper):
    """Remembers what each step came to."""

    def __init__(self, envs: VecEnv) -> None:
        super().__init__(envs)
        self.steps: list[tuple[Any, Any, Any]] = []

    def reset(self) -> Any:
        return self.venv.reset()

    def step_wait(self) -> Any:
        obs, rewards, dones, infos = self.venv.step_wait()
        self.steps.append((rewards.copy(), dones.copy(), infos))
        return obs, rewards, dones, infos


def learner(environment: str, seed: int, n_envs: int = 4, **hyperparameters: Any) -> PPO:
    """A learner with a rollout of its own in its buffer, about to learn from it."""
    training = TrainingConfig.model_validate(
        {"total_timesteps": 1000, "hyperparameters": {**HYPERPARAMETERS, **hyperparameters}}
    )
    envs = Watched(DummyVecEnv([ENVIRONMENTS[environment]] * n_envs))
    envs.seed(seed)
    torch.manual_seed(seed)
    model = build_algorithm(training, envs)
    assert isinstance(model, PPO)
    _, callback = model._setup_learn(training.total_timesteps)
    model.collect_rollouts(envs, callback, model.rollout_buffer, model.n_steps)
    model._current_progress_remaining = PROGRESS
    return model


def in_float64(model: PPO) -> PPO:
    """The same learner and rollout in float64; stable-baselines3 asks for float32 on its way in."""
    model.policy.double()
    model.policy.extract_features = lambda obs, _=None: obs.double().flatten(1)  # type: ignore
    evaluate = model.policy.evaluate_actions
    model.policy.evaluate_actions = lambda obs, actions: evaluate(obs, actions.double())  # type: ignore
    for name in ("values", "log_probs", "advantages", "returns"):
        setattr(model.rollout_buffer, name, getattr(model.rollout_buffer, name).astype(np.float64))
    return model


def rollout_of(models: Sequence[PPO], policy: StackedPolicy) -> Rollout:
    """The rollouts in the buffers of some learners."""
    buffers: list[RolloutBuffer] = [model.rollout_buffer for model in models]

    def stacked(name: str) -> torch.Tensor:
        return torch.from_numpy(np.stack([getattr(buffer, name) for buffer in buffers], 1))

    observations = stacked("observations")
    steps, runs, envs = observations.shape[:3]
    space = models[0].observation_space
    features = features_of(observations.reshape(steps, -1, *(space.shape or ())).numpy(), space)
    seen = torch.from_numpy(features).to(policy.rows).view(steps, runs, envs, -1)
    names = ("values", "log_probs", "advantages", "returns")
    return Rollout(seen, stacked("actions"), *map(stacked, names))


def stack(models: Sequence[PPO], seeds: Sequence[int]) -> tuple[StackedPPO, Rollout]:
    """The same learners stacked, and their rollouts."""
    learners = StackedPPO(models, [np.random.RandomState(seed) for seed in seeds])
    return learners, rollout_of(models, learners.policy)


def train_alone(model: PPO, seed: int) -> dict[str, float]:
    """One update by stable-baselines3 itself, and its report."""
    np.random.seed(seed)
    model.train()
    return dict(model.logger.name_to_value)
