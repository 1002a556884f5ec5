"""CartPole: terms by hand, outcomes and controllers on real episodes."""

import math
from collections.abc import Callable

import gymnasium as gym
import numpy as np
import numpy.typing as npt
import pytest

from shaperun.envs.base import Transition
from shaperun.envs.builtin.cartpole import cartpole
from tests.helpers.env_episodes import one_step, outcome, play_controller

Policy = Callable[[npt.NDArray[np.float32]], int]


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
    assert cartpole.terms[term](one_step(cartpole, action, next_obs=next_obs)) == pytest.approx(
        value
    )


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
    return one_step(cartpole, action, next_obs=obs.tolist(), terminated=terminated)


def test_a_tilted_pole_counts_as_fallen() -> None:
    end = last_step(lambda obs: 1)
    assert outcome(cartpole, end) == "fell"
    assert cartpole.terms["upright"](end) < 0 < cartpole.terms["centred"](end)


def test_a_cart_beyond_the_edge_is_off_track() -> None:
    end = last_step(lambda obs: 1, start=[2.3, 2.0, 0.0, 0.0])
    assert outcome(cartpole, end) == "off_track"
    assert cartpole.terms["centred"](end) < 0 < cartpole.terms["upright"](end)


def test_lasting_to_the_time_limit_counts_as_balanced() -> None:
    end = last_step(lambda obs: int(obs @ [0.1, 0.3, 1.0, 0.5] > 0))
    assert outcome(cartpole, end) == "balanced"


def test_falling_on_the_last_step_is_a_failure() -> None:
    end = one_step(cartpole, 0, next_obs=[0, 0, 0.3, 0], terminated=True)
    end.truncated[:] = True
    assert outcome(cartpole, end) == "fell"


@pytest.mark.parametrize("seed", range(3))
def test_controllers_end_as_they_say(seed: int) -> None:
    balance, fall, drift = (
        play_controller(cartpole, n, seed) for n in ("balance", "fall", "drift")
    )
    assert outcome(cartpole, balance) == "balanced"
    assert outcome(cartpole, fall) == "fell"
    assert len(fall) <= 10
    assert outcome(cartpole, drift) == "off_track"
    assert cartpole.terms["upright"](drift).min() > 0
