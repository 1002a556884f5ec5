"""Pendulum-v1: swing a rod up with a weak motor and keep it upright."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from shaperun.envs.base import Array, Environment, Transition

MAX_TORQUE = 2.0
MAX_SPIN = 8.0
MAX_COST = math.pi**2 + 0.1 * MAX_SPIN**2 + 0.001 * MAX_TORQUE**2  # per step
GRAVITY = 15.0  # angular acceleration is 15 sin(angle) + 3 torque

# Episodes end only at the time limit, so success is read from the last state: a balanced pendulum
# is near the top and slow, one that swings past the top is almost always fast there.
NEAR = math.cos(math.radians(20.0))
SLOW = 1.0


def outcome(end: Transition) -> npt.NDArray[np.str_]:
    """Return `upright` or `hanging` if slow near the top or the bottom, else `swinging`."""
    cos_angle, _, spin = end.next_obs.T
    slow = np.abs(spin) < SLOW
    return np.select(
        [slow & (cos_angle > NEAR), slow & (cos_angle < -NEAR)], ["upright", "hanging"], "swinging"
    )


def angles(obs: Array) -> Array:
    """Return the angle (N,) in radians: 0 is upright, ±π is down."""
    return np.arctan2(obs[:, 1], obs[:, 0])


def torques(action: npt.NDArray[np.float32]) -> Array:
    """Return the torque (N,) that an action applies."""
    return np.clip(action[:, 0].astype(np.float64), -MAX_TORQUE, MAX_TORQUE)


def own_reward(transition: Transition) -> Array:
    """−(angle² + 0.1 spin² + 0.001 torque²) in the state before the step."""
    spin = transition.obs[:, 2]
    return -(angles(transition.obs) ** 2) - 0.1 * spin**2 + 0.001 * effort(transition)


pendulum = Environment(
    id="Pendulum-v1",
    observations=("cos_angle", "sin_angle", "spin"),
    outcome=outcome,
    outcomes={"upright": True, "swinging": False, "hanging": False},
    action_size=1,
    time_limit=200,
    # No episode ends before the time limit.
    episode_bounds=lambda steps: {
        "return": (-MAX_COST * steps, 0.0),
        "length": (float(steps), float(steps)),
    },
    notes={
        "add": "Pendulum already charges for angle², spin² and torque²; added terms may count the "
        "same things twice",
    },
    requires=("pygame", 'pip install "gymnasium[classic-control]"'),
    own_reward=own_reward,
)


@pendulum.state_term
def height(obs: Array) -> Array:
    """cos(angle), from 1 (upright) to −1 (hanging)."""
    return obs[:, 0].copy()


@pendulum.state_term
def angle(obs: Array) -> Array:
    """−angle², in radians from the upright position."""
    return -(angles(obs) ** 2)


@pendulum.state_term
def still(obs: Array) -> Array:
    """−|spin|, the angular speed."""
    return -np.abs(obs[:, 2])


@pendulum.state_term
def energy(obs: Array) -> Array:
    """−|spin² / 30 + cos(angle) − 1|, the distance to the energy of the upright position."""
    return -np.abs(obs[:, 2] ** 2 / (2.0 * GRAVITY) + obs[:, 0] - 1.0)


@pendulum.action_term
def effort(transition: Transition) -> Array:
    """−torque², with torque from −2 to 2."""
    return -(torques(transition.action) ** 2)


@pendulum.action_term
def smooth(transition: Transition) -> Array:
    """−|torque − last torque|, the change since the last step."""
    return -np.abs(torques(transition.action) - torques(transition.last_action))


def make_action(torque: float) -> npt.NDArray[np.float32]:
    """Return the action (1,) for a torque, clipped to the limit of the motor."""
    return np.array([min(MAX_TORQUE, max(-MAX_TORQUE, torque))], dtype=np.float32)


@pendulum.controller
def swing_up(obs: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Swings until its energy suffices for the upright position, then balances there."""
    cos_angle, sin_angle, spin = map(float, obs)
    if cos_angle > 0.9:
        return make_action(-10.0 * math.atan2(sin_angle, cos_angle) - 3.0 * spin)
    missing = GRAVITY * (1.0 - cos_angle) - spin**2 / 2.0
    return make_action(2.0 * missing * math.copysign(max(0.1, abs(spin)), spin))


@pendulum.controller
def spin(obs: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Drives the pendulum in the direction of its rotation, so that it keeps rotating."""
    return make_action(math.copysign(MAX_TORQUE, float(obs[2])))


@pendulum.controller
def hang(obs: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Brakes until the pendulum hangs still."""
    return make_action(-2.0 * float(obs[2]))
