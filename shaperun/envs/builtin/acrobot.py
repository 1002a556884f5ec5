"""Acrobot-v1: swing two hanging links up over a line, with a motor at the joint between them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from shaperun.envs.base import Array, Environment, Transition

PULL_LEFT, NO_TORQUE, PULL_RIGHT = range(3)

WEIGHT = 9.8  # gravity; the links are as long and as heavy as 1


def outcome(end: Transition) -> npt.NDArray[np.str_]:
    """The tip gets over the line, or it is still below it when time is up."""
    return np.where(end.terminated, "swung_up", "timeout")


def own_reward(transition: Transition) -> Array:
    """−1 for every step, 0 for the one that gets over the line."""
    return np.where(transition.terminated, 0.0, -1.0)


acrobot = Environment(
    id="Acrobot-v1",
    observations=("cos_angle1", "sin_angle1", "cos_angle2", "sin_angle2", "spin1", "spin2"),
    outcome=outcome,
    outcomes={"swung_up": True, "timeout": False},
    solved=-100.0,
    notes={
        "replace": "replacing Acrobot's reward also drops its −1 for every step; terms that pay "
        "on the way pay longest to an agent that never gets over the line",
        "add": "Acrobot's −1 for every step is all that makes the line worth reaching; terms that "
        "come to more than 1 a step pay for staying below it",
    },
    requires=("pygame", 'pip install "gymnasium[classic-control]"'),
    own_reward=own_reward,
)


def cos_both(obs: Array) -> Array:
    """The cosine of the second link's angle to the vertical; angle2 is that between the links."""
    return obs[:, 0] * obs[:, 2] - obs[:, 1] * obs[:, 3]


@acrobot.state_term
def height(obs: Array) -> Array:
    """−cos(angle1) − cos(angle1 + angle2), the height of the tip; the line is at 1."""
    return -obs[:, 0] - cos_both(obs)


@acrobot.state_term
def energy(obs: Array) -> Array:
    """Kinetic and potential energy, −1 for hanging still and 1 for standing still."""
    cos_angle1, _, cos_angle2, _, spin1, spin2 = obs.T
    # Half a spin² times what is turned: both links about the pivot, the second about its joint.
    kinetic: Array = (
        (3.5 + cos_angle2) * spin1**2 / 2.0
        + 1.25 * spin2**2 / 2.0
        + (1.25 + 0.5 * cos_angle2) * spin1 * spin2
    )
    potential: Array = -WEIGHT * (1.5 * cos_angle1 + 0.5 * cos_both(obs))
    return (kinetic + potential) / (2.0 * WEIGHT)


@acrobot.state_term
def still(obs: Array) -> Array:
    """−√(spin1² + spin2²), the speed of the joints."""
    return -np.hypot(obs[:, 4], obs[:, 5])


@acrobot.action_term
def along(transition: Transition) -> Array:
    """sign(spin2) · torque: 1 when the joint is pulled the way it was turning, −1 against it."""
    return (transition.action - 1.0) * np.sign(transition.obs[:, 5])


@acrobot.action_term
def effort(transition: Transition) -> Array:
    """−1 when the motor pulls, either way."""
    return np.where(transition.action == NO_TORQUE, 0.0, -1.0)


@acrobot.controller
def swing(obs: npt.NDArray[np.float32]) -> int:
    """Pulls the joint the way it is turning, so that the links swing higher and higher."""
    return PULL_RIGHT if obs[5] > 0.0 else PULL_LEFT


@acrobot.controller
def hang(obs: npt.NDArray[np.float32]) -> int:
    """Brakes the joint until the links hang still."""
    if abs(obs[5]) < 0.05:
        return NO_TORQUE
    return PULL_LEFT if obs[5] > 0.0 else PULL_RIGHT


@acrobot.controller
def strain(obs: npt.NDArray[np.float32]) -> int:
    """Pulls one way without a pause, which only bends the links a little."""
    return PULL_RIGHT
