"""A held-out episode played once more, in pictures."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from shaperun.episodes import episode_seeds, play
from shaperun.evaluate import WIDTH, Act
from shaperun.study import EnvironmentConfig
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
    frames: list[Frame] = []
    returns: list[float] = []

    def watch(reward: float) -> None:
        frames.append(keep(_render(env)))
        returns.append((returns[-1] if returns else 0.0) + reward)

    try:
        seed = episode_seeds(episode + 1)[episode]
        played = play(env, config.describe(), _alone(act), seed, watch=watch)
        return Replay(frames, returns, played.outcome, int(env.metadata.get("render_fps", 30)))
    finally:
        env.close()


def _alone(act: Act) -> Callable[[Any], Any]:
    """The policy for one observation, which it sees in a batch as wide as in an evaluation."""

    def act_alone(obs: Any) -> Any:
        obs = np.asarray(obs)
        batch = np.zeros((WIDTH, *obs.shape), obs.dtype)
        batch[0] = obs
        return act(batch)[0]

    return act_alone


def _render(env: Any) -> Frame:
    frame: Frame = env.render()
    return frame
