"""Terms and outcomes of the MuJoCo environments."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import inf
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from shaperun.envs.base import Array, Environment, Term, Transition

Outcome = Callable[[Transition], npt.NDArray[np.str_]]

RANGES = {"healthy_z_range", "healthy_angle_range", "healthy_state_range"}
RUN, SWIM = 10.0, 3.0  # m forward that count as a success; the swimmer is 3 m long
TOUCH = 0.019  # m between the centers of the reacher's fingertip and its target when they touch
GOAL_RADIUS = 0.08  # m, of the pusher's goal
POLE_LIMIT = 0.2  # rad at which the single pendulum has fallen
POLE = 0.6  # m, the length of each pole of the double pendulum
TIP_LIMIT = 1.0  # m at which the double pendulum has fallen; its tip is at 1.2 m if upright
MAX_SQUARED_FORCES = 10.0 / 5e-7  # the humanoid's contact cost is at most 10


def state(name: str, formula: str, function: Callable[[Array], Array]) -> Term:
    """Return a term of observations (N, observation size)."""
    return Term(name, formula, function, state_only=True)


def x_velocity(transition: Transition) -> Array:
    """Return the forward velocity (N,) over a step, which observations lack."""
    return transition.read_info("x_velocity")


def squared_actions(transition: Transition) -> Array:
    """Return −Σ action² (N,)."""
    squares: Array = np.square(transition.action.astype(np.float64)).sum(axis=1)
    return -squares


def changes_of_actions(transition: Transition) -> Array:
    """Return −Σ |action − last action| (N,)."""
    now, before = (a.astype(np.float64) for a in (transition.action, transition.last_action))
    changes: Array = np.abs(now - before).sum(axis=1)
    return -changes


FORWARD = Term("forward", "Velocity forward in m/s over the step (x_velocity).", x_velocity, False)
CONTROL = Term("control", "−Σ action², summed over the motors.", squared_actions, False)
SMOOTH = Term(
    "smooth", "−Σ |action − last action|, summed over the motors.", changes_of_actions, False
)


@dataclass(frozen=True)
class Health:
    """Ranges of the height (first entry) and the angle (second entry) of a healthy robot."""

    low: float
    high: float = inf
    tilt: float = inf
    bad: str = "fell"
    """Outcome of a robot that is not healthy."""

    def term(self, options: Mapping[str, Any] = MappingProxyType({})) -> Term:
        """Return 1 where the robot is healthy, given the environment's options."""
        low, high = options.get("healthy_z_range", (self.low, self.high))
        left, right = options.get("healthy_angle_range", (-self.tilt, self.tilt))
        least, most = options.get("healthy_state_range", (-inf, inf))  # velocities are within ±10

        def function(obs: Array) -> Array:
            z, angle, rest = obs[:, 0], obs[:, 1], obs[:, 1:]
            inside: npt.NDArray[np.bool_] = (
                (low < z) & (z < high) & (left < angle) & (angle < right)
            )
            if least > -inf or most < inf:
                inside &= ((least < rest) & (rest < most)).all(axis=1)
            return inside.astype(np.float64)

        height = f"z > {low:g}" if high == inf else f"{low:g} < z < {high:g}"
        lean = f"|angle| < {right:g}" if left == -right else f"{left:g} < angle < {right:g}"
        formula = f"{height} and {lean}" if right < inf or left > -inf else height
        if least > -inf or most < inf:
            formula += f" and all others in ({least:g}, {most:g})"
        return state("healthy", f"1 if {formula}, else 0.", function)

    def outcome(self, options: Mapping[str, Any] = MappingProxyType({})) -> Outcome:
        """Return the outcome of an episode, given the environment's options."""
        return health_outcome("survived", self.bad, self.term(options))

    def adapt(self, known: Environment, options: Mapping[str, Any]) -> Environment:
        """Return a declaration with the ranges of options; as it is if they are invalid."""
        if not options.keys() & RANGES:
            return known
        try:
            terms = {**known.terms, "healthy": self.term(options)}
            return replace(known, terms=terms, outcome=self.outcome(options))
        except (TypeError, ValueError):  # reported when the environment is made
            return known


UPRIGHT = state(
    "upright", "cos(angle), from 1 (upright) to −1 (upside down).", lambda obs: np.cos(obs[:, 1])
)
UPRIGHT_IN_SPACE = state(
    "upright",
    "1 − 2 (qx² + qy²), from 1 (upright) to −1 (upside down).",
    lambda obs: 1.0 - 2.0 * np.square(obs[:, 2:4]).sum(axis=1),
)


def contact(size: int, limit: float, formula: str) -> Term:
    """Return −Σ force² of the contact forces and torques, the last entries of an observation."""
    return state(
        "contact",
        formula,
        lambda obs: -np.minimum(np.square(obs[:, -size:]).sum(axis=1), limit),
    )


def closeness(name: str, formula: str, vector: Callable[[Array], Array]) -> Term:
    """Return −length of a vector (N, D)."""
    return state(name, formula, lambda obs: -np.sqrt(np.square(vector(obs)).sum(axis=1)))


def find_tip(obs: Array) -> tuple[Array, Array]:
    """Return x and height (N,) of the double pendulum's tip.

    The environment reads the tip at the last evaluation of its integrator, up to 0.1 mm away.
    """
    x, sin1, sin2, cos1, cos2 = obs[:, :5].T
    sin_sum, cos_sum = sin1 * cos2 + cos1 * sin2, cos1 * cos2 - sin1 * sin2
    return x + POLE * (sin1 + sin_sum), POLE * (cos1 + cos_sum)


def tip_deviation(obs: Array) -> Array:
    """Return −(0.01 x² + (height − 2)²) of the tip (N,)."""
    x, height = find_tip(obs)
    return -(0.01 * x**2 + (height - 2.0) ** 2)


def health_outcome(good: str, bad: str, health: Term) -> Outcome:
    """Return the outcome of an environment that ends once the robot is not healthy."""

    def outcome(end: Transition) -> npt.NDArray[np.str_]:
        # With terminate_when_unhealthy: false, a fallen robot stays until the time limit.
        return np.where(end.terminated | (health(end) == 0.0), bad, good)

    return outcome


def cheetah_outcome(end: Transition) -> npt.NDArray[np.str_]:
    """Return `flipped` if it is upside down at the end, else `ran` (10 m or more) or `stayed`."""
    far = end.read_info("x_position") >= RUN
    return np.select([UPRIGHT(end) < 0.0, far], ["flipped", "ran"], "stayed")


def swimmer_outcome(end: Transition) -> npt.NDArray[np.str_]:
    """Return `swam` if it has moved by its length, 3 m, or `stayed`."""
    return np.where(end.read_info("x_position") >= SWIM, "swam", "stayed")


def closeness_outcome(good: str, bad: str, distance: Term, limit: float) -> Outcome:
    """Return the outcome of an environment: good if a distance ends below a limit."""
    return lambda end: np.where(distance(end) > -limit, good, bad)
