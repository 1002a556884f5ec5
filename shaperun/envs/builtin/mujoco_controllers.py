"""Controllers of the MuJoCo environments.

Where robots run, swim or stand, the numbers were found by CMA-ES (Hansen 2016), with the
environment's return, the distance covered or the steps survived as the objective.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from shaperun.envs.base import Controller, Environment
from shaperun.envs.builtin.mujoco import (
    ant,
    half_cheetah,
    hopper,
    humanoid,
    inverted_double_pendulum,
    inverted_pendulum,
    pusher,
    reacher,
    swimmer,
    walker2d,
)

Obs = npt.NDArray[np.float32]
Policy = Callable[[Obs], Obs]
Numbers = Sequence[float]


def make_action(torques: npt.ArrayLike, limit: float = 1.0) -> Obs:
    """Return an action for torques, clipped to the limit of the motors."""
    return np.clip(np.asarray(torques, dtype=np.float32), -limit, np.float32(limit))


def add(environment: Environment, name: str, description: str, make: Callable[[], Policy]) -> None:
    """Register a controller that is made from numbers."""
    environment.controllers[name] = Controller(name, description, make)


def constant(torques: Numbers, limit: float = 1.0) -> Callable[[], Policy]:
    """Return a factory of policies that always apply the same torques."""
    return lambda: lambda obs: make_action(torques, limit)


@dataclass
class Gait:
    """Torques, or angles of joints to be tracked, that oscillate at one frequency."""

    cycles: float
    """Cycles per step."""
    middles: Numbers
    amplitudes: Numbers
    phases: Numbers
    follow: Callable[[npt.NDArray[np.float64], Obs], npt.ArrayLike] | None = None
    """Function from angles and an observation to torques."""
    steps: int = 0

    def __call__(self, obs: Obs) -> Obs:
        """Return the action for the next observation."""
        phases = 2.0 * math.pi * self.cycles * self.steps + np.array(self.phases)
        self.steps += 1
        wave = np.array(self.middles) + np.array(self.amplitudes) * np.sin(phases)
        return make_action(self.follow(wave, obs) if self.follow else wave)


# --- robots that run or swim ---

add(
    half_cheetah,
    "run",
    "Runs forward with a fixed gait.",
    partial(
        Gait,
        cycles=2.94 * 0.05,
        amplitudes=(2.19, 0.61, 0.3, -1.12, 0.3, -0.99),
        phases=(-0.21, 1.23, -0.76, -0.64, 2.06, 0.0),
        middles=(0.19, -1.7, -1.63, -0.95, -2.82, -0.34),
    ),
)
add(
    half_cheetah,
    "retreat",
    "Runs backward with a fixed gait, and sometimes turns over.",
    partial(
        Gait,
        cycles=4.18 * 0.05,
        amplitudes=(-0.79, 1.98, -1.08, -3.73, 3.18, 1.92),
        phases=(-1.06, 0.67, 0.68, 0.34, -0.45, -1.26),
        middles=(-0.47, 0.38, -1.26, -0.58, -1.78, -0.41),
    ),
)
add(
    half_cheetah,
    "flip",
    "Turns over and wriggles on its back.",
    partial(
        Gait,
        cycles=2.61 * 0.05,
        amplitudes=(4.1, -1.09, 0.58, 1.58, -0.23, 1.21),
        phases=(-0.76, 0.3, -0.55, 1.95, 0.38, -0.03),
        middles=(-1.07, 0.28, 0.27, 0.47, -0.34, 0.72),
    ),
)


def track_ant(angles: npt.NDArray[np.float64], obs: Obs) -> npt.ArrayLike:
    """Return torques (8,) that move the ant's joints to angles, in the order of its motors."""
    # The motors begin with the fourth leg, observations with the first.
    joints, speeds = np.roll(obs[5:13], 2), np.roll(obs[19:27], 2)
    torques: npt.NDArray[np.float64] = 0.44 * (angles - joints) - 0.05 * speeds
    return torques


ANT_AT_REST = (0.0, 1.0, 0.0, 1.0, 0.0, -1.0, 0.0, -1.0)

