"""Progress of training, which schedules turn into factors."""

from __future__ import annotations

from typing import Any

import numpy as np

from shaperun.common.validation import is_number
from shaperun.rewards.kernel import START, Progress


class Clock:
    """Training progress from the number of `steps`; constant for rewards without a schedule.

    For a schedule that is earned, progress is the share that the latest evaluation earned.
    """

    def __init__(
        self, total_timesteps: int | None, *, scheduled: bool, is_earned: bool = False
    ) -> None:
        if total_timesteps is None:
            if scheduled:
                raise ValueError("a schedule requires total_timesteps, the length of training")
        elif not (is_number(total_timesteps) and total_timesteps >= 1):
            raise ValueError(f"total_timesteps must be a positive number, not {total_timesteps!r}")
        self._total = total_timesteps if scheduled else None
        self._is_earned = is_earned
        self._earned: list[tuple[int, float]] = []  # (steps, share) of evaluations
        self.steps = 0

    def earn(self, steps: int, share: float) -> None:
        """Set the share that an evaluation after so many steps earned; it counts after them."""
        known = [(at, earned) for at, earned in self._earned if at < steps]
        past = [point for point in known if point[0] < self.steps]
        self._earned = [*past[-1:], *known[len(past) :], (steps, share)]

    def get_state(self) -> dict[str, Any]:
        """Return the steps, and what has been earned."""
        return {"steps": self.steps, "earned": [list(point) for point in self._earned]}

    def set_state(self, state: dict[str, Any]) -> None:
        """Resume from a state; those of earlier versions have steps only."""
        self.steps = state["steps"]
        self._earned = [(int(at), float(share)) for at, share in state.get("earned", [])]

    def tick(self, steps: int) -> Progress:
        """Count simultaneous steps, and return the progress before and after them."""
        shares = self.shares(1, steps)
        self.steps += steps
        return shares

    def shares(self, steps: int, n_envs: int) -> Progress:
        """Return the progress before and after each of T steps of N environments, (T · N,)."""
        if not self._total:
            return START
        if steps == 1:
            return self.share(self.steps), self.share(self.steps + n_envs)
        shares = [self.share(self.steps + step * n_envs) for step in range(steps + 1)]
        return np.repeat(shares[:-1], n_envs), np.repeat(shares[1:], n_envs)

    def share(self, steps: int) -> float:
        """Return the progress after so many steps."""
        if self._is_earned:
            return next((share for at, share in reversed(self._earned) if at < steps), 0.0)
        return min(1.0, steps / self._total) if self._total else 0.0
