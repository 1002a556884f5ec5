"""A small environment, and studies of any environment."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import pytest
from gymnasium import spaces
from pydantic import ValidationError

from shaperun.study.models import Study, parse_study

Register = Callable[[str, Callable[..., Any]], None]


class Toy(gym.Env[Any, Any]):
    """An environment that counts how often it was created and closed."""

    action_space: spaces.Space[Any] = spaces.Discrete(2)
    made, closed = 0, 0

    def __init__(self, size: int = 3, render_mode: str | None = None) -> None:
        type(self).made += 1
        self.observation_space = spaces.Box(-1, 1, (size,))

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return self.observation_space.sample(), 1.0, True, False, {}

    def close(self) -> None:
        type(self).closed += 1


def study(environment: dict[str, Any], *, allow_code: bool = False, **sections: Any) -> Study:
    data = {
        "study": "any",
        "environment": environment,
        "training": {"total_timesteps": 1000},
        "arms": {"default": {}},
        **sections,
    }
    return parse_study(data, allow_code=allow_code)


def refusals(
    environment: dict[str, Any], *, allow_code: bool = False, **sections: Any
) -> dict[str, str]:
    """Return every message, by the path of the mistake."""
    with pytest.raises(ValidationError) as caught:
        study(environment, allow_code=allow_code, **sections)
    return {".".join(map(str, error["loc"])): error["msg"] for error in caught.value.errors()}
