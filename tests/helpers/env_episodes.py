"""Helpers of the environments' tests: hand-made transitions and real episodes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np

from shaperun.envs.base import Environment, Transition
from shaperun.envs.info import record_info

Act = Callable[[Any], Any]
UNKNOWN = np.nan  # a term that depends on an omitted value is nan


def one_step(
    environment: Environment,
    action: Any,
    *,
    obs: Sequence[float] | None = None,
    next_obs: Sequence[float] | None = None,
    last_action: Any = None,
    env_reward: float = 0.0,
    terminated: bool = False,
    info: Mapping[str, float] | None = None,
) -> Transition:
    """Return a single transition; omitted values are nan."""
    unknown = [UNKNOWN] * environment.observation_size
    last = np.full_like(np.array([action], dtype=np.float64), UNKNOWN)
    return Transition(
        obs=np.array([obs or unknown], dtype=np.float64),
        action=np.array([action]),
        next_obs=np.array([next_obs or unknown], dtype=np.float64),
        env_reward=np.array([env_reward]),
        terminated=np.array([terminated]),
        truncated=np.array([not terminated]),
        last_action=last if last_action is None else np.array([last_action]),
        info=np.array([info or {}], dtype=object),
    )


def make_env(environment: Environment, limit: int | None = None) -> gym.Env[Any, Any]:
    """Make an environment, by default with its usual time limit."""
    return gym.make(environment.id, max_episode_steps=limit)


def play(
    environment: Environment,
    act: Act,
    seed: int,
    *,
    limit: int | None = None,
    env: gym.Env[Any, Any] | None = None,
) -> Transition:
    """Play one episode of a policy, in a new environment or in a given one."""
    current = env or make_env(environment, limit)
    if environment.before_reset:
        environment.before_reset(current.unwrapped)
    obs, _ = current.reset(seed=seed)
    states, actions, rewards, infos = [obs.astype(np.float64)], [], [], []
    terminated = truncated = False
    while not (terminated or truncated):
        action = act(obs)
        assert current.action_space.contains(action), f"invalid action {action!r}"
        obs, reward, terminated, truncated, info = current.step(action)
        states.append(obs.astype(np.float64))
        actions.append(action)
        rewards.append(float(reward))
        infos.append(record_info(info))
    if env is None:
        current.close()
    last = np.arange(len(actions)) == len(actions) - 1
    return Transition(
        obs=np.array(states[:-1]),
        action=np.array(actions),
        next_obs=np.array(states[1:]),
        env_reward=np.array(rewards),
        terminated=last & terminated,
        truncated=last & truncated,
        last_action=np.array([actions[0], *actions[:-1]]),
        info=np.array(infos, dtype=object),
    )


def play_controller(environment: Environment, name: str, seed: int = 0) -> Transition:
    """Play one episode of a controller."""
    return play(environment, environment.controllers[name].make(), seed)


def outcome(environment: Environment, steps: Transition) -> str:
    """Return the outcome of an episode."""
    [name] = environment.outcome(steps.take(np.array([-1]))).tolist()
    assert name in environment.outcomes
    return str(name)
