"""BipedalWalker-v3: walk across uneven ground on two legs without falling."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from shaperun.envs.base import Array, Environment, Metric, Transition

# An observed speed of 1 is 25/3 m/s, a second has 50 steps, and the environment pays 130 points
# per 30 m.
POINTS_PER_VX = 25.0 / 3.0 / 50.0 * 130.0 / 30.0
POINTS_PER_ANGLE = 5.0
TORQUE_COST = 0.028  # per step of one joint at full torque
FALL_REWARD = -100.0
LIDAR = tuple(f"lidar{i}" for i in range(10))  # from straight down to ahead; 1: out of range


def outcome(end: Transition) -> npt.NDArray[np.str_]:
    """Return `arrived` at the far end, `fell` after a fall, or `timeout`.

    Walking off the near end counts as a fall, as it does for the environment.
    """
    fell = end.env_reward == FALL_REWARD
    return np.select([~end.terminated, fell], ["timeout", "fell"], "arrived")


def own_reward(transition: Transition) -> Array:
    """Progress forward and in levelling the hull, minus the cost of torque.

    Observations contain the speed of the hull but not its position. Progress is approximated as
    speed times the duration of a step, which is off by a few hundredths of a point when a foot
    hits the ground. Not included: the last step of a fall gives −100 instead.
    """
    return (
        POINTS_PER_VX * forward(transition.next_obs)
        + POINTS_PER_ANGLE * (level(transition.next_obs) - level(transition.obs))
        + TORQUE_COST * torque(transition)
    )


def rebuild_world(walker: Any) -> None:
    """Replace the walker's physics world, so that episodes do not depend on earlier ones.

    The environment's reset clears the world but keeps some of its state, so the same seed may
    give another episode.
    """
    from Box2D import b2World

    walker._destroy()  # the bodies belong to the old world, and reset would destroy them again
    walker.world = b2World()


bipedal_walker = Environment(
    id="BipedalWalker-v3",
    observations=(
        *("angle", "spin", "vx", "vy"),
        *("hip1", "hip1_spin", "knee1", "knee1_spin", "foot1"),
        *("hip2", "hip2_spin", "knee2", "knee2_spin", "foot2"),
        *LIDAR,
    ),
    outcome=outcome,
    outcomes={"arrived": True, "fell": False, "timeout": None},
    action_size=4,
    time_limit=1600,
    episode_bounds=lambda steps: {"energy": (0.0, 4 * TORQUE_COST * steps)},
    solved=300.0,
    # The environment's cost of torque, so that energy is in points of its return.
    metrics={"energy": Metric({"torque": -TORQUE_COST})},
    notes={
        "replace": "replacing BipedalWalker's reward also drops its reward for progress and its "
        "−100 for a fall; only the terms are left to optimize",
        "add": "BipedalWalker already rewards forward speed and a level hull and charges for "
        "torque; added terms may count the same things twice",
    },
    requires=("Box2D", 'pip install "gymnasium[box2d]"'),
    before_reset=rebuild_world,
    own_reward=own_reward,
)


@bipedal_walker.state_term
def forward(obs: Array) -> Array:
    """vx, the forward speed."""
    return obs[:, 2].copy()


@bipedal_walker.state_term
def level(obs: Array) -> Array:
    """−|angle|, the tilt of the hull in radians."""
    return -np.abs(obs[:, 0])


@bipedal_walker.state_term
def calm(obs: Array) -> Array:
    """−√(vy² + spin²), the vertical and angular speed of the hull."""
    return -np.hypot(obs[:, 3], obs[:, 1])


@bipedal_walker.state_term
def feet(obs: Array) -> Array:
    """The number of feet on the ground: 0, 1 or 2."""
    return obs[:, 8] + obs[:, 13]


@bipedal_walker.action_term
def torque(transition: Transition) -> Array:
    """−Σ |torque| over the four joints, each from 0 to 1."""
    return -sum_abs(torques(transition.action))


@bipedal_walker.action_term
def smooth(transition: Transition) -> Array:
    """−Σ |torque − last torque| over the four joints, the change since the last step."""
    return -sum_abs(torques(transition.action) - torques(transition.last_action))


def torques(action: npt.NDArray[np.float32]) -> Array:
    """Return the torques (N, 4) that actions apply."""
    return np.clip(action.astype(np.float64), -1.0, 1.0)


def sum_abs(torque: Array) -> Array:
    """Return Σ |torque| over the joints (N,)."""
    sums: Array = np.abs(torque).sum(axis=1)
    return sums


Obs = npt.NDArray[np.float32]

STIFFNESS, DAMPING = 0.8, 0.35  # of a joint that a controller moves to an angle
LIFT_STEPS = 15  # minimum steps before a lifted foot may land


class Leg(NamedTuple):
    """The entries of an observation that describe one leg."""

    hip: float
    hip_spin: float
    knee: float
    knee_spin: float
    foot: float

    def hip_to(self, angle: float) -> float:
        """Return the torque that moves the hip to an angle; forward is positive."""
        return STIFFNESS * (angle - self.hip) - DAMPING * self.hip_spin

    def knee_to(self, angle: float) -> float:
        """Return the torque that moves the knee to an angle, from −0.6 (bent) to 0.9 (straight)."""
        return STIFFNESS * (angle - self.knee) - DAMPING * self.knee_spin


def legs(obs: Obs) -> tuple[Leg, Leg]:
    """Return both legs of an observation (24,)."""
    return Leg(*map(float, obs[4:9])), Leg(*map(float, obs[9:14]))


def make_action(*torque: float) -> Obs:
    """Return the action (4,) for torques of hip 1, knee 1, hip 2 and knee 2."""
    return np.clip(np.array(torque, dtype=np.float32), -1.0, 1.0)


@bipedal_walker.controller
class Walk:
    """Swings one leg forward while the other carries, and switches when the foot lands."""

    def __init__(self) -> None:
        self.carrying = 0
        self.steps = 0  # since the last switch

    def __call__(self, obs: Obs) -> Obs:
        """Return the action for the next observation."""
        angle, spin, vx = map(float, obs[:3])
        both = legs(obs)
        self.steps += 1
        if self.steps > LIFT_STEPS and both[1 - self.carrying].foot:
            self.carrying, self.steps = 1 - self.carrying, 1
        # The free leg is first lifted past the other with a bent knee, then reaches for the ground.
        lifting = self.steps <= LIFT_STEPS
        hip, knee, carrying_knee = (0.34, -0.66, 0.77) if lifting else (-0.15, 0.32, 0.31)
        free, carrying = both[1 - self.carrying], both[self.carrying]
        # The foot must land further ahead at higher speed, or the walker falls forward.
        swing = (free.hip_to(hip + vx - angle), free.knee_to(knee))
        # The carrying hip lets the hull lean far back and damps its rocking.
        carry = (0.1 * (angle - 0.6) + 2.1 * spin, carrying.knee_to(carrying_knee))
        return make_action(*swing, *carry) if self.carrying else make_action(*carry, *swing)


@bipedal_walker.controller
def stand(obs: Obs) -> Obs:
    """Stands with one foot ahead of the other and keeps its hull level."""
    angle, spin = map(float, obs[:2])
    lean = angle + spin
    front, back = legs(obs)
    return make_action(
        *(lean + front.hip_to(0.4), front.knee_to(0.5)),
        *(lean + back.hip_to(-0.4), back.knee_to(0.5)),
    )


@bipedal_walker.controller
def fall(obs: Obs) -> Obs:
    """Bends both knees until the hull hits the ground."""
    return make_action(0.0, -1.0, 0.0, -1.0)
