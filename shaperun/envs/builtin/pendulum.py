"""Pendulum-v1: swing a rod up with a motor that is too weak to lift it, and keep it up."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from shaperun.envs.base import Array, Environment, Transition

MAX_TORQUE = 2.0
GRAVITY = 15.0  # the angle's acceleration is 15 sin(angle) + 3 torque

# An episode never ends but by its time limit, so that only its last state can tell success: a
# pendulum that was brought up and kept there is at the top and hardly moves. One that is thrown
# past the top is fast there, unless the throw has just the right strength.
NEAR = math.cos(math.radians(20.0))
SLOW = 1.0


def outcome(end: Transition) -> npt.NDArray[np.str_]:
    """The pendulum stands upright at the end, hangs down, or does neither."""
    cos_angle, _, spin = end.next_obs.T
    slow = np.abs(spin) < SLOW
    return np.select(
        [slow & (cos_angle > NEAR), slow & (cos_angle < -NEAR)], ["upright", "hanging"], "swinging"
    )


def angles(obs: Array) -> Array:
    """The angle in radians: 0 is upright, ±π is down."""
    return np.arctan2(obs[:, 1], obs[:, 0])


def torques(action: npt.NDArray[np.float32]) -> Array:
    """The torque (N,) that an action comes to."""
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
    notes={
        "add": "Pendulum already charges for angle², spin² and torque²; terms that are added "
        "count the same things twice",
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
    """−angle², in radians from upright."""
    return -(angles(obs) ** 2)


@pendulum.state_term
def still(obs: Array) -> Array:
    """−|spin|, the speed."""
    return -np.abs(obs[:, 2])


@pendulum.state_term
def energy(obs: Array) -> Array:
    """−|spin² / 30 + cos(angle) − 1|, how far the energy is from that of standing upright."""
    return -np.abs(obs[:, 2] ** 2 / (2.0 * GRAVITY) + obs[:, 0] - 1.0)


@pendulum.action_term
def effort(transition: Transition) -> Array:
    """−torque², with torque from −2 to 2."""
    return -(torques(transition.action) ** 2)


@pendulum.action_term
def smooth(transition: Transition) -> Array:
    """−|torque − last torque|, how much the motor changes its mind."""
    return -np.abs(torques(transition.action) - torques(transition.last_action))


def motor(torque: float) -> npt.NDArray[np.float32]:
    """The action for a torque, or for as much of it as the motor has."""
    return np.array([min(MAX_TORQUE, max(-MAX_TORQUE, torque))], dtype=np.float32)


@pendulum.controller
def swing_up(obs: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Swings until there is the energy to stand upright, and balances once it is up."""
    cos_angle, sin_angle, spin = map(float, obs)
    if cos_angle > 0.9:
        return motor(-10.0 * math.atan2(sin_angle, cos_angle) - 3.0 * spin)
    missing = GRAVITY * (1.0 - cos_angle) - spin**2 / 2.0
    return motor(2.0 * missing * math.copysign(max(0.1, abs(spin)), spin))


@pendulum.controller
def spin(obs: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Pushes the way the pendulum is turning, so that it goes round and round."""
    return motor(math.copysign(MAX_TORQUE, float(obs[2])))


@pendulum.controller
def hang(obs: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Brakes until the pendulum hangs still."""
    return motor(-2.0 * float(obs[2]))
