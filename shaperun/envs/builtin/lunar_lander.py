"""LunarLander-v3 and LunarLanderContinuous-v3: land on the pad, on two legs, with little fuel.

They differ only in their actions: engines that are on or off, or engines with a throttle.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import wraps
from typing import Any

import numpy as np
import numpy.typing as npt

from shaperun.envs.base import Array, Environment, Metric, Transition

# Actions of the discrete lander.
NOTHING, LEFT_ENGINE, MAIN_ENGINE, RIGHT_ENGINE = range(4)

# Throttle above which a side engine of the continuous lander fires.
SIDE_ENGINE_FROM = 0.5

# The environment's cost per step of an engine at full power.
MAIN_ENGINE_COST, SIDE_ENGINE_COST = 0.30, 0.03


def outcome(end: Transition) -> npt.NDArray[np.str_]:
    """Return `landed` (at rest, +100), `crashed`, `out_of_bounds` or `timeout`."""
    at_rest = end.env_reward == 100.0
    outside = np.abs(end.next_obs[:, 0]) >= 1.0
    return np.select(
        [~end.terminated, at_rest, outside], ["timeout", "landed", "out_of_bounds"], "crashed"
    )


def main_power(action: npt.NDArray[Any]) -> Array:
    """Return the power (N,) of the main engine, from 0 to 1."""
    if action.ndim == 1:
        return np.where(action == MAIN_ENGINE, 1.0, 0.0)
    throttle = np.clip(action[:, 0].astype(np.float64), -1.0, 1.0)
    # The main engine is off or has at least half of its power.
    return np.where(throttle > 0.0, 0.5 + throttle / 2.0, 0.0)


def side_power(action: npt.NDArray[Any]) -> Array:
    """Return the power (N,) of the side engines, from 0 to 1."""
    if action.ndim == 1:
        return np.where((action == LEFT_ENGINE) | (action == RIGHT_ENGINE), 1.0, 0.0)
    throttle = np.abs(np.clip(action[:, 1].astype(np.float64), -1.0, 1.0))
    return np.where(throttle > SIDE_ENGINE_FROM, throttle, 0.0)


def own_reward(transition: Transition) -> Array:
    """Progress in distance, velocity and angle (100 each) and legs (10), minus fuel.

    Not included: the last step of an episode gives +100 or −100 instead.
    """
    main, side = main_power(transition.action), side_power(transition.action)
    progress = shaping_potential(transition.next_obs) - shaping_potential(transition.obs)
    return progress - MAIN_ENGINE_COST * main - SIDE_ENGINE_COST * side


def shaping_potential(obs: Array) -> Array:
    """Return the potential (N,) whose differences are the environment's reward for progress."""
    return 100.0 * (distance(obs) + velocity(obs) + angle(obs)) + 10.0 * legs(obs)


lunar_lander = Environment(
    id="LunarLander-v3",
    observations=("x", "y", "vx", "vy", "angle", "spin", "left_leg", "right_leg"),
    outcome=outcome,
    outcomes={"landed": True, "crashed": False, "out_of_bounds": False, "timeout": None},
    time_limit=1000,
    episode_bounds=lambda steps: {"fuel": (0.0, (MAIN_ENGINE_COST + SIDE_ENGINE_COST) * steps)},
    solved=200.0,
    # The environment's cost of its engines, so that fuel is in points of its return.
    metrics={"fuel": Metric({"main_engine": -MAIN_ENGINE_COST, "side_engine": -SIDE_ENGINE_COST})},
    notes={
        "replace": "replacing LunarLander's reward also drops its +100 for coming to rest and its "
        "−100 for a crash; only the terms are left to optimize",
        "add": "LunarLander already rewards progress in distance, velocity, angle and legs and "
        "charges for its engines; added terms may count the same things twice",
    },
    requires=("Box2D", 'pip install "gymnasium[box2d]"'),
    own_reward=own_reward,
)

# Both have the same terms; one registration is enough.
lunar_lander_continuous = replace(
    lunar_lander, id="LunarLanderContinuous-v3", action_size=2, controllers={}
)


@lunar_lander.state_term
def distance(obs: Array) -> Array:
    """−√(x² + y²), the distance to the pad."""
    return -np.hypot(obs[:, 0], obs[:, 1])


