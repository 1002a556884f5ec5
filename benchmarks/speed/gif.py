"""What writing a GIF costs, beside imageio's default writer on the same frames."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import gymnasium as gym
import imageio.v3 as iio
import numpy as np
from gymnasium.envs.box2d.lunar_lander import heuristic

from benchmarks.speed.measure import Row, alternate, on_cores, ratios, seconds
from shaperun.report import gif


def rows(*, quick: bool) -> list[Row]:
    """Time and size, for two LunarLander episodes side by side."""
    clips = [episode("lands", "#0072b2", lands=True), episode("falls", "#d55e00", lands=False)]
    frames, delay_ms = gif.compose(clips)
    with tempfile.TemporaryDirectory() as folder, on_cores(1):
        ours, theirs = Path(folder, "ours.gif"), Path(folder, "imageio.gif")
        pairs = alternate(
            lambda: seconds(lambda: gif.write_gif(ours, frames, delay_ms=delay_ms)),
            lambda: seconds(lambda: iio.imwrite(theirs, frames, duration=delay_ms, loop=0)),
            1 if quick else 7,
        )
        size = ours.stat().st_size / theirs.stat().st_size
    per_frame = [1000 * a / len(frames) for a, _ in pairs]
    return [
        Row("GIF, time / imageio", ratios(pairs), at_most=0.25),
        Row("GIF, size / imageio", [size], at_most=1.0),
        Row("GIF, time a frame", per_frame, "{:.1f}", "ms"),
    ]


def episode(arm: str, colour: str, *, lands: bool) -> gif.Clip:
    """One episode of LunarLander flown by gymnasium's own controller, or by nobody."""
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
    env = gym.make("LunarLander-v3", render_mode="rgb_array")
    observation, _ = env.reset(seed=3)
    frames, returns, over = [np.asarray(env.render())], [0.0], False
    while not over:
        action = heuristic(env.unwrapped, observation) if lands else 0  # type: ignore[no-untyped-call]
        observation, reward, terminated, truncated, _ = env.step(action)
        frames.append(np.asarray(env.render()))
        returns.append(returns[-1] + float(reward))
        over = terminated or truncated
    env.close()
    return gif.Clip(arm, colour, frames, returns, "landed" if lands else "crashed", lands, 50)
