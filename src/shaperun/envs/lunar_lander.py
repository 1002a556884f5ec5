"""LunarLander-v3: come down on the pad between the flags, on two legs, with little fuel."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from shaperun.terms import Array, Environment, Transition

# Actions of the discrete lander.
LEFT_ENGINE, MAIN_ENGINE, RIGHT_ENGINE = 1, 2, 3


def outcome(end: Transition) -> npt.NDArray[np.str_]:
    """The lander comes to rest (+100), hits the ground with its body, or leaves the screen."""
    at_rest = end.env_reward == 100.0
    outside = np.abs(end.next_obs[:, 0]) >= 1.0
    return np.select(
        [~end.terminated, at_rest, outside], ["timeout", "landed", "out_of_bounds"], "crashed"
    )


lunar_lander = Environment(
    id="LunarLander-v3",
    observations=("x", "y", "vx", "vy", "angle", "spin", "left_leg", "right_leg"),
    outcome=outcome,
    outcomes={"landed": True, "crashed": False, "out_of_bounds": False, "timeout": None},
    solved=200.0,
    # What the environment itself charges for its engines, so fuel is in points of its return.
    metrics={"fuel": {"main_engine": -0.30, "side_engine": -0.03}},
    notes={
        "replace": "replacing LunarLander's reward also drops its +100 for coming to rest "
        "and its −100 for a crash; nothing but the terms is left to aim for",
        "add": "LunarLander already rewards progress in distance, velocity, angle and legs and "
        "charges for its engines; terms that are added count the same things twice",
    },
    requires=("Box2D", 'pip install "gymnasium[box2d]"'),
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
    """The number of legs that touch the ground: 0, 1 or 2."""
    return obs[:, 6] + obs[:, 7]


@lunar_lander.action_term
def main_engine(transition: Transition) -> Array:
    """−1 when the main engine fires."""
    return np.where(transition.action == MAIN_ENGINE, -1.0, 0.0)


@lunar_lander.action_term
def side_engine(transition: Transition) -> Array:
    """−1 when a side engine fires."""
    action = transition.action
    return np.where((action == LEFT_ENGINE) | (action == RIGHT_ENGINE), -1.0, 0.0)
