"""BipedalWalker-v3: walk to the far end of uneven ground on two legs, without falling."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from shaperun.envs.base import Array, Environment, Transition

# An observed speed of 1 is 25/3 metres a second, of which an episode has 50 steps; the
# environment pays 130 points for 30 metres.
POINTS_PER_VX = 25.0 / 3.0 / 50.0 * 130.0 / 30.0
POINTS_PER_ANGLE = 5.0
TORQUE_COST = 0.028  # a step of one joint at full torque
FALL_REWARD = -100.0

LIDAR = tuple(f"lidar{i}" for i in range(10))  # from straight down to ahead, 1 is out of sight


def outcome(end: Transition) -> npt.NDArray[np.str_]:
    """The walker gets to the far end, or falls, or is on its feet when time is up.

    Walking off the near end counts as a fall: the environment treats the two alike.
    """
    fell = end.env_reward == FALL_REWARD
    return np.select([~end.terminated, fell], ["timeout", "fell"], "arrived")


def own_reward(transition: Transition) -> Array:
    """Progress forward and in keeping the hull level, less the torque.

    An observation says how fast the hull moves and not where it is. Progress is that speed times
    the time of a step, which is off by a few hundredths of a point where a foot hits the ground.
    Left out: with the last step of a fall the environment gives −100 in place of this.
    """
    obs, next_obs = transition.obs, transition.next_obs
    tilting = level(next_obs) - level(obs)
    return (
        POINTS_PER_VX * forward(next_obs)
        + POINTS_PER_ANGLE * tilting
        + TORQUE_COST * torque(transition)
    )


def rebuild_world(walker: Any) -> None:
    """Give the walker a new physics world, as if it had never played.

    Its own reset clears the old one, which still remembers: the same seed then makes another
    episode, depending on what was played before.
    """
    from Box2D import b2World

    walker._destroy()  # its bodies belong to the old world; after this, reset finds none to clear
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
    solved=300.0,
    # What the environment itself charges for its motors, so energy is in points of its return.
    metrics={"energy": {"torque": -TORQUE_COST}},
    notes={
        "replace": "replacing BipedalWalker's reward also drops its pay for getting ahead and "
        "its −100 for a fall; nothing but the terms is left to aim for",
        "add": "BipedalWalker already rewards speed forward and a level hull and charges for "
        "torque; terms that are added count the same things twice",
    },
    requires=("Box2D", 'pip install "gymnasium[box2d]"'),
    before_reset=rebuild_world,
    own_reward=own_reward,
)


@bipedal_walker.state_term
def forward(obs: Array) -> Array:
    """vx, the speed forward."""
    return obs[:, 2].copy()


@bipedal_walker.state_term
def level(obs: Array) -> Array:
    """−|angle|, the tilt of the hull in radians."""
    return -np.abs(obs[:, 0])


@bipedal_walker.state_term
def calm(obs: Array) -> Array:
    """−√(vy² + spin²), how much the hull bobs and rocks."""
    return -np.hypot(obs[:, 3], obs[:, 1])


@bipedal_walker.state_term
def feet(obs: Array) -> Array:
    """The number of feet on the ground: 0, 1 or 2."""
    return obs[:, 8] + obs[:, 13]


@bipedal_walker.action_term
def torque(transition: Transition) -> Array:
    """−Σ |torque| over the four joints, each from 0 to 1."""
    return -total(torques(transition.action))


@bipedal_walker.action_term
def smooth(transition: Transition) -> Array:
    """−Σ |torque − last torque| over the four joints, how much the motors change their minds."""
    return -total(torques(transition.action) - torques(transition.last_action))


def torques(action: npt.NDArray[np.float32]) -> Array:
    """The torques (N, 4) that actions come to."""
    return np.clip(action.astype(np.float64), -1.0, 1.0)


def total(torque: Array) -> Array:
    """Σ |torque| over the joints (N,)."""
    sums: Array = np.abs(torque).sum(axis=1)
    return sums


Obs = npt.NDArray[np.float32]

STIFFNESS, DAMPING = 0.8, 0.35  # of a joint that a controller brings to an angle
LIFT_STEPS = 15  # for which a foot is lifted before it may land


class Leg(NamedTuple):
    """What an observation says about one leg."""

    hip: float
    hip_spin: float
    knee: float
    knee_spin: float
    foot: float

    def hip_to(self, angle: float) -> float:
        """The torque that brings the hip to an angle; forward is positive."""
        return STIFFNESS * (angle - self.hip) - DAMPING * self.hip_spin

    def knee_to(self, angle: float) -> float:
        """The torque that brings the knee to an angle, from −0.6 (bent) to 0.9 (straight)."""
        return STIFFNESS * (angle - self.knee) - DAMPING * self.knee_spin


def legs(obs: Obs) -> tuple[Leg, Leg]:
    """Both legs."""
    return Leg(*map(float, obs[4:9])), Leg(*map(float, obs[9:14]))


def motors(*torque: float) -> Obs:
    """The action for the torques of hip 1, knee 1, hip 2 and knee 2."""
    return np.clip(np.array(torque, dtype=np.float32), -1.0, 1.0)


@bipedal_walker.controller
class Walk:
    """Swings one leg forward while the other carries, and changes over when that foot lands."""

    def __init__(self) -> None:
        self.carrying = 0
        self.steps = 0  # since the last change

    def __call__(self, obs: Obs) -> Obs:
        """One step."""
        angle, spin, vx = map(float, obs[:3])
        both = legs(obs)
        self.steps += 1
        if self.steps > LIFT_STEPS and both[1 - self.carrying].foot:
            self.carrying, self.steps = 1 - self.carrying, 1
        # First the free leg is lifted past the other, knee bent, then it reaches for the ground.
        lifting = self.steps <= LIFT_STEPS
        hip, knee, carrying_knee = (0.34, -0.66, 0.77) if lifting else (-0.15, 0.32, 0.31)
        free, carrying = both[1 - self.carrying], both[self.carrying]
        # The faster it goes, the further ahead the foot must land, or it falls on its face.
        swing = (free.hip_to(hip + vx - angle), free.knee_to(knee))
        # The carrying hip lets the hull lean far back, and keeps it from rocking.
        carry = (0.1 * (angle - 0.6) + 2.1 * spin, carrying.knee_to(carrying_knee))
        return motors(*swing, *carry) if self.carrying else motors(*carry, *swing)


@bipedal_walker.controller
def stand(obs: Obs) -> Obs:
    """Stands with one foot ahead of the other and keeps its hull level."""
    angle, spin = map(float, obs[:2])
    lean = angle + spin
    front, back = legs(obs)
    return motors(
        *(lean + front.hip_to(0.4), front.knee_to(0.5)),
        *(lean + back.hip_to(-0.4), back.knee_to(0.5)),
    )


@bipedal_walker.controller
def fall(obs: Obs) -> Obs:
    """Folds its knees and goes down."""
    return motors(0.0, -1.0, 0.0, -1.0)
