"""MountainCar-v0 and MountainCarContinuous-v0: drive a weak car out of a valley to a flag.

They differ in their actions, rewards and time limits.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import wraps
from typing import Any

import numpy as np
import numpy.typing as npt

from shaperun.envs.base import Array, Environment, Metric, Transition

MAX_SPEED = 0.07
REQUIRES = ("pygame", 'pip install "gymnasium[classic-control]"')


def outcome(end: Transition) -> npt.NDArray[np.str_]:
    """Return `climbed` if the car reaches the flag, `timeout` if time runs out first."""
    return np.where(end.terminated, "climbed", "timeout")


def push(action: npt.NDArray[Any]) -> Array:
    """Return the push (N,) of discrete or continuous actions: −1 is full power to the left."""
    return action - 1.0 if action.ndim == 1 else action[:, 0].astype(np.float64)


def discrete_reward(transition: Transition) -> Array:
    """−1 per step, including the one that reaches the flag."""
    return np.full(len(transition), -1.0)


def continuous_reward(transition: Transition) -> Array:
    """100 on the step that reaches the flag, minus 0.1 push² per step."""
    return 100.0 * transition.terminated + 0.1 * effort(transition)


mountain_car = Environment(
    id="MountainCar-v0",
    observations=("x", "vx"),
    outcome=outcome,
    outcomes={"climbed": True, "timeout": False},
    time_limit=200,
    episode_bounds=lambda steps: {"return": (-float(steps), -1.0)},
    solved=-110.0,
    notes={
        "replace": "replacing MountainCar's reward also drops its −1 per step; terms that pay on "
        "the way pay most to a car that never reaches the flag",
        "add": "only MountainCar's −1 per step makes the flag worth reaching; terms that pay more "
        "than 1 per step reward staying away from it",
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
    time_limit=999,
    episode_bounds=lambda steps: {"return": (-0.1 * steps, 100.0), "fuel": (0.0, 0.1 * steps)},
    solved=90.0,
    # The environment's cost of pushing, so that fuel is in points of its return.
    metrics={"fuel": Metric({"effort": -0.1})},
    notes={
        "log": "MountainCarContinuous charges for every push and pays only at the flag; an agent "
        "that never reaches it learns to stay still",
        "replace": "replacing MountainCarContinuous's reward also drops its +100 at the flag, "
        "where the episode ends; terms that pay on the way pay most to a car that never reaches it",
    },
    requires=REQUIRES,
    own_reward=continuous_reward,
    terms=mountain_car.terms,  # both have the same terms; one registration is enough
)


@mountain_car.state_term
def height(obs: Array) -> Array:
    """sin(3x), the height of the track, from −1 (bottom of the valley) to 1 (top of the hill)."""
    return np.sin(3.0 * obs[:, 0])


@mountain_car.state_term
def speed(obs: Array) -> Array:
    """|vx| / 0.07, from 0 to 1."""
    return np.abs(obs[:, 1]) / MAX_SPEED


@mountain_car.state_term
def energy(obs: Array) -> Array:
    """sin(3x) + 600 vx², the height that the car could coast up to."""
    return height(obs) + 600.0 * obs[:, 1] ** 2


@mountain_car.action_term
def along(transition: Transition) -> Array:
    """sign(vx) · push: 1 if the push drives the car's motion, −1 if it opposes it."""
    return np.clip(push(transition.action), -1.0, 1.0) * np.sign(transition.obs[:, 1])


@mountain_car.action_term
def effort(transition: Transition) -> Array:
    """−push², with push from −1 (left) to 1 (right)."""
    return -(push(transition.action) ** 2)


Obs = npt.NDArray[np.float32]
Driver = Callable[[Obs], float]
"""Map an observation to a push."""


def add_to_both(driver: Driver) -> Driver:
    """Register a controller with both cars; the discrete one always pushes with full power."""

    @wraps(driver)
    def by_choice(obs: Obs) -> int:
        return int(np.sign(driver(obs))) + 1

    @wraps(driver)
    def by_push(obs: Obs) -> Obs:
        return np.array([driver(obs)], dtype=np.float32)

    mountain_car.controller(by_choice)
    mountain_car_continuous.controller(by_push)
    return driver


@add_to_both
def climb(obs: Obs) -> float:
    """Pushes in the direction of motion, so that the car swings ever higher."""
    return math.copysign(0.5, float(obs[1]))  # half the power costs a quarter of the fuel


@add_to_both
def rest(obs: Obs) -> float:
    """Lets the car roll in the valley without pushing."""
    return 0.0


@add_to_both
def strain(obs: Obs) -> float:
    """Pushes to the right all the time, for which the car is too weak."""
    return 1.0
