"""Acrobot-v1: swing two links up over a line with a motor at the joint between them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from shaperun.envs.base import Array, Environment, Transition

PULL_LEFT, NO_TORQUE, PULL_RIGHT = range(3)

GRAVITY = 9.8  # the links have length 1 and mass 1


def outcome(end: Transition) -> npt.NDArray[np.str_]:
    """Return `swung_up` if the tip crosses the line, `timeout` if time runs out first."""
    return np.where(end.terminated, "swung_up", "timeout")


def own_reward(transition: Transition) -> Array:
    """−1 per step, 0 for the step that crosses the line."""
    return np.where(transition.terminated, 0.0, -1.0)


acrobot = Environment(
    id="Acrobot-v1",
    observations=("cos_angle1", "sin_angle1", "cos_angle2", "sin_angle2", "spin1", "spin2"),
    outcome=outcome,
    outcomes={"swung_up": True, "timeout": False},
    time_limit=500,
    episode_bounds=lambda steps: {"return": (-float(steps), 0.0)},
    solved=-100.0,
    notes={
        "replace": "replacing Acrobot's reward also drops its −1 per step; terms that pay on the "
        "way pay most to an agent that never crosses the line",
        "add": "only Acrobot's −1 per step makes crossing the line worthwhile; terms that pay more "
        "than 1 per step reward staying below it",
    },
    requires=("pygame", 'pip install "gymnasium[classic-control]"'),
    own_reward=own_reward,
)


def cos_angle_sum(obs: Array) -> Array:
    """Return cos(angle1 + angle2), with angle2 relative to the first link."""
    return obs[:, 0] * obs[:, 2] - obs[:, 1] * obs[:, 3]


@acrobot.state_term
def height(obs: Array) -> Array:
    """−cos(angle1) − cos(angle1 + angle2), the height of the tip; the line is at 1."""
    return -obs[:, 0] - cos_angle_sum(obs)


@acrobot.state_term
def energy(obs: Array) -> Array:
    """Kinetic plus potential energy, scaled: −1 hanging still, 1 upright and still."""
    cos_angle1, _, cos_angle2, _, spin1, spin2 = obs.T
    # Half of inertia times spin²: both links about the pivot, the second about its joint.
    kinetic: Array = (
        (3.5 + cos_angle2) * spin1**2 / 2.0
        + 1.25 * spin2**2 / 2.0
        + (1.25 + 0.5 * cos_angle2) * spin1 * spin2
    )
    potential: Array = -GRAVITY * (1.5 * cos_angle1 + 0.5 * cos_angle_sum(obs))
    return (kinetic + potential) / (2.0 * GRAVITY)


@acrobot.state_term
def still(obs: Array) -> Array:
    """−√(spin1² + spin2²), the speed of the joints."""
    return -np.hypot(obs[:, 4], obs[:, 5])


@acrobot.action_term
def along(transition: Transition) -> Array:
    """sign(spin2) · torque: 1 if the torque drives the joint's rotation, −1 if it opposes it."""
    return (transition.action - 1.0) * np.sign(transition.obs[:, 5])


@acrobot.action_term
def effort(transition: Transition) -> Array:
    """−|torque|: −1 if the motor is on, 0 if it is off."""
    return np.where(transition.action == NO_TORQUE, 0.0, -1.0)


@acrobot.controller
def swing(obs: npt.NDArray[np.float32]) -> int:
    """Drives the joint in the direction of its rotation, so that the links swing ever higher."""
    return PULL_RIGHT if obs[5] > 0.0 else PULL_LEFT


@acrobot.controller
def hang(obs: npt.NDArray[np.float32]) -> int:
    """Brakes the joint until the links hang still."""
    if abs(obs[5]) < 0.05:
        return NO_TORQUE
    return PULL_LEFT if obs[5] > 0.0 else PULL_RIGHT


@acrobot.controller
def strain(obs: npt.NDArray[np.float32]) -> int:
    """Pulls in one direction all the time, which only bends the links a little."""
    return PULL_RIGHT
