"""LunarLander-v3 and LunarLanderContinuous-v3: come down on the pad, on two legs, on little fuel.

The two differ in their actions only: engines that are on or off, or engines with a throttle.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import wraps
from typing import Any

import numpy as np
import numpy.typing as npt

from shaperun.envs.base import Array, Environment, Transition

# Actions of the discrete lander.
NOTHING, LEFT_ENGINE, MAIN_ENGINE, RIGHT_ENGINE = range(4)

# A side engine of the continuous lander fires from this throttle on.
SIDE_ENGINE_FROM = 0.5

# What the environment charges for a step of an engine at full power.
MAIN_ENGINE_COST, SIDE_ENGINE_COST = 0.30, 0.03


def outcome(end: Transition) -> npt.NDArray[np.str_]:
    """The lander comes to rest (+100), hits the ground with its body, or leaves the screen."""
    at_rest = end.env_reward == 100.0
    outside = np.abs(end.next_obs[:, 0]) >= 1.0
    return np.select(
        [~end.terminated, at_rest, outside], ["timeout", "landed", "out_of_bounds"], "crashed"
    )


def main_power(action: npt.NDArray[Any]) -> Array:
    """The power (N,) of the main engine, from 0 to 1."""
    if action.ndim == 1:
        fires: Array = (action == MAIN_ENGINE).astype(np.float64)
        return fires
    throttle = np.clip(action[:, 0].astype(np.float64), -1.0, 1.0)
    # Where the main engine runs at all, it runs at half of its power or more.
    return np.where(throttle > 0.0, 0.5 + throttle / 2.0, 0.0)


def side_power(action: npt.NDArray[Any]) -> Array:
    """The power (N,) of the side engines, from 0 to 1."""
    if action.ndim == 1:
        fires: Array = ((action == LEFT_ENGINE) | (action == RIGHT_ENGINE)).astype(np.float64)
        return fires
    throttle = np.abs(np.clip(action[:, 1].astype(np.float64), -1.0, 1.0))
    return np.where(throttle > SIDE_ENGINE_FROM, throttle, 0.0)


def own_reward(transition: Transition) -> Array:
    """Progress in distance, velocity and angle (100 each) and legs (10), less the fuel.

    Left out: with the last step of an episode the environment gives +100 or −100 in place of this.
    """
    main, side = main_power(transition.action), side_power(transition.action)
    progress = shaping_potential(transition.next_obs) - shaping_potential(transition.obs)
    return progress - MAIN_ENGINE_COST * main - SIDE_ENGINE_COST * side


def shaping_potential(obs: Array) -> Array:
    """What the environment's own reward is the progress in."""
    return 100.0 * (distance(obs) + velocity(obs) + angle(obs)) + 10.0 * legs(obs)


lunar_lander = Environment(
    id="LunarLander-v3",
    observations=("x", "y", "vx", "vy", "angle", "spin", "left_leg", "right_leg"),
    outcome=outcome,
    outcomes={"landed": True, "crashed": False, "out_of_bounds": False, "timeout": None},
    solved=200.0,
    # What the environment itself charges for its engines, so fuel is in points of its return.
    metrics={"fuel": {"main_engine": -MAIN_ENGINE_COST, "side_engine": -SIDE_ENGINE_COST}},
    notes={
        "replace": "replacing LunarLander's reward also drops its +100 for coming to rest "
        "and its −100 for a crash; nothing but the terms is left to aim for",
        "add": "LunarLander already rewards progress in distance, velocity, angle and legs and "
        "charges for its engines; terms that are added count the same things twice",
    },
    requires=("Box2D", 'pip install "gymnasium[box2d]"'),
    own_reward=own_reward,
)

lunar_lander_continuous = replace(
    lunar_lander, id="LunarLanderContinuous-v3", action_size=2, terms={}, controllers={}
)


