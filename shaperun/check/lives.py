"""Evidence about the lengths and the ends of recorded episodes, beyond the ranking of behaviors.

A ranking needs a good behavior to compare with. Where all recorded behaviors are bad, as on an
environment without controllers, their episodes still show whether a reward pays for living short
or long, and whether it pays for reaching a goal.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from shaperun.check.ranking import STANDARD_ERRORS, BehaviourReturn
from shaperun.check.rule import ArmContext
from shaperun.envs.base import Array
from shaperun.rewards.kernel import RewardError

Mask = npt.NDArray[np.bool_]

MIN_LIVES = 3  # on each side of the median length
SPARSE_GOAL = 1.0  # pay of a goal that no recorded episode reached, as is common in gymnasium


@dataclass(frozen=True)
class Lives:
    """What an arm pays the shorter and the longer half of the episodes that reached no goal.

    `gap` is the mean discounted return of the shorter ones less that of the longer ones, where it
    is larger than noise, than what the environment itself pays for, and than what a goal pays.
    """

    gap: float
    short_length: float
    long_length: float
    short_paid: float
    long_paid: float


def compare_lives(arm: ArmContext) -> Lives | None:
    """Compare short with long episodes; None without a difference that only the arm pays for."""
    returns = arm.returns
    lengths = np.concatenate([r.behaviour.ends - r.behaviour.starts + 1 for r in returns])
    paid = np.concatenate([r.discounted for r in returns])
    environment = np.concatenate([r.environment for r in returns])
    reached = np.concatenate([reached_goal(arm, r) for r in returns])
    short = ~reached & (lengths <= np.median(lengths[~reached])) if (~reached).any() else reached
    long = ~reached & ~short
    if min(short.sum(), long.sum()) < MIN_LIVES:
        return None
    gap, noise = _difference(paid[short], paid[long])
    own_gap, own_noise = _difference(environment[short], environment[long])
    same_direction = np.sign(gap) == np.sign(own_gap) and abs(own_gap) > own_noise
    if abs(gap) <= noise or same_direction:
        return None
    if reached.any():
        dominated = paid[reached].mean() >= max(paid[short].mean(), paid[long].mean())
    else:
        dominated = not arm.drops_env_reward and abs(gap) < SPARSE_GOAL
    if dominated:
        return None
    means = (lengths[short].mean(), lengths[long].mean(), paid[short].mean(), paid[long].mean())
    return Lives(gap, *map(float, means))


def reached_goal(arm: ArmContext, result: BehaviourReturn) -> Mask:
    """Return which episodes ended in a success (episodes,).

    Where the environment does not say, it is an end that pays more than any other step.
    """
    behaviour, transition = result.behaviour, result.behaviour.transition
    success = [arm.environment.outcomes[episode.outcome] for episode in behaviour.episodes]
    inside = np.concatenate(
        [r.behaviour.transition.env_reward[~r.behaviour.transition.ended] for r in arm.returns]
    )
    usual = inside.max() if len(inside) else np.inf
    unusual = _terminated(result) & (transition.env_reward[behaviour.ends] > usual)
    return np.array([s or (s is None and bool(u)) for s, u in zip(success, unusual, strict=True)])


def pays_for_goal(arm: ArmContext) -> bool:
    """Return whether the arm's reward rises at the ends of successful episodes, and only there.

    Where success is to last to the time limit, return whether most steps of such episodes pay.
    Without a successful episode, return whether the reward is higher where an episode terminates.
    """
    reached = np.concatenate([reached_goal(arm, result) for result in arm.returns])
    if not reached.any():
        return any(_pays_for_termination(arm, result) for result in arm.returns)
    lasting = [_steps_to_the_limit(arm, result) for result in arm.returns]
    if sum(map(len, lasting)):
        return bool(np.median(np.concatenate(lasting)) > 0)
    changes = np.concatenate([_changes(result) for result in arm.returns])
    usual = float(changes.max(initial=0.0))
    at_end = np.concatenate([_last_changes(result) for result in arm.returns])
    failed = ~reached & np.concatenate([_terminated(result) for result in arm.returns])
    elsewhere = float(at_end[failed].mean()) if failed.any() else -np.inf
    return bool(at_end[reached].mean() > max(usual, elsewhere) + 1e-9)


def _terminated(result: BehaviourReturn) -> Mask:
    return result.behaviour.transition.terminated[result.behaviour.ends]


def _steps_to_the_limit(arm: ArmContext, result: BehaviourReturn) -> Array:
    """Return the rewards of the steps of successful episodes that were truncated."""
    behaviour = result.behaviour
    lasted = reached_goal(arm, result) & behaviour.transition.truncated[behaviour.ends]
    return result.rewards.shaped[np.repeat(lasted, behaviour.ends - behaviour.starts + 1)]


def _pays_for_termination(arm: ArmContext, result: BehaviourReturn) -> bool:
    ends = result.behaviour.transition.take(result.behaviour.ends)
    everywhere = np.ones(len(ends), dtype=bool)
    try:
        rewards = [
            arm.kernel(replace(ends, terminated=t, truncated=~t)).shaped
            for t in (everywhere, ~everywhere)
        ]
    except RewardError:  # the recorded ends are finite; these need not be
        return False
    return bool((rewards[0] > rewards[1]).any())


def _last_changes(result: BehaviourReturn) -> Array:
    """Return the last reward of each episode less the one before (episodes,)."""
    ends, shaped = result.behaviour.ends, result.rewards.shaped
    before = np.maximum(ends - 1, result.behaviour.starts)
    return shaped[ends] - shaped[before]


def _changes(result: BehaviourReturn) -> Array:
    """Return all changes of the reward between steps of one episode but those at its end."""
    inside = ~result.behaviour.transition.ended[1:] & ~result.behaviour.transition.ended[:-1]
    return np.diff(result.rewards.shaped)[inside]


def _difference(one: Array, other: Array) -> tuple[float, float]:
    """Return the difference of two means, and the size up to which it is noise."""
    variance = one.var(ddof=1) / len(one) + other.var(ddof=1) / len(other)
    rounding = 1e-9 * max(float(np.abs(one).max()), float(np.abs(other).max()))
    noise = max(STANDARD_ERRORS * float(np.sqrt(variance)), rounding)
    return float(one.mean() - other.mean()), noise
