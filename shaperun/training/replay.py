"""A held-out episode played once more: in pictures, with what every term paid on the way."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from shaperun.envs.base import Array, Transition
from shaperun.envs.episodes import play_episode
from shaperun.rewards.kernel import RewardKernel
from shaperun.study.models import RunConfig
from shaperun.training import sb3_model
from shaperun.training.evaluation import WIDTH, Act

Frame = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Replay:
    """An episode of T steps; what is so far is said of all T + 1 states, the first included."""

    frames: list[Frame]  # (height, width, 3) each
    returns: list[float]  # environment return so far
    contributions: dict[
        str, list[float]
    ]  # what each part of the reward has paid the learner so far
    outcome: str
    fps: int


def replay(config: RunConfig, act: Act, seed: int, keep: Callable[[Frame], Frame]) -> Replay:
    """Play one of the held-out episodes, as it was evaluated.

    Args:
        config: the run: its environment, and the reward whose parts are told.
        act: the policy.
        seed: of the episode.
        keep: is applied to every frame before it is kept, to save memory.
    """
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")  # no screen is needed
    sb3_model.use_one_thread()  # as in training
    environment = config.environment.describe()
    kernel = RewardKernel(environment, config.reward, config.training.gamma)
    env = config.environment.make(render_mode="rgb_array")
    frames: list[Frame] = []
    returns: list[float] = []

    def watch(reward: float) -> None:
        frames.append(keep(_render(env)))
        returns.append((returns[-1] if returns else 0.0) + reward)

    try:
        played = play_episode(env, environment, single_observation_policy(act), seed, on_step=watch)
        fps = int(env.metadata.get("render_fps", 30))
    finally:
        env.close()
    paid = {
        name: [0.0, *so_far.tolist()] for name, so_far in _paid(kernel, played.transition).items()
    }
    return Replay(frames, returns, paid, played.outcome, fps)


def _paid(kernel: RewardKernel, episode: Transition) -> dict[str, Array]:
    """What each weighted term has paid by the end of every step of an episode (T,).

    After the last step all of them together are the shaped return that an evaluation at the end of
    training records.
    """
    factor = kernel.factor(1.0)
    # The episode so far is an episode, cut off there unless it is over.
    parts = kernel.contributions_from_sums(
        np.cumsum(kernel(episode, (1.0, 1.0)).raw, axis=0),
        kernel.state_values(episode.obs[:1]),
        kernel.state_values(episode.next_obs),
        episode.terminated.astype(float),
        factor,
    )
    return kernel.returns_by_term(parts, np.cumsum(episode.env_reward), factor)


def single_observation_policy(act: Act) -> Callable[[Any], Any]:
    """A policy for one observation, which it sees in a batch as wide as in an evaluation."""

    def act_alone(obs: Any) -> Any:
        obs = np.asarray(obs)
        batch = np.zeros((WIDTH, *obs.shape), obs.dtype)
        batch[0] = obs
        return act(batch)[0]

    return act_alone


def _render(env: Any) -> Frame:
    frame: Frame = env.render()
    return frame
