"""Whose simulation a run is trained in: gymnasium's, or EnvPool's in C++ (docs/envpool.md)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

Backend = Literal["gymnasium", "envpool"]

# Environments of EnvPool in which hand-written policies have the same returns and outcomes.
SUPPORTED = (
    "CartPole-v1",
    "LunarLander-v3",
    "LunarLanderContinuous-v3",
    "MountainCar-v0",
    "MountainCarContinuous-v0",
    "Acrobot-v1",
    "BipedalWalker-v3",
)
UNSUPPORTED = {"Pendulum-v1": "EnvPool's rod turns further than it may where it is fastest"}


def why_not_envpool(env_id: str, options: Mapping[str, Any]) -> str | None:
    """Why an environment is not stepped by EnvPool; None where it can be."""
    if env_id in UNSUPPORTED:
        return f"{env_id} is another one there: {UNSUPPORTED[env_id]}"
    if env_id not in SUPPORTED:
        return f"{env_id} was not compared with gymnasium's; {', '.join(SUPPORTED)} were"
    others = options.keys() - {"max_episode_steps"}
    if others:
        return f"it has no option {', '.join(sorted(others))}"
    return None
