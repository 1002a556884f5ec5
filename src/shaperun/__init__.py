"""An experiment runner for reward-shaping studies."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from shaperun.arm import RewardConfig
    from shaperun.wrapper import RewardShapingWrapper, VectorRewardShapingWrapper

__version__ = "0.1.0"
__all__ = ["RewardConfig", "RewardShapingWrapper", "VectorRewardShapingWrapper", "__version__"]

# What scripts import from here, found when asked for: the commands must not wait for gymnasium.
_WHERE = {
    "RewardConfig": "shaperun.arm",
    "RewardShapingWrapper": "shaperun.wrapper",
    "VectorRewardShapingWrapper": "shaperun.wrapper",
}


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_WHERE[name]), name)
