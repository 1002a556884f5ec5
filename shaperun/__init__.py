"""An experiment runner for reward-shaping studies."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from shaperun.rewards.config import RewardConfig
    from shaperun.rewards.wrapper import RewardShapingWrapper, VectorRewardShapingWrapper

__version__ = "0.1.0"
__all__ = ["RewardConfig", "RewardShapingWrapper", "VectorRewardShapingWrapper", "__version__"]

# What scripts import from here, found when asked for: the commands must not wait for gymnasium.
_WHERE = {
    "RewardConfig": "shaperun.rewards.config",
    "RewardShapingWrapper": "shaperun.rewards.wrapper",
    "VectorRewardShapingWrapper": "shaperun.rewards.wrapper",
}


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_WHERE[name]), name)
