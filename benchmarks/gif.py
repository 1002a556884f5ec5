"""What writing a GIF costs, beside imageio's default writer on the same frames."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter

import gymnasium as gym
import imageio.v3 as iio
import numpy as np
from gymnasium.envs.box2d.lunar_lander import heuristic

from shaperun import gifs

ROUNDS = 7


def rows() -> list[tuple[str, str, str]]:
    """Figure, measured, target: two LunarLander episodes side by side."""
    clips = [episode("lands", "#0072b2", lands=True), episode("falls", "#d55e00", lands=False)]
    frames, delay_ms = gifs.compose(clips)
    with tempfile.TemporaryDirectory() as folder:
        ours, theirs = Path(folder, "ours.gif"), Path(folder, "imageio.gif")
        pairs = [
            (
                seconds(lambda: gifs.write_gif(ours, frames, delay_ms=delay_ms)),
                seconds(lambda: iio.imwrite(theirs, frames, duration=delay_ms, loop=0)),
            )
            for _ in range(ROUNDS)
        ]
        size, size_theirs = ours.stat().st_size, theirs.stat().st_size
    ratio = median(a / b for a, b in pairs)
    per_frame = 1000 * median(a for a, _ in pairs) / len(frames)
    return [
        ("GIF writing time / imageio default", f"{ratio:.2f} ×", "≤ 0.25 ×"),
        ("GIF file size / imageio default", f"{size / size_theirs:.2f} ×", "≤ 1.00 ×"),
        (f"GIF writing, {len(frames)} frames of two clips", f"{per_frame:.1f} ms a frame", ""),
    ]


def episode(arm: str, colour: str, *, lands: bool) -> gifs.Clip:
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
    return gifs.Clip(arm, colour, frames, returns, "landed" if lands else "crashed", lands, 50)


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one call."""
    start = perf_counter()
    work()
    return perf_counter() - start
