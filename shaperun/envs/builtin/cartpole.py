"""CartPole-v1: keep a pole upright for 500 steps by pushing its cart left and right."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from shaperun.envs.base import Array, Environment, Transition

TRACK_HALF = 2.4  # position of the cart at which the episode ends
TILT_LIMIT = math.radians(12.0)  # angle of the pole at which the episode ends


def outcome(end: Transition) -> npt.NDArray[np.str_]:
    """Return `fell` (the pole), `off_track` (the cart), or `balanced` at the time limit."""
    off_track = np.abs(end.next_obs[:, 0]) >= TRACK_HALF
    return np.select([~end.terminated, off_track], ["balanced", "off_track"], "fell")


def own_reward(transition: Transition) -> Array:
    """1 per step, including the last one."""
    return np.ones(len(transition))


cartpole = Environment(
    id="CartPole-v1",
    observations=("x", "vx", "angle", "spin"),
    outcome=outcome,
    outcomes={"balanced": True, "fell": False, "off_track": False},
    time_limit=500,
    episode_bounds=lambda steps: {"return": (1.0, float(steps))},
    solved=475.0,
    reward_options=frozenset({"sutton_barto_reward"}),
    notes={
        "replace": "replacing CartPole's reward also drops its +1 per step; if all terms are "
        "costs, falling at once is optimal",
    },
    requires=("pygame", 'pip install "gymnasium[classic-control]"'),
    own_reward=own_reward,
)


@cartpole.state_term
def upright(obs: Array) -> Array:
    """1 − |angle| / 12°, from 1 (upright) to 0 (the episode ends)."""
    return 1.0 - np.abs(obs[:, 2]) / TILT_LIMIT


@cartpole.state_term
def centred(obs: Array) -> Array:
    """1 − |x| / 2.4, from 1 (middle of the track) to 0 (the episode ends)."""
    return 1.0 - np.abs(obs[:, 0]) / TRACK_HALF


@cartpole.state_term
def still(obs: Array) -> Array:
    """−√(vx² + spin²), the speed of cart and pole."""
    return -np.hypot(obs[:, 1], obs[:, 3])


@cartpole.action_term
def push_right(transition: Transition) -> Array:
    """1 if the cart is pushed to the right, −1 if to the left."""
    return np.where(transition.action == 1, 1.0, -1.0)


@cartpole.controller
def balance(obs: npt.NDArray[np.float32]) -> int:
    """Pushes the cart under the falling pole, and back to the middle of the track."""
    x, vx, angle, spin = map(float, obs)
    return int(0.1 * x + 0.3 * vx + angle + 0.5 * spin > 0.0)


@cartpole.controller
def fall(obs: npt.NDArray[np.float32]) -> int:
    """Pushes the cart away from under the pole."""
    return int(obs[2] < 0.0)


@cartpole.controller
def drift(obs: npt.NDArray[np.float32]) -> int:
    """Balances the pole at a tilt, so that the cart accelerates and leaves the track."""
    _, _, angle, spin = map(float, obs)
    return int(angle - 0.1 + 0.3 * spin > 0.0)