@lunar_lander.state_term
def velocity(obs: Array) -> Array:
    """−√(vx² + vy²), the speed."""
    return -np.hypot(obs[:, 2], obs[:, 3])


@lunar_lander.state_term
def angle(obs: Array) -> Array:
    """−|angle|, the tilt in radians."""
    return -np.abs(obs[:, 4])


@lunar_lander.state_term
def legs(obs: Array) -> Array:
    """The number of legs in contact with the ground: 0, 1 or 2."""
    return obs[:, 6] + obs[:, 7]


@lunar_lander.action_term
def main_engine(transition: Transition) -> Array:
    """−power of the main engine, from 0 (off) to −1 (full power)."""
    return -main_power(transition.action)


@lunar_lander.action_term
def side_engine(transition: Transition) -> Array:
    """−power of the side engines, from 0 (off) to −1 (one at full power)."""
    return -side_power(transition.action)


Obs = npt.NDArray[np.float32]
Pilot = Callable[[Obs], tuple[float, float]]
"""Map an observation to the throttles of the main engine and the side engines (left < 0)."""


def add_to_both(pilot: Pilot) -> Pilot:
    """Register a controller with both landers."""

    @wraps(pilot)
    def with_switches(obs: Obs) -> int:
        main, side = pilot(obs)
        # Only one engine can be on: the one furthest past its threshold.
        if main > max(0.0, abs(side) - SIDE_ENGINE_FROM):
            return MAIN_ENGINE
        if abs(side) > SIDE_ENGINE_FROM:
            return LEFT_ENGINE if side < 0.0 else RIGHT_ENGINE
        return NOTHING

    @wraps(pilot)
    def with_throttles(obs: Obs) -> Obs:
        return np.clip(np.array(pilot(obs), dtype=np.float32), -1.0, 1.0)

    lunar_lander.controller(with_switches)
    lunar_lander_continuous.controller(with_throttles)
    return pilot


def steer(obs: Obs, lean: float, climb: float) -> tuple[float, float]:
    """Return throttles that steer towards an angle and a vertical speed."""
    _, _, _, vy, angle, spin, _, _ = map(float, obs)
    return 10.0 * (climb - vy), 10.0 * spin - 5.0 * (lean - angle)


def angle_towards_pad(obs: Obs) -> float:
    """Return the angle at which the main engine pushes the lander back over the pad."""
    x, _, vx, *_ = map(float, obs)
    return min(0.4, max(-0.4, 0.5 * x + vx))


@add_to_both
def land(obs: Obs) -> tuple[float, float]:
    """Descends ever more slowly, leaning towards the pad, and comes to rest on it."""
    x, y, _, _, _, _, left_leg, right_leg = map(float, obs)
    if left_leg or right_leg:
        main, _ = steer(obs, 0.0, -0.1)
        return main, 0.0
    descent = max(0.0, y - abs(x) / 2.0)  # first over the pad, then down
    return steer(obs, angle_towards_pad(obs), -0.1 - descent / 2.0)


@add_to_both
def crash(obs: Obs) -> tuple[float, float]:
    """Falls without firing the main engine; the side engines keep it upright."""
    _, side = steer(obs, 0.0, 0.0)
    return -1.0, side


@add_to_both
def hover(obs: Obs) -> tuple[float, float]:
    """Stays in the air above the pad until the time limit."""
    too_low = 0.8 - float(obs[1])
    return steer(obs, angle_towards_pad(obs), min(0.3, max(-0.3, too_low)))


@add_to_both
def burn(obs: Obs) -> tuple[float, float]:
    """Fires the main engine all the time without steering."""
    return 1.0, 0.0


@add_to_both
def linger(obs: Obs) -> tuple[float, float]:
    """Lands, then keeps firing its side engines so that it never comes to rest."""
    x, _, vx, vy, _, _, left_leg, right_leg = map(float, obs)
    # Contact of a leg on the seam of two ground pieces may go undetected; being still shows it too.
    if not (left_leg or right_leg or abs(vy) < 0.02):
        return land(obs)
    main, _ = steer(obs, 0.0, -0.1)
    stuck = abs(vx) < 0.002  # for example against a slope while pushing back to the middle
    return main, -1.0 if (x > 0.0) != stuck else 1.0