add(
    ant,
    "run",
    "Gallops forward with a fixed gait.",
    partial(
        Gait,
        cycles=1.46 * 0.05,
        middles=(0.22, 0.78, -0.23, 0.66, -0.5, -0.16, 0.2, -0.66),
        amplitudes=(-0.06, -0.11, 1.04, 0.13, 0.78, 0.46, -1.02, -0.36),
        phases=(-0.49, -0.41, -0.24, -0.56, -0.26, 0.28, 0.08, 0.42),
        follow=track_ant,
    ),
)
add(
    ant,
    "stand",
    "Keeps its legs where they are at rest.",
    partial(
        Gait,
        cycles=0.0,
        middles=ANT_AT_REST,
        amplitudes=(0.0,) * 8,
        phases=(0.0,) * 8,
        follow=track_ant,
    ),
)
add(
    ant,
    "leap",
    "Stretches all legs at once and leaps higher than is healthy.",
    partial(
        Gait,
        cycles=0.1,
        middles=(0.0,) * 8,
        amplitudes=(0.0, 9.0, 0.0, 9.0, 0.0, -9.0, 0.0, -9.0),
        phases=(0.5,) * 8,
    ),
)

swim = partial(
    Gait,
    cycles=0.98 * 0.04,
    amplitudes=(2.84, 2.72),
    phases=(-0.37, 0.72),
    middles=(-1.15, -0.39),
)
add(swimmer, "swim", "Swims forward in waves from head to tail.", swim)
add(
    swimmer,
    "thrash",
    "Moves both rotors together, which wastes most of the effort.",
    partial(swim, phases=(0.0, 0.0)),
)
add(swimmer, "curl", "Curls up and stays there.", constant((1.0, 1.0)))


# --- robots that stand ---


def stand_planar(
    joints: int, targets: Numbers, stiffness: float, damping: float, feedback: Sequence[Numbers]
) -> Callable[[], Policy]:
    """Return a factory of policies that hold the joints of a planar robot at angles.

    `feedback` has each joint's torque per angle, spin and forward velocity of the torso.
    """
    angles, gains = np.array(targets), np.array(feedback)

    def policy(obs: Obs) -> Obs:
        torso = np.array([obs[1], obs[joints + 4], obs[joints + 2]])
        errors, speeds = angles - obs[2 : joints + 2], obs[joints + 5 :]
        return make_action(stiffness * errors - damping * speeds + gains @ torso)

    return lambda: policy


add(
    hopper,
    "stand",
    "Balances on its foot.",
    stand_planar(
        3,
        (0.46, 0.44, 0.05),
        2.11,
        -0.07,
        ((-0.59, -0.1, 0.05), (0.37, 0.36, -0.12), (-0.09, -0.31, -0.43)),
    ),
)
add(hopper, "topple", "Presses its toes down and topples forward.", constant((0.0, 0.0, 1.0)))
add(hopper, "fold", "Bends its knee and falls over.", constant((0.0, -1.0, 0.0)))

add(
    walker2d,
    "stand",
    "Stands with one foot ahead of the other.",
    stand_planar(
        6,
        (0.05, -0.37, -0.81, -1.11, -0.29, -0.24),
        2.3,
        0.05,
        (
            *((0.43, -0.04, 0.0), (0.19, -0.2, 0.26), (0.09, 0.47, 0.03)),
            *((-0.36, 0.09, -0.47), (-0.4, 0.16, -0.25), (0.12, -0.11, 0.11)),
        ),
    ),
)
add(walker2d, "tiptoe", "Presses its toes down and falls over.", constant((0.0, 0.0, 1.0) * 2))
add(walker2d, "fold", "Bends both knees and falls over.", constant((0.0, -1.0, 0.0) * 2))

HUMANOID_LIMIT = 0.4


@humanoid.controller
def stiffen(obs: Obs) -> Obs:
    """Stiffens all joints, and falls over like a statue."""
    angles, speeds = obs[5:22].copy(), obs[28:45].copy()
    for values in (angles, speeds):  # motors have y of the abdomen before z
        values[:2] = values[1::-1].copy()
    return make_action(-angles - 0.1 * speeds, HUMANOID_LIMIT)


def bend(motors: tuple[int, int]) -> Callable[[], Policy]:
    """Return a factory of policies that bend two joints of the humanoid as hard as they can."""
    torques = [-HUMANOID_LIMIT if motor in motors else 0.0 for motor in range(17)]
    return constant(torques, HUMANOID_LIMIT)


