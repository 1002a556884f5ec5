"""Wrappers that a study may put between an environment and its learner."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Wrappers = Sequence[str | Mapping[str, Mapping[str, Any]]]
"""Names of wrappers, innermost first, each alone or with its arguments."""

ALLOWED = (
    *("ClipAction", "DelayObservation", "DiscretizeAction", "DiscretizeObservation"),
    *("DtypeObservation", "FilterObservation", "FlattenObservation", "FrameStackObservation"),
    *("GrayscaleObservation", "RescaleAction", "RescaleObservation", "ReshapeObservation"),
    *("ResizeObservation", "StickyAction", "TimeAwareObservation"),
)
"""Wrappers of gymnasium that change only what the learner sees and how it acts."""

NO_REWARDS = "rewards belong to the arms of a study"
NO_STEPS = "it takes several steps at once, of which terms would see the last one only"
NO_RESETS = "episodes begin as the environment begins them"
NO_EPISODES = "episodes end as the environment ends them"
NO_EFFECT = "it changes nothing that a learner sees"
REFUSED = {
    **dict.fromkeys(("ClipReward", "TransformReward", "NormalizeReward"), NO_REWARDS),
    **dict.fromkeys(("MaxAndSkipObservation", "RepeatAction", "AtariPreprocessing"), NO_STEPS),
    **dict.fromkeys(("RecordVideo", "HumanRendering", "RenderCollection"), NO_EFFECT),
    **dict.fromkeys(("PassiveEnvChecker", "OrderEnforcing", "RecordEpisodeStatistics"), NO_EFFECT),
    "Autoreset": NO_EPISODES,
    "TimeLimit": "set environment.options {max_episode_steps: …}",
    "NormalizeObservation": "set training.normalize {observations: true}, which evaluation shares",
}
"""Wrappers of gymnasium that a study cannot have, and why."""
