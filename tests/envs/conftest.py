"""A registry of environments that a test may extend."""

from __future__ import annotations

from collections.abc import Iterator

import gymnasium as gym
import pytest

from shaperun.envs.generic import (
    _inspect,
)
from tests.helpers.toy import Register


@pytest.fixture
def register() -> Iterator[Register]:
    """Register environments for the duration of one test."""
    before = dict(gym.registry)
    _inspect.cache_clear()
    yield lambda env_id, make: gym.register(env_id, entry_point=make)
    gym.registry.clear()
    gym.registry.update(before)
    _inspect.cache_clear()
