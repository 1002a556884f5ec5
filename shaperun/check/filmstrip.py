"""Filmstrips: the frames of an episode in one picture, for the pages."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from PIL import Image

from shaperun.check.behaviors import Behavior, all_controllers
from shaperun.common.errors import UserError
from shaperun.envs.base import Environment
from shaperun.envs.episodes import Episode, held_out_seeds, play_episode
from shaperun.envs.make import (
    check_frame,
    explain_rendering_error,
    render_without_display,
    rendering_obstacle,
)
from shaperun.study.environment import EnvironmentConfig

MAX_FRAMES = 60  # per episode
FRAME_WIDTH = 200  # pixels
COLUMNS = 10  # frames per row of the strip


@dataclass(frozen=True)
class Filmstrip:
    """Frames of an episode in one picture, row by row, one per `every` steps."""

    image: str
    """A data URI."""
    width: int
    height: int
    columns: int
    count: int
    every: int


def record_filmstrips(
    config: EnvironmentConfig, behaviors: Sequence[Behavior]
) -> list[list[Filmstrip | None]]:
    """Return a strip per episode of each behavior; None where it cannot be rendered.

    The episodes are played again, because rendering slows an environment down. One whose episodes
    do not repeat exactly gets no strips, which would show something else.
    """
    env = make_renderable_env(config)
    if env is None:
        return [[None for _ in behavior.episodes] for behavior in behaviors]
    environment = config.describe()
    controllers = all_controllers(environment, env)
    try:
        return [
            [
                record_filmstrip(env, environment, controllers[b.name].make(), seed, episode)
                for seed, episode in zip(held_out_seeds(len(b.episodes)), b.episodes, strict=True)
            ]
            for b in behaviors
        ]
    finally:
        env.close()


def make_renderable_env(
    config: EnvironmentConfig, *, for_controller: bool = True
) -> gym.Env[Any, Any] | None:
    """Return an environment with `rgb_array` rendering, or None if it has none."""
    render_without_display()
    try:
        env = config.make(render_mode="rgb_array", for_controller=for_controller)
    except Exception:  # unsupported, or a library for rendering is missing
        return None
    if rendering_obstacle(env):
        env.close()
        return None
    return env


def check_rendering(config: EnvironmentConfig) -> None:
    """Draw the first state of an episode, to report errors before anything takes time.

    Raises:
        UserError: the environment draws no pictures; the message says what it must return.
    """
    render_without_display()
    try:
        with closing(config.make(render_mode="rgb_array")) as env:
            why = rendering_obstacle(env)
            if why is None:
                env.reset(seed=0)
                check_frame(env.render())
                return
    except UserError:  # a package is missing
        raise
    except Exception as error:  # the environment's code may raise anything
        raise UserError(
            f"{config.id} cannot be rendered: {explain_rendering_error(error)}"
        ) from error
    raise UserError(f"{config.id} cannot be rendered: {why}")


def record_filmstrip(
    env: gym.Env[Any, Any],
    environment: Environment,
    act: Callable[[Any], Any],
    seed: int,
    episode: Episode,
) -> Filmstrip | None:
    """Play a recorded episode again and return its strip; None if it cannot be rendered or differs.

    The environment renders `rgb_array`; `seed` is that of the reset.
    """
    every = -(-(len(episode) + 1) // MAX_FRAMES)
    frames: list[Image.Image] = []
    step = 0

    def on_step(_reward: float) -> None:
        nonlocal step
        if step % every == 0 or step == len(episode):
            frames.append(_downscale(env.render()))
        step += 1

    try:
        played = play_episode(env, environment, act, seed, on_step=on_step, max_steps=len(episode))
    except Exception:  # rendering may fail where playing does not
        return None
    same = np.array_equal(played.transition.next_obs, episode.transition.next_obs)
    return _tile(frames, every) if same and frames else None


def _downscale(frame: Any) -> Image.Image:
    picture = Image.fromarray(np.asarray(frame, dtype=np.uint8))
    height = max(1, round(picture.height * FRAME_WIDTH / picture.width))
    return picture.resize((FRAME_WIDTH, height), Image.Resampling.BILINEAR)


def _tile(frames: Sequence[Image.Image], every: int) -> Filmstrip:
    width, height = frames[0].size
    rows = -(-len(frames) // COLUMNS)
    sheet = Image.new("RGB", (width * min(COLUMNS, len(frames)), height * rows))
    for i, frame in enumerate(frames):
        sheet.paste(frame, (i % COLUMNS * width, i // COLUMNS * height))
    data = io.BytesIO()
    sheet.save(data, "WEBP", quality=55, method=4)
    uri = f"data:image/webp;base64,{base64.b64encode(data.getvalue()).decode()}"
    return Filmstrip(uri, width, height, min(COLUMNS, len(frames)), len(frames), every)