@lunar_lander_continuous.state_term
@lunar_lander.state_term
def distance(obs: Array) -> Array:
    """−√(x² + y²), the distance to the pad."""
    return -np.hypot(obs[:, 0], obs[:, 1])


@lunar_lander_continuous.state_term
@lunar_lander.state_term
def velocity(obs: Array) -> Array:
    """−√(vx² + vy²), the speed."""
    return -np.hypot(obs[:, 2], obs[:, 3])


@lunar_lander_continuous.state_term
@lunar_lander.state_term
def angle(obs: Array) -> Array:
    """−|angle|, the tilt in radians."""
    return -np.abs(obs[:, 4])


@lunar_lander_continuous.state_term
@lunar_lander.state_term
def legs(obs: Array) -> Array:
    """The number of legs that touch the ground: 0, 1 or 2."""
    return obs[:, 6] + obs[:, 7]


@lunar_lander_continuous.action_term
@lunar_lander.action_term
def main_engine(transition: Transition) -> Array:
    """−power of the main engine: 0 when it is off, −1 when it fires with all its power."""
    return -main_power(transition.action)


@lunar_lander_continuous.action_term
@lunar_lander.action_term
def side_engine(transition: Transition) -> Array:
    """−power of the side engines: 0 when they are off, −1 when one fires with all its power."""
    return -side_power(transition.action)


Obs = npt.NDArray[np.float32]
Pilot = Callable[[Obs], tuple[float, float]]
"""From an observation to the throttles of the main engine and the side engines (left < 0)."""


def both(pilot: Pilot) -> Pilot:
    """Give both landers a controller."""

    @wraps(pilot)
    def with_switches(obs: Obs) -> int:
        main, side = pilot(obs)
        # Only one engine can be on: the one that is further past its threshold.
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
    """Throttles towards an angle and a vertical speed."""
    _, _, _, vy, angle, spin, _, _ = map(float, obs)
    return 10.0 * (climb - vy), 10.0 * spin - 5.0 * (lean - angle)


def lean_home(obs: Obs) -> float:
    """The angle at which the main engine pushes the lander back over the pad."""
    x, _, vx, *_ = map(float, obs)
    return min(0.4, max(-0.4, 0.5 * x + vx))


@both
def land(obs: Obs) -> tuple[float, float]:
    """Comes down slower and slower, leaning to where the pad is, and rests on it."""
    x, y, _, _, _, _, left_leg, right_leg = map(float, obs)
    if left_leg or right_leg:
        main, _ = steer(obs, 0.0, -0.1)
        return main, 0.0
    to_go = max(0.0, y - abs(x) / 2.0)  # first over the pad, then down
    return steer(obs, lean_home(obs), -0.1 - to_go / 2.0)


@both
def crash(obs: Obs) -> tuple[float, float]:
    """Falls without ever firing the main engine, kept upright by the side engines."""
    _, side = steer(obs, 0.0, 0.0)
    return -1.0, side


@both
def hover(obs: Obs) -> tuple[float, float]:
    """Stays in the air above the pad until time is up."""
    too_low = 0.8 - float(obs[1])
    return steer(obs, lean_home(obs), min(0.3, max(-0.3, too_low)))


@both
def burn(obs: Obs) -> tuple[float, float]:
    """Fires the main engine all the time, wherever that takes the lander."""
    return 1.0, 0.0


@both
def linger(obs: Obs) -> tuple[float, float]:
    """Lands, and then keeps twitching its side engines so that it never comes to rest."""
    x, _, vx, vy, _, _, left_leg, right_leg = map(float, obs)
    # A leg on the seam of two pieces of ground may not be seen to touch; not falling tells, too.
    if not (left_leg or right_leg or abs(vy) < 0.02):
        return land(obs)
    main, _ = steer(obs, 0.0, -0.1)
    stuck = abs(vx) < 0.002  # against a slope, for instance, as it pushes back to the middle
    return main, -1.0 if (x > 0.0) != stuck else 1.0
