"""An environment with Dict observations and an info, for terms, wrappers and learners."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces


class Reach(gym.Env[Any, Any]):
    """A point that moves to a goal; the info has its distance, in total and by axis."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 20}  # noqa: RUF012 (gymnasium's)
    observation_space = spaces.Dict(
        {
            "position": spaces.Box(-2, 2, (2,)),
            "grid": spaces.Box(0, 9, (2, 3), np.uint8),
            "mode": spaces.Discrete(3),
        }
    )
    action_space: spaces.Space[Any] = spaces.Box(-2, 2, (2,))

    def __init__(self, render_mode: str | None = None) -> None:
        self.render_mode = render_mode

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.position = self.np_random.uniform(-1, 1, 2)
        self.mode = int(self.np_random.integers(3))
        return self._observe(), self._report()

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.position = np.clip(self.position + 0.1 * np.asarray(action), -2, 2)
        info = self._report()
        reached = info["distance"] < 0.2
        return self._observe(), float(reached), reached, False, info

    def render(self) -> Any:
        frame = np.full((64, 64, 3), 255, np.uint8)
        row, column = ((self.position + 2) / 4 * 60).astype(int)
        frame[row : row + 4, column : column + 4] = 200, 0, 0
        return frame

    def _observe(self) -> Any:
        grid = np.arange(6, dtype=np.uint8).reshape(2, 3) + self.mode
        return {"position": self.position.astype(np.float32), "grid": grid, "mode": self.mode}

    def _report(self) -> dict[str, Any]:
        x, y = np.abs(self.position)
        return {"distance": float(np.hypot(x, y)), "axes": {"x": x, "y": y}}


gym.register("Reach-v0", lambda **options: Reach(**options), max_episode_steps=25)
