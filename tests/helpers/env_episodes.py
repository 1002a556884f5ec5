"""What the environments' tests have in common: single steps by hand, and whole real episodes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import gymnasium as gym
import numpy as np

from shaperun.envs.base import Environment, Transition

Act = Callable[[Any], Any]
NOWHERE = np.nan  # a term that looks where it should not look comes out as nan


def one_step(
    environment: Environment,
    action: Any,
    *,
    obs: Sequence[float] | None = None,
    next_obs: Sequence[float] | None = None,
    last_action: Any = None,
    env_reward: float = 0.0,
    terminated: bool = False,
) -> Transition:
    """A transition by hand; what is not given is nan."""
    unknown = [NOWHERE] * environment.observation_size
    last = np.full_like(np.array([action], dtype=np.float64), NOWHERE)
    return Transition(
        obs=np.array([obs or unknown], dtype=np.float64),
        action=np.array([action]),
        next_obs=np.array([next_obs or unknown], dtype=np.float64),
        env_reward=np.array([env_reward]),
        terminated=np.array([terminated]),
        truncated=np.array([not terminated]),
        last_action=last if last_action is None else np.array([last_action]),
    )


def made(environment: Environment, limit: int | None = None) -> gym.Env[Any, Any]:
    """The environment, with a shorter time limit or its own."""
    return gym.make(environment.id, max_episode_steps=limit)


def episode(
    environment: Environment,
    act: Act,
    seed: int,
    *,
    limit: int | None = None,
    env: gym.Env[Any, Any] | None = None,
) -> Transition:
    """One episode of a policy, in an environment of its own or in one that has been played."""
    used = env or made(environment, limit)
    if environment.before_reset:
        environment.before_reset(used.unwrapped)
    obs, _ = used.reset(seed=seed)
    states, actions, rewards = [obs.astype(np.float64)], [], []
    terminated = truncated = False
    while not (terminated or truncated):
        action = act(obs)
        assert used.action_space.contains(action), f"{action!r} is no action"
        obs, reward, terminated, truncated, _ = used.step(action)
        states.append(obs.astype(np.float64))
        actions.append(action)
        rewards.append(float(reward))
    if env is None:
        used.close()
    last = np.arange(len(actions)) == len(actions) - 1
    return Transition(
        obs=np.array(states[:-1]),
        action=np.array(actions),
        next_obs=np.array(states[1:]),
        env_reward=np.array(rewards),
        terminated=last & terminated,
        truncated=last & truncated,
        last_action=np.array([actions[0], *actions[:-1]]),
    )


def controlled(environment: Environment, name: str, seed: int = 0) -> Transition:
    """One episode of a controller."""
    return episode(environment, environment.controllers[name].make(), seed)


def outcome(environment: Environment, steps: Transition) -> str:
    """How the episode ended."""
    [found] = environment.outcome(steps.take(np.array([-1]))).tolist()
    assert found in environment.outcomes
    return str(found)
