"""Make a gymnasium environment and check that it has the spaces its terms expect."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import gymnasium as gym
import numpy as np

from shaperun.common.errors import (
    ContractError,
    describe_exception,
    exits_as_errors,
    find_place,
)
from shaperun.common.text import truncate
from shaperun.envs.base import Environment
from shaperun.envs.spaces import from_spaces
from shaperun.envs.wrapper_names import Wrappers
from shaperun.envs.wrappers import ViewedEnv

_FRAME_RULE = (
    'with render_mode="rgb_array", render must return an array (height, width, 3) of uint8'
)


def make_environment(
    environment: Environment,
    options: Mapping[str, Any],
    wrappers: Wrappers | None = (),
    *,
    render_mode: str | None = None,
) -> gym.Env[Any, Any]:
    """Make an unshaped environment; options are keyword arguments of `gymnasium.make`.

    With `wrappers`, which may be none, it is as a learner sees it. With None it is as a controller
    sees it, to which observations of a Dict or Tuple stay as they are.

    Rendering is off by default: with it, LunarLander simulates every smoke particle, which changes
    no number and halves the speed.

    Raises:
        ContractError: the options change the size of observations or actions.
    """
    # Not every environment takes render_mode.
    rendering: dict[str, Any] = {"render_mode": render_mode} if render_mode else {}
    if render_mode and environment.render_options:
        rendering |= environment.render_options(options)
    # Warnings of environments that are old: a study may name any.
    with warnings.catch_warnings(), exits_as_errors():
        warnings.simplefilter("ignore")
        env = gym.make(environment.id, disable_env_checker=True, **options, **rendering)
    actual = from_spaces(environment.id, env.observation_space, env.action_space)
    for kind, size, expected in (
        ("observation", actual.observation_size, environment.observation_size),
        ("action", actual.action_size, environment.action_size),
    ):
        if size != expected:
            sizes = ["discrete" if n is None else f"{n} numbers" for n in (size, expected)]
            raise ContractError(
                f"with these options an {kind} is {sizes[0]}, but the terms of {environment.id} "
                f"expect {sizes[1]}; change the options or use another environment"
            )
    if render_mode and environment.before_render:
        environment.before_render(env.unwrapped)
    hook = environment.before_reset
    env = BeforeReset(env, hook) if hook else env
    is_composite = isinstance(environment.layout, Mapping)
    return ViewedEnv(env, environment, wrappers) if wrappers or is_composite else env


def render_without_display() -> None:
    """Choose drivers of SDL and MuJoCo that need no display, unless the user has chosen some."""
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
    if not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        os.environ.setdefault("MUJOCO_GL", "egl")


def rendering_obstacle(env: gym.Env[Any, Any]) -> str | None:
    """Return why an environment has no pictures, and what it needs, or None."""
    modes = env.metadata.get("render_modes") or []
    if "rgb_array" in modes:
        return None
    known = f"has {', '.join(map(str, modes))}" if modes else "is empty"
    return (
        f'metadata["render_modes"] {known}, and pictures need "rgb_array"; list it there, and '
        f"{_FRAME_RULE}"
    )


def check_frame(frame: Any) -> None:
    """Check that `render` has returned a picture.

    Raises:
        ContractError: it is no array (height, width, 3) of uint8.
    """
    is_picture = isinstance(frame, np.ndarray) and frame.ndim == 3 and frame.shape[2] == 3
    if is_picture and frame.dtype == np.uint8 and frame.size:
        return
    found = f"{frame.dtype} {frame.shape}" if isinstance(frame, np.ndarray) else repr(frame)
    raise ContractError(f"render returned {truncate(found)}; {_FRAME_RULE}")


def explain_rendering_error(error: Exception) -> str:
    """Describe an error of rendering, and what helps if it is MuJoCo's."""
    driver = os.environ.get("MUJOCO_GL")
    hint = f" (MUJOCO_GL is {driver}; try MUJOCO_GL=egl, or osmesa)" if driver else ""
    return f"{describe_exception(error)}{hint if 'mujoco' in sys.modules else ''}"


def explain_playing_error(error: BaseException, options: Mapping[str, Any] | None = None) -> str:
    """Describe an error of making or playing an environment, and what helps."""
    text = describe_exception(error)
    if "opencv" in text and "not installed" in text:  # gymnasium names an extra with much else
        return "OpenCV is not installed: pip install opencv-python-headless"
    values = (options or {}).values()
    if isinstance(error, OSError) and any(v and isinstance(v, str) and v in text for v in values):
        text += (
            "; begin the path of a file of your own in environment.options with ./ or /, relative "
            "to the working directory"
        )
    if isinstance(error, TypeError | ValueError) and "unpack" in text and not find_place(error):
        text += (
            "; reset must return (observation, info), and step (observation, reward, terminated, "
            "truncated, info)"
        )
    return text


class BeforeReset(gym.Wrapper[Any, Any, Any, Any]):
    """Wrapper that calls a hook with the unwrapped environment before each reset."""

    def __init__(self, env: gym.Env[Any, Any], hook: Callable[[Any], None]) -> None:
        super().__init__(env)
        self._hook = hook

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Call the hook, then reset."""
        self._hook(self.unwrapped)
        return super().reset(seed=seed, options=options)
