"""gymnasium's lander on EnvPool's terrain, to see whether the two differ in anything else."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
from gymnasium.envs.box2d import lunar_lander
from gymnasium.wrappers import TimeLimit

from benchmarks.envpool.play import Episodes
from shaperun.envs.builtin import environments
from shaperun.study.environment import EnvironmentConfig
from shaperun.training.vector_env import ReplayableEnv, SequentialVectorEnv

LANDERS = ("LunarLander-v3", "LunarLanderContinuous-v3")
CONTROLLER = "land"

MAX_STEPS = 1_000
PAD = 0.15  # of |x|: a lander that rests there has both legs on the pad, which ends at 0.2
SMOOTHING, ENVPOOL_SMOOTHING = "0.33 * (height", "1 / 3 * (height"


@dataclass(frozen=True)
class TerrainComparison:
    """Episodes of `land` in gymnasium's lander, there on EnvPool's terrain, and in EnvPool's."""

    env_id: str
    sides: tuple[Episodes, Episodes, Episodes]


def make_raised(config: EnvironmentConfig, count: int) -> SequentialVectorEnv:
    """Return copies of gymnasium's lander, whose terrain is smoothed as in EnvPool.

    Raises:
        ValueError: gymnasium's source has another smoothing.
    """
    source = Path(lunar_lander.__file__).read_text(encoding="utf-8")
    if source.count(SMOOTHING) != 1:
        raise ValueError(f"{SMOOTHING!r} is missing in gymnasium's lander; adapt this module")
    # The factor is inside a long function, where no subclass can replace it.
    module = ModuleType("raised")
    exec(source.replace(SMOOTHING, ENVPOOL_SMOOTHING), module.__dict__)  # noqa: S102
    continuous = environments()[config.id].action_size is not None
    envs = [module.LunarLander(continuous=continuous) for _ in range(count)]
    return SequentialVectorEnv([ReplayableEnv(TimeLimit(env, MAX_STEPS)) for env in envs])


def resting_height(landers: Episodes) -> float:
    """Return the median height (y) of the landers at rest on the pad."""
    x, y = landers.last_obs[landers.outcomes == "landed", :2].T
    return float(np.median(y[np.abs(x) < PAD]))
