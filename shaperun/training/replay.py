"""Replay a held-out episode with frames and the contribution of every term so far."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt

from shaperun.envs.base import Array, Transition
from shaperun.envs.episodes import play_episode
from shaperun.envs.make import check_frame, render_without_display
from shaperun.rewards.kernel import RewardKernel
from shaperun.study.models import RunConfig
from shaperun.training import sb3_model
from shaperun.training.evaluation import EVAL_BATCH_SIZE, Act

Frame = npt.NDArray[np.uint8]

DRAWN_PER_SECOND = 25  # 40 ms per frame; viewers slow down below 20 ms
MAX_DRAWN = 250  # frames; a longer episode plays faster
MAX_STEPS = 10_000  # whose frames take up to a gigabyte


@dataclass(frozen=True)
class Replay:
    """A replayed episode: frames, and sums up to each of its T + 1 states."""

    frames: list[Frame]  # (height, width, 3) each; those between two drawn ones repeat the first
    returns: list[float]  # environment return
    contributions: dict[str, list[float]]  # of each reward part to the shaped return
    outcome: str
    fps: int
    speed: int  # of the film, in times of the environment's


def replay_episode(
    config: RunConfig,
    act: Act,
    seed: int,
    transform: Callable[[Frame], Frame],
    factor: float | None = None,
    *,
    longest: int = 0,
) -> Replay:
    """Play a held-out episode as it was evaluated; `transform` shrinks each frame at once.

    Only the frames that a film shows are rendered, if its longest episode has `longest` steps.
    `factor` is that of the schedule in the evaluation, by default the one at the end of training.
    """
    render_without_display()
    sb3_model.use_one_thread()  # as in training
    environment = config.evaluated_environment.describe()
    kernel = config.training.kernel(environment, config.reward)
    env = config.evaluated_environment.make(render_mode="rgb_array")
    fps = int(env.metadata.get("render_fps", 30))
    speed = film_speed(fps, longest)
    frames: list[Frame] = []
    returns: list[float] = []

    def render() -> Frame:
        frame: Any = env.render()
        check_frame(frame)
        return transform(frame)

    def on_step(reward: float) -> None:
        if len(frames) == MAX_STEPS:
            raise ValueError(f"the episode is longer than {MAX_STEPS:,} steps")
        is_drawn = len(frames) % (steps_per_frame(fps) * speed) == 0
        frames.append(render() if is_drawn else frames[-1])
        returns.append((returns[-1] if returns else 0.0) + reward)

    try:
        episode = play_episode(
            env, environment, single_observation_policy(act, env), seed, on_step=on_step
        )
        frames[-1] = render()
    finally:
        env.close()
    contributions = {
        name: [0.0, *values.tolist()]
        for name, values in _contributions_so_far(kernel, episode.transition, factor).items()
    }
    return Replay(frames, returns, contributions, episode.outcome, fps, speed)


def steps_per_frame(fps: float) -> int:
    """Return the number of steps between two frames of a film, given an environment's frame rate.

    A film has about `DRAWN_PER_SECOND` frames per second of the environment's time.
    """
    return max(1, round(fps / DRAWN_PER_SECOND))


def film_speed(fps: float, longest: int) -> int:
    """Return how much faster than the environment a film plays, to have `MAX_DRAWN` frames."""
    return max(1, -(-longest // (steps_per_frame(fps) * MAX_DRAWN)))


def _contributions_so_far(
    kernel: RewardKernel, episode: Transition, factor: float | None
) -> dict[str, Array]:
    """Return the contribution of each weighted term up to the end of every step (T,).

    After the last step their sum is the shaped return that the final evaluation records.
    """
    factor = kernel.factor(1.0) if factor is None else factor
    # The episode so far counts as one that goes on, unless it has ended.
    parts = kernel.contributions_from_sums(
        np.cumsum(kernel(episode, (1.0, 1.0)).raw, axis=0),
        kernel.state_values(episode.obs[:1]),
        kernel.state_values(episode.next_obs),
        kernel.is_final(episode).astype(float),
        factor,
    )
    return kernel.returns_by_term(parts, np.cumsum(episode.env_reward), factor)


def single_observation_policy(act: Act, env: gym.Env[Any, Any]) -> Callable[[Any], Any]:
    """Return a policy for single observations of an environment.

    It pads them to the batches of evaluations, in the type of their space.
    """
    dtype = env.observation_space.dtype

    def act_single(obs: Any) -> Any:
        obs = np.asarray(obs, dtype)
        batch = np.zeros((EVAL_BATCH_SIZE, *obs.shape), obs.dtype)
        batch[0] = obs
        return act(batch)[0]

    return act_single
