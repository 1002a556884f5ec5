"""CartPole: its terms by hand, and its outcomes on real episodes."""

import math
from collections.abc import Callable

import gymnasium as gym
import numpy as np
import numpy.typing as npt
import pytest

from shaperun.envs.base import Transition
from shaperun.envs.builtin.cartpole import cartpole
from tests.helpers.env_episodes import controlled

Policy = Callable[[npt.NDArray[np.float32]], int]


def one_step(action: int, next_obs: list[float], *, terminated: bool = False) -> Transition:
    return Transition(
        obs=np.full((1, 4), 0.01),
        action=np.array([action]),
        next_obs=np.array([next_obs], dtype=np.float64),
        env_reward=np.ones(1),
        terminated=np.array([terminated]),
        truncated=np.array([not terminated]),
        last_action=np.array([action]),
    )


@pytest.mark.parametrize(
    ("term", "action", "next_obs", "value"),
    [
        ("upright", 0, [0, 0, 0, 0], 1.0),
        ("upright", 0, [1, 2, -math.radians(3), 4], 0.75),
        ("upright", 0, [0, 0, math.radians(12), 0], 0.0),
        ("centred", 0, [0, 0, 0.1, 0], 1.0),
        ("centred", 0, [-0.6, 2, 3, 4], 0.75),
        ("still", 0, [9, 3, 9, -4], -5.0),
        ("push_right", 1, [0, 0, 0, 0], 1.0),
        ("push_right", 0, [0, 0, 0, 0], -1.0),
    ],
)
def test_terms_by_hand(term: str, action: int, next_obs: list[float], value: float) -> None:
    assert cartpole.terms[term](one_step(action, next_obs)) == pytest.approx(value)


def last_step(policy: Policy, *, start: list[float] | None = None) -> Transition:
    env = gym.make("CartPole-v1")
    obs, _ = env.reset(seed=0)
    if start:
        env.unwrapped.state = np.array(start)  # type: ignore[attr-defined]
    terminated = truncated = False
    while not (terminated or truncated):
        action = policy(obs)
        obs, _, terminated, truncated, _ = env.step(action)
    env.close()
    return one_step(action, obs.tolist(), terminated=terminated)


def outcome(end: Transition) -> str:
    [found] = cartpole.outcome(end).tolist()
    assert found in cartpole.outcomes
    return str(found)


def test_the_pole_falls() -> None:
    end = last_step(lambda obs: 1)
    assert outcome(end) == "fell"
    assert cartpole.terms["upright"](end) < 0 < cartpole.terms["centred"](end)


def test_the_cart_leaves_the_track() -> None:
    end = last_step(lambda obs: 1, start=[2.3, 2.0, 0.0, 0.0])
    assert outcome(end) == "off_track"
    assert cartpole.terms["centred"](end) < 0 < cartpole.terms["upright"](end)


def test_the_pole_stays_up() -> None:
    # Push to where the pole falls, and let its speed and the cart's have a say.
    end = last_step(lambda obs: int(obs @ [0.1, 0.3, 1.0, 0.5] > 0))
    assert outcome(end) == "balanced"


def test_falling_on_the_last_step_is_no_balance() -> None:
    end = one_step(0, [0, 0, 0.3, 0], terminated=True)
    end.truncated[:] = True
    assert outcome(end) == "fell"


@pytest.mark.parametrize("seed", range(3))
def test_controllers(seed: int) -> None:
    balance, fall, drift = (controlled(cartpole, n, seed) for n in ("balance", "fall", "drift"))
    assert outcome(balance.take(np.array([-1]))) == "balanced"
    assert outcome(fall.take(np.array([-1]))) == "fell"
    assert len(fall) <= 10
    assert outcome(drift.take(np.array([-1]))) == "off_track"
    assert cartpole.terms["upright"](drift).min() > 0
