"""Behaviours in small pictures: a strip of frames an episode, ready for a page."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from PIL import Image

from shaperun.check.behaviours import Behaviour, default_controllers
from shaperun.envs.base import Environment
from shaperun.envs.episodes import Episode, held_out_seeds, play_episode
from shaperun.study.environment import EnvironmentConfig

FRAMES = 60  # of an episode, however long it is
WIDTH = 200  # pixels of a frame
COLUMNS = 10  # frames in a row of the strip


@dataclass(frozen=True)
class Filmstrip:
    """An episode's frames in one picture, row by row; a frame stands for `every` steps."""

    image: str
    """A data URI."""
    width: int
    height: int
    columns: int
    count: int
    every: int


def filmstrips(
    config: EnvironmentConfig, behaviours: Sequence[Behaviour]
) -> list[list[Filmstrip | None]]:
    """A strip for every episode of every behaviour; None where there is no picture to be had.

    The episodes are played once more: an environment that draws itself is slower, and one whose
    episodes do not repeat gets no pictures that would show something else.
    """
    env = make_renderable(config)
    if env is None:
        return [[None for _ in behaviour.episodes] for behaviour in behaviours]
    environment = config.describe()
    controllers = environment.controllers | default_controllers(env)
    try:
        return [
            [
                filmstrip(env, environment, controllers[behaviour.name].make(), seed, episode)
                for seed, episode in zip(
                    held_out_seeds(len(behaviour.episodes)), behaviour.episodes, strict=True
                )
            ]
            for behaviour in behaviours
        ]
    finally:
        env.close()


def make_renderable(config: EnvironmentConfig) -> gym.Env[Any, Any] | None:
    """An environment that draws itself; None where there is none to be had."""
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")  # no screen is needed
    try:
        return config.make(render_mode="rgb_array")
    except Exception:  # it cannot draw itself, or lacks what it draws with
        return None


def filmstrip(
    env: gym.Env[Any, Any],
    environment: Environment,
    act: Callable[[Any], Any],
    seed: int,
    episode: Episode,
) -> Filmstrip | None:
    """The strip of an episode, which is played once more; None where it cannot be had.

    Args:
        env: draws itself.
        environment: what is known about it.
        act: who played the episode.
        seed: what it began with.
        episode: as it was without pictures.
    """
    every = -(-(len(episode) + 1) // FRAMES)
    frames: list[Image.Image] = []
    step = 0

    def watch(_reward: float) -> None:
        nonlocal step
        if step % every == 0 or step == len(episode):
            frames.append(_downscale(env.render()))
        step += 1

    try:
        played = play_episode(env, environment, act, seed, on_step=watch, max_steps=len(episode))
    except Exception:  # drawing may need more than playing
        return None
    same = np.array_equal(played.transition.next_obs, episode.transition.next_obs)
    return _tile(frames, every) if same and frames else None


def _downscale(frame: Any) -> Image.Image:
    picture = Image.fromarray(np.asarray(frame, dtype=np.uint8))
    height = max(1, round(picture.height * WIDTH / picture.width))
    return picture.resize((WIDTH, height), Image.Resampling.BILINEAR)


def _tile(frames: Sequence[Image.Image], every: int) -> Filmstrip:
    width, height = frames[0].size
    rows = -(-len(frames) // COLUMNS)
    sheet = Image.new("RGB", (width * min(COLUMNS, len(frames)), height * rows))
    for place, frame in enumerate(frames):
        sheet.paste(frame, (place % COLUMNS * width, place // COLUMNS * height))
    data = io.BytesIO()
    sheet.save(data, "WEBP", quality=55, method=4)
    uri = f"data:image/webp;base64,{base64.b64encode(data.getvalue()).decode()}"
    return Filmstrip(uri, width, height, min(COLUMNS, len(frames)), len(frames), every)
