"""Which recorded episodes reached a goal, and whether a reward pays for that."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from shaperun.check.ranking import BehaviorReturn
from shaperun.check.rule import ArmContext
from shaperun.envs.base import Array
from shaperun.rewards.kernel import RewardError

Mask = npt.NDArray[np.bool_]


def reached_goals(arm: ArmContext) -> list[Mask]:
    """Return which episodes of each behavior ended in a success (episodes,).

    Where the environment does not say, it is an end that pays more than any other step.
    """
    inside = np.concatenate(
        [r.behavior.transition.env_reward[~r.behavior.transition.ended] for r in arm.returns]
    )
    usual = float(inside.max()) if len(inside) else np.inf
    return [_reached_goal(arm, result, usual) for result in arm.returns]


def _reached_goal(arm: ArmContext, result: BehaviorReturn, usual: float) -> Mask:
    behavior = result.behavior
    success = [arm.environment.outcomes[episode.outcome] for episode in behavior.episodes]
    unusual = _terminated(result) & (behavior.transition.env_reward[behavior.ends] > usual)
    return np.array([s or (s is None and bool(u)) for s, u in zip(success, unusual, strict=True)])


def pays_for_goal(arm: ArmContext) -> bool:
    """Return whether the arm's reward rises at the ends of successful episodes, and only there.

    Where success is to last to the time limit, return whether most steps of such episodes pay.
    Without a successful episode, return whether the reward is higher where an episode terminates.
    """
    goals = reached_goals(arm)
    reached = np.concatenate(goals)
    if not reached.any():
        return any(_pays_for_termination(arm, result) for result in arm.returns)
    lasting = [_steps_to_the_limit(*pair) for pair in zip(arm.returns, goals, strict=True)]
    if sum(map(len, lasting)):
        return bool(np.median(np.concatenate(lasting)) > 0)
    changes = np.concatenate([_changes(result) for result in arm.returns])
    usual = float(changes.max(initial=0.0))
    at_end = np.concatenate([_last_changes(result) for result in arm.returns])
    failed = ~reached & np.concatenate([_terminated(result) for result in arm.returns])
    elsewhere = float(at_end[failed].mean()) if failed.any() else -np.inf
    return bool(at_end[reached].mean() > max(usual, elsewhere) + 1e-9)


def _terminated(result: BehaviorReturn) -> Mask:
    return result.behavior.transition.terminated[result.behavior.ends]


def _steps_to_the_limit(result: BehaviorReturn, reached: Mask) -> Array:
    """Return the rewards of the steps of successful episodes that were truncated."""
    behavior = result.behavior
    lasted = reached & behavior.transition.truncated[behavior.ends]
    return result.rewards.shaped[np.repeat(lasted, behavior.ends - behavior.starts + 1)]


def _pays_for_termination(arm: ArmContext, result: BehaviorReturn) -> bool:
    transition = result.behavior.transition  # whole episodes, which terms may remember
    ended, never = transition.ended, np.zeros(len(transition), dtype=bool)
    try:
        rewards = [
            arm.kernel(replace(transition, terminated=t, truncated=u)).shaped
            for t, u in ((ended, never), (never, ended))
        ]
    except RewardError:  # the recorded ends are finite; these need not be
        return False
    return bool((rewards[0] > rewards[1]).any())


def _last_changes(result: BehaviorReturn) -> Array:
    """Return the last reward of each episode less the one before (episodes,)."""
    ends, shaped = result.behavior.ends, result.rewards.shaped
    before = np.maximum(ends - 1, result.behavior.starts)
    return shaped[ends] - shaped[before]


def _changes(result: BehaviorReturn) -> Array:
    """Return all changes of the reward between steps of one episode but those at its end."""
    inside = ~result.behavior.transition.ended[1:] & ~result.behavior.transition.ended[:-1]
    return np.diff(result.rewards.shaped)[inside]
