"""Environments that EnvPool can step in C++ in place of gymnasium (docs/envpool.md)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

Backend = Literal["gymnasium", "envpool"]

# Hand-written policies have the same returns and outcomes in EnvPool's version of these.
SUPPORTED = (
    "CartPole-v1",
    "LunarLander-v3",
    "LunarLanderContinuous-v3",
    "MountainCar-v0",
    "MountainCarContinuous-v0",
    "Acrobot-v1",
    "BipedalWalker-v3",
)
UNSUPPORTED = {"Pendulum-v1": "its rod turns faster than the speed limit allows"}


def envpool_obstacle(env_id: str, options: Mapping[str, Any]) -> str | None:
    """Return why EnvPool cannot step an environment, or None if it can."""
    if env_id in UNSUPPORTED:
        return f"EnvPool's {env_id} differs from gymnasium's ({UNSUPPORTED[env_id]})"
    if env_id not in SUPPORTED:
        return (
            f"EnvPool's {env_id} is not validated against gymnasium's ({', '.join(SUPPORTED)} are)"
        )
    unsupported = options.keys() - {"max_episode_steps"}
    if unsupported:
        return f"EnvPool does not support the option {', '.join(sorted(unsupported))}"
    return None
