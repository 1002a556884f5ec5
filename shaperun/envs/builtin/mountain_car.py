"""MountainCar-v0 and MountainCarContinuous-v0: swing a weak car out of a valley, up to a flag.

The two differ in their actions, in their own rewards, and in how long an episode may take.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import wraps
from typing import Any

import numpy as np
import numpy.typing as npt

from shaperun.envs.base import Array, Environment, Transition

MAX_SPEED = 0.07
REQUIRES = ("pygame", 'pip install "gymnasium[classic-control]"')


def outcome(end: Transition) -> npt.NDArray[np.str_]:
    """The car gets up to the flag, or it is still on its way when time is up."""
    return np.where(end.terminated, "climbed", "timeout")


def push(action: npt.NDArray[Any]) -> Array:
    """The push (N,) of either kind of action: −1 is full power to the left, 1 to the right."""
    return action - 1.0 if action.ndim == 1 else action[:, 0].astype(np.float64)


def discrete_reward(transition: Transition) -> Array:
    """−1 for every step, the one that gets to the flag included."""
    return np.full(len(transition), -1.0)


def continuous_reward(transition: Transition) -> Array:
    """100 on the step that gets to the flag, less 0.1 push² on every step."""
    return 100.0 * transition.terminated + 0.1 * effort(transition)


mountain_car = Environment(
    id="MountainCar-v0",
    observations=("x", "vx"),
    outcome=outcome,
    outcomes={"climbed": True, "timeout": False},
    solved=-110.0,
    notes={
        "replace": "replacing MountainCar's reward also drops its −1 for every step; terms that "
        "pay on the way pay longest to a car that never gets to the flag",
        "add": "MountainCar's −1 for every step is all that makes the flag worth reaching; terms "
        "that come to more than 1 a step pay for staying away from it",
    },
    requires=REQUIRES,
    own_reward=discrete_reward,
)

mountain_car_continuous = Environment(
    id="MountainCarContinuous-v0",
    observations=("x", "vx"),
    outcome=outcome,
    outcomes={"climbed": True, "timeout": False},
    action_size=1,
    solved=90.0,
    # What the environment itself charges for pushing, so fuel is in points of its return.
    metrics={"fuel": {"effort": -0.1}},
    notes={
        "log": "MountainCarContinuous charges for every push and pays only at the flag; to an "
        "agent that has never been there, sitting still is the best that it knows",
        "replace": "replacing MountainCarContinuous's reward also drops its +100 at the flag, "
        "where the episode ends; terms that pay on the way pay longest to a car that never gets "
        "there",
    },
    requires=REQUIRES,
    own_reward=continuous_reward,
)


@mountain_car_continuous.state_term
@mountain_car.state_term
def height(obs: Array) -> Array:
    """sin(3x), the height of the track, from −1 (bottom of the valley) to 1 (top of the hill)."""
    return np.sin(3.0 * obs[:, 0])


@mountain_car_continuous.state_term
@mountain_car.state_term
def speed(obs: Array) -> Array:
    """|vx| / 0.07, from 0 to 1."""
    return np.abs(obs[:, 1]) / MAX_SPEED


@mountain_car_continuous.state_term
@mountain_car.state_term
def energy(obs: Array) -> Array:
    """sin(3x) + 600 vx², the height that the car could roll up to."""
    return height(obs) + 600.0 * obs[:, 1] ** 2


@mountain_car_continuous.action_term
@mountain_car.action_term
def along(transition: Transition) -> Array:
    """sign(vx) · push: 1 when the car is pushed the way it was moving, −1 when against it."""
    return np.clip(push(transition.action), -1.0, 1.0) * np.sign(transition.obs[:, 1])


@mountain_car_continuous.action_term
@mountain_car.action_term
def effort(transition: Transition) -> Array:
    """−push², with push from −1 (left) to 1 (right)."""
    return -(push(transition.action) ** 2)


Obs = npt.NDArray[np.float32]
Driver = Callable[[Obs], float]
"""From an observation to a push."""


def both(driver: Driver) -> Driver:
    """Give both cars a controller; the discrete one knows no half measures."""

    @wraps(driver)
    def by_choice(obs: Obs) -> int:
        return int(np.sign(driver(obs))) + 1

    @wraps(driver)
    def by_push(obs: Obs) -> Obs:
        return np.array([driver(obs)], dtype=np.float32)

    mountain_car.controller(by_choice)
    mountain_car_continuous.controller(by_push)
    return driver


@both
def climb(obs: Obs) -> float:
    """Pushes the way the car is moving, so that it swings higher and higher."""
    return math.copysign(0.5, float(obs[1]))  # half the power costs a quarter of the fuel


@both
def rest(obs: Obs) -> float:
    """Lets the car roll in the valley without a push."""
    return 0.0


@both
def strain(obs: Obs) -> float:
    """Pushes to the right without a pause, for which the car is too weak."""
    return 1.0
