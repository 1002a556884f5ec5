"""A custom environment: a price drawn back to its mean, and a trader who is long, short or out."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces


class Market(gym.Env[Any, Any]):
    """Trade a price that is drawn back to 0, for 250 days.

    An action is the position of the next day: short, out or long. The reward is the position times
    the change of the price, less the cost of changing the position.

    Args:
        volatility: standard deviation of a day's change.
        cost: cost of changing the position by 1.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 30}  # noqa: RUF012 (gymnasium's)
    observation_space = spaces.Box(-np.inf, np.inf, (3,))
    action_space = spaces.Discrete(3)

    def __init__(
        self, volatility: float = 1.0, cost: float = 0.05, render_mode: str | None = None
    ) -> None:
        self.volatility, self.cost, self.render_mode = volatility, cost, render_mode

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        """Start out of the market, at the mean."""
        super().reset(seed=seed)
        self.prices, self.profits, self.position = [0.0], [0.0], 0
        return self._observe(), self._report()

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Take a position for a day."""
        position = int(action) - 1
        paid = self.cost * abs(position - self.position)
        price = self.prices[-1]
        change = -0.1 * price + self.volatility * float(self.np_random.normal())
        self.position = position
        reward = position * change - paid
        self.prices.append(price + change)
        self.profits.append(self.profits[-1] + reward)
        return self._observe(), reward, False, False, self._report()

    def render(self) -> Any:
        """Draw the price in gray and the profit in blue, over the days."""
        picture = np.full((160, 260, 3), 255, np.uint8)
        for values, scale, color in (
            (self.prices, 8.0, (150, 150, 150)),
            (self.profits, 0.8, (40, 90, 200)),
        ):
            for day, value in enumerate(values):
                row = int(np.clip(80 - scale * value, 1, 158))
                picture[row - 1 : row + 2, day : day + 2] = color
        return picture

    def _observe(self) -> Any:
        change = self.prices[-1] - self.prices[-2] if len(self.prices) > 1 else 0.0
        return np.array([self.prices[-1], change, self.position], np.float32)

    def _report(self) -> dict[str, Any]:
        return {"total_profit": self.profits[-1], "position": self.position}


gym.register("Market-v0", lambda **options: Market(**options), max_episode_steps=250)
