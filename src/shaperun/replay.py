"""A held-out episode played once more, in pictures."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from shaperun.envs import environments
from shaperun.evaluate import WIDTH, Act, episode_seeds
from shaperun.study import EnvironmentConfig
from shaperun.terms import Transition
from shaperun.wrapper import make_environment

Frame = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Replay:
    """An episode: a frame (height, width, 3) and the environment return so far for every state."""

    frames: list[Frame]
    returns: list[float]
    outcome: str
    fps: int


def replay(
    config: EnvironmentConfig, act: Act, episode: int, keep: Callable[[Frame], Frame]
) -> Replay:
    """Play one of the held-out episodes, as it was evaluated.

    Args:
        config: the environment.
        act: the policy.
        episode: which of the held-out episodes, from 0.
        keep: is applied to every frame before it is kept, to save memory.
    """
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")  # no screen is needed
    env = make_environment(config, render_mode="rgb_array")
    try:
        obs, _ = env.reset(seed=episode_seeds(episode + 1)[episode])
        batch = np.zeros((WIDTH, *obs.shape), obs.dtype)
        frames, returns = [keep(_render(env))], [0.0]
        done = False
        while not done:
            batch[0] = obs
            action = act(batch)[:1]
            next_obs, reward, terminated, truncated, _ = env.step(action[0])
            end = _transition(obs, action, next_obs, float(reward), terminated, truncated)
            frames.append(keep(_render(env)))
            returns.append(returns[-1] + float(reward))
            obs, done = next_obs, terminated or truncated
        outcome = str(environments()[config.id].outcome(end)[0])
        return Replay(frames, returns, outcome, int(env.metadata.get("render_fps", 30)))
    finally:
        env.close()


def _render(env: Any) -> Frame:
    frame: Frame = env.render()
    return frame


def _transition(
    obs: Any, action: Any, next_obs: Any, reward: float, terminated: bool, truncated: bool
) -> Transition:
    return Transition(
        np.array([obs], dtype=np.float64),
        action,
        np.array([next_obs], dtype=np.float64),
        np.array([reward]),
        np.array([terminated]),
        np.array([truncated]),
    )
