"""gymnasium's lander on EnvPool's ground: is the ground all that differs between the two?"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
from gymnasium.envs.box2d import lunar_lander
from gymnasium.wrappers import TimeLimit

from benchmarks.envpool.play import Episodes
from shaperun.envs.builtin import environments
from shaperun.training.vector_env import ReplayableEnv, SequentialVectorEnv

LANDERS = ("LunarLander-v3", "LunarLanderContinuous-v3")
CONTROLLER = "land"

LIMIT = 1_000
PAD = 0.15  # of x: a lander that rests here has both legs on the pad, which ends at 0.2
SMOOTHED, BY_ENVPOOL = "0.33 * (height", "1 / 3 * (height"


@dataclass(frozen=True)
class Grounds:
    """How `land` fared in gymnasium's environment, there on EnvPool's ground, and in EnvPool's."""

    env_id: str
    gymnasium: Episodes
    raised: Episodes
    envpool: Episodes

    @property
    def sides(self) -> tuple[Episodes, Episodes, Episodes]:
        """The three, the changed one in the middle."""
        return self.gymnasium, self.raised, self.envpool


def raised(env_id: str, count: int) -> SequentialVectorEnv:
    """Copies of gymnasium's lander whose ground is smoothed as EnvPool does it.

    Raises:
        ValueError: gymnasium's source is no longer what it was.
    """
    source = Path(lunar_lander.__file__).read_text(encoding="utf-8")
    if source.count(SMOOTHED) != 1:
        raise ValueError(f"gymnasium's lander no longer says {SMOOTHED!r}, so it cannot be changed")
    # The factor stands in the middle of a long function, out of reach of any subclass.
    module = ModuleType("raised")
    exec(source.replace(SMOOTHED, BY_ENVPOOL), module.__dict__)  # noqa: S102
    continuous = environments()[env_id].action_size is not None
    envs = [module.LunarLander(continuous=continuous) for _ in range(count)]
    return SequentialVectorEnv([ReplayableEnv(TimeLimit(env, LIMIT)) for env in envs])


def height(landers: Episodes) -> float:
    """The median height (y) of those that came to rest on the pad."""
    x, y = landers.last_obs[landers.outcomes == "landed", :2].T
    return float(np.median(y[np.abs(x) < PAD]))
