"""An experiment runner for reward-shaping studies.

Public: the names below; `shaperun.envs.base` for authors of environments and terms,
`shaperun.check.rule` for authors of rules, and `shaperun.stats`. Everything else is internal.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from shaperun.rewards.config import RewardConfig
    from shaperun.rewards.wrapper import RewardShapingWrapper, VectorRewardShapingWrapper

__version__ = "0.1.0"
__all__ = ["RewardConfig", "RewardShapingWrapper", "VectorRewardShapingWrapper", "__version__"]

# Imported on first use, so that commands need not wait for gymnasium.
_MODULES = {
    "RewardConfig": "shaperun.rewards.config",
    "RewardShapingWrapper": "shaperun.rewards.wrapper",
    "VectorRewardShapingWrapper": "shaperun.rewards.wrapper",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)
