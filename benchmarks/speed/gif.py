"""Cost of writing a GIF, next to imageio's default writer on the same frames."""

from __future__ import annotations

import os
import tempfile
from functools import partial
from pathlib import Path

import gymnasium as gym
import imageio.v3 as iio
import numpy as np
from gymnasium.envs.box2d.lunar_lander import heuristic

from benchmarks.speed.measure import Row, measure_in_turn, on_cores, ratios, seconds
from shaperun.report import gif


def gif_rows(*, quick: bool) -> list[Row]:
    """Measure time and file size, for two LunarLander episodes side by side."""
    clips = [record("lands", "#0072b2", lands=True), record("falls", "#d55e00", lands=False)]
    frames, delay_ms = gif.compose(clips)
    with tempfile.TemporaryDirectory() as folder, on_cores(1):
        ours, theirs = Path(folder, "ours.gif"), Path(folder, "imageio.gif")
        writers = {
            "ours": partial(gif.write_gif, ours, frames, delay_ms=delay_ms),
            "imageio": partial(iio.imwrite, theirs, frames, duration=delay_ms, loop=0),
        }
        sides = {name: lambda _, write=write: seconds(write) for name, write in writers.items()}
        times = measure_in_turn(sides, 1 if quick else 7)
        size = ours.stat().st_size / theirs.stat().st_size
    per_frame = [1000 * duration / len(frames) for duration in times["ours"]]
    return [
        Row("GIF, time / imageio", ratios(*times.values()), at_most=0.25),
        Row("GIF, size / imageio", [size], at_most=1.0),
        Row("GIF, time per frame", per_frame, "{:.1f}", "ms"),
    ]


def record(arm: str, color: str, *, lands: bool) -> gif.Clip:
    """Record an episode of LunarLander, flown by gymnasium's heuristic or without engines."""
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
    env = gym.make("LunarLander-v3", render_mode="rgb_array")
    obs, _ = env.reset(seed=3)
    frames, returns, done = [np.asarray(env.render())], [0.0], False
    while not done:
        action = heuristic(env.unwrapped, obs) if lands else 0  # type: ignore[no-untyped-call]
        obs, reward, terminated, truncated, _ = env.step(action)
        frames.append(np.asarray(env.render()))
        returns.append(returns[-1] + float(reward))
        done = terminated or truncated
    env.close()
    return gif.Clip(arm, color, frames, returns, "landed" if lands else "crashed", lands, 50)
