"""Whether a reward pays for short or for long episodes, beyond the ranking of behaviors.

A ranking needs a good behavior to compare with. Where all recorded behaviors are bad, as on an
environment without controllers, their episodes still show whether their length pays.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from shaperun.check.goals import reached_goals
from shaperun.check.ranking import STANDARD_ERRORS
from shaperun.check.rule import ArmContext
from shaperun.envs.base import Array

MIN_EPISODES = 3  # on each side of the median length
SPARSE_GOAL = 1.0  # pay of a goal that no recorded episode reached, as is common in gymnasium


@dataclass(frozen=True)
class LengthIncentive:
    """Mean lengths and mean discounted returns of short and of long episodes without a goal.

    Short ones are no longer than the median; lengths are in steps.
    """

    short_length: float
    long_length: float
    short_paid: float
    long_paid: float

    @property
    def prefers_short(self) -> bool:
        """True if short episodes are paid more."""
        return self.short_paid > self.long_paid


def find_length_incentive(arm: ArmContext) -> LengthIncentive | None:
    """Compare short with long episodes among those that reached no goal.

    Returns:
        None with fewer than three episodes on either side, and for a difference within noise, one
        that the environment itself pays for, or one that reaching the goal outweighs.
    """
    returns = arm.returns
    lengths = np.concatenate([r.behavior.ends - r.behavior.starts + 1 for r in returns])
    paid = np.concatenate([r.discounted for r in returns])
    environment = np.concatenate([r.environment for r in returns])
    reached = np.concatenate(reached_goals(arm))
    if reached.all():
        return None
    short = ~reached & (lengths <= np.median(lengths[~reached]))
    long = ~reached & ~short
    if min(short.sum(), long.sum()) < MIN_EPISODES:
        return None
    gap, noise = _difference(paid[short], paid[long])
    own_gap, own_noise = _difference(environment[short], environment[long])
    same_direction = np.sign(gap) == np.sign(own_gap) and abs(own_gap) > own_noise
    if abs(gap) <= noise or same_direction:
        return None
    if reached.any():
        outweighed = paid[reached].mean() >= max(paid[short].mean(), paid[long].mean())
    else:
        outweighed = not arm.drops_env_reward and abs(gap) < SPARSE_GOAL
    if outweighed:
        return None
    means = (lengths[short].mean(), lengths[long].mean(), paid[short].mean(), paid[long].mean())
    return LengthIncentive(*map(float, means))


def _difference(one: Array, other: Array) -> tuple[float, float]:
    """Return the difference of two means, and the size up to which it is noise."""
    variance = one.var(ddof=1) / len(one) + other.var(ddof=1) / len(other)
    rounding = 1e-9 * max(float(np.abs(one).max()), float(np.abs(other).max()))
    noise = max(STANDARD_ERRORS * float(np.sqrt(variance)), rounding)
    return float(one.mean() - other.mean()), noise