add(humanoid, "squat", "Bends both knees and falls.", bend((6, 10)))
add(humanoid, "bow", "Bends both hips and falls.", bend((5, 9)))


# --- pendulums and arms ---


def push_cart(force: float) -> Obs:
    """Return the action (1,) for a force on the single pendulum's cart."""
    return make_action([force], 3.0)


@inverted_pendulum.controller
def balance(obs: Obs) -> Obs:
    """Pushes the cart under the falling pole, and back to the middle."""
    x, angle, vx, spin = map(float, obs)
    return push_cart(1.72 * x + 12.15 * angle + 2.01 * vx + 1.9 * spin)


@inverted_pendulum.controller
def shake(obs: Obs) -> Obs:
    """Keeps the pole up with full force to either side."""
    return push_cart(math.copysign(3.0, float(balance(obs)[0])))


@inverted_pendulum.controller
def fall(obs: Obs) -> Obs:
    """Pushes the cart away from under the pole."""
    return push_cart(math.copysign(3.0, -float(obs[1])))


def balance_both(obs: Obs) -> float:
    """Return the force on the cart that keeps both poles up and the cart in the middle."""
    x, sin1, sin2, cos1, cos2, vx, spin1, spin2, _ = map(float, obs)
    angle1, angle2 = math.atan2(sin1, cos1), math.atan2(sin2, cos2)
    return -(0.23 * x + 1.96 * angle1 + 5.83 * angle2 + 0.34 * vx + 0.96 * spin1 + 0.89 * spin2)


add(
    inverted_double_pendulum,
    "balance",
    "Pushes the cart so that both poles stay up.",
    lambda: lambda obs: make_action([balance_both(obs)]),
)
add(
    inverted_double_pendulum,
    "fall",
    "Pushes the cart the wrong way.",
    lambda: lambda obs: make_action([-math.copysign(1.0, balance_both(obs))]),
)
add(inverted_double_pendulum, "push", "Pushes the cart to the right.", constant((1.0,)))

UPPER, LOWER = 0.1, 0.11  # lengths of the reacher's links, m
REACH_RATE = 8.0  # of a critically damped movement, 1/s
ACCELERATION = 200.0  # of a joint at full torque, rad/s²


def reach_to(x: float, y: float, obs: Obs) -> Obs:
    """Return the action (2,) that moves the reacher's fingertip to a point."""
    shoulder, elbow = (math.atan2(float(obs[i + 2]), float(obs[i])) for i in (0, 1))
    cos_bend = (x * x + y * y - UPPER**2 - LOWER**2) / (2.0 * UPPER * LOWER)
    bend = math.copysign(math.acos(min(1.0, max(-1.0, cos_bend))), elbow)
    lean = math.atan2(LOWER * math.sin(bend), UPPER + LOWER * math.cos(bend))
    turn = math.remainder(math.atan2(y, x) - lean - shoulder, 2.0 * math.pi)
    errors, speeds = np.array([turn, bend - elbow]), obs[6:8].astype(np.float64)
    return make_action((REACH_RATE**2 * errors - 2.0 * REACH_RATE * speeds) / ACCELERATION)


@reacher.controller
def reach(obs: Obs) -> Obs:
    """Moves its fingertip to the target and keeps it there."""
    return reach_to(float(obs[4]), float(obs[5]), obs)


@reacher.controller
def avoid(obs: Obs) -> Obs:
    """Points away from the target."""
    return reach_to(-float(obs[4]), -float(obs[5]), obs)


add(reacher, "spin", "Spins its arm with full torque.", constant((1.0, 0.0)))


def pose(angles: Numbers) -> Callable[[], Policy]:
    """Return a factory of policies that move the pusher's joints to angles."""
    return lambda: lambda obs: make_action(4.0 * (np.array(angles) - obs[:7]) - obs[7:14], 2.0)


add(pusher, "stretch", "Stretches its arm above the table.", pose((0.0,) * 7))
add(
    pusher,
    "lower",
    "Lowers its arm towards the object.",
    pose((0.6, 0.6, 0.0, -0.6, 0.0, 0.0, 0.0)),
)
add(pusher, "swing", "Swings its arm with full torque.", constant((2.0,) + (0.0,) * 6, 2.0))
