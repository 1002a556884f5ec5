"""A custom environment: a robot brings a parcel to the exit, and may put it down on its way."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

SIZE = 6
MOVES = ((0, 0), (1, 0), (0, 1), (-1, 0), (0, -1))
EXIT = (SIZE - 1, SIZE - 1)


class Warehouse(gym.Env[Any, Any]):
    """A grid with a robot, a parcel and an exit in the corner.

    An action is a move and a use of the gripper: leave it, take the parcel, or put it down. The
    reward is 1 once the parcel is at the exit, which ends the episode.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 8}  # noqa: RUF012 (gymnasium's)
    action_space = spaces.MultiDiscrete([len(MOVES), 3])
    observation_space = spaces.Dict(
        {
            "robot": spaces.Box(0, SIZE - 1, (2,)),
            "parcel": spaces.Box(0, SIZE - 1, (2,)),
            "carries": spaces.Discrete(2),
        }
    )

    def __init__(self, render_mode: str | None = None) -> None:
        self.render_mode = render_mode

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        """Place robot and parcel at random, not at the exit."""
        super().reset(seed=seed)
        cells = self.np_random.choice(SIZE * SIZE - 1, 2, replace=False)
        self.robot, self.parcel = (np.array(divmod(int(cell), SIZE)) for cell in cells)
        self.carries, self.taken = False, 0
        return self._observe(), self._report()

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Move, then use the gripper."""
        move, gripper = action
        self.robot = np.clip(self.robot + MOVES[move], 0, SIZE - 1)
        if gripper == 1 and not self.carries and (self.robot == self.parcel).all():
            self.carries, self.taken = True, self.taken + 1
        elif gripper == 2:
            self.carries = False
        if self.carries:
            self.parcel = self.robot.copy()
        delivered = not self.carries and tuple(self.parcel) == EXIT
        return self._observe(), float(delivered), delivered, False, self._report()

    def render(self) -> Any:
        """Draw the exit in green, the parcel in brown and the robot in blue."""
        picture = np.full((SIZE, SIZE, 3), 235, np.uint8)
        picture[EXIT] = 120, 200, 120
        picture[tuple(self.parcel)] = 160, 110, 60
        frame = picture.repeat(40, 0).repeat(40, 1)
        row, column = self.robot * 40
        color = (160, 110, 60) if self.carries else (40, 90, 200)
        frame[row + 8 : row + 32, column + 8 : column + 32] = 40, 90, 200
        frame[row + 14 : row + 26, column + 14 : column + 26] = color
        return frame

    def _observe(self) -> dict[str, Any]:
        robot, parcel = (place.astype(np.float32) for place in (self.robot, self.parcel))
        return {"robot": robot, "parcel": parcel, "carries": int(self.carries)}

    def _report(self) -> dict[str, Any]:
        return {"taken": self.taken}


gym.register("Warehouse-v0", lambda **options: Warehouse(**options), max_episode_steps=60)
