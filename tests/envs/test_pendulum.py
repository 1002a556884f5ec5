"""Pendulum: terms by hand and against the dynamics; outcomes and controllers on episodes."""

import math

import numpy as np
import pytest

from shaperun.envs.builtin.pendulum import pendulum
from tests.helpers.env_episodes import one_step, outcome, play, play_controller


def rod(degrees: float, spin: float = 0.0) -> list[float]:
    """Return the observation of a pendulum at an angle; 0 is up."""
    return [math.cos(math.radians(degrees)), math.sin(math.radians(degrees)), spin]


@pytest.mark.parametrize(
    ("term", "next_obs", "value"),
    [
        ("height", rod(0), 1.0),
        ("height", rod(180), -1.0),
        ("angle", rod(-90, 5), -((math.pi / 2) ** 2)),
        ("angle", rod(180), -(math.pi**2)),
        ("still", rod(30, -3), -3.0),
        ("energy", rod(0), 0.0),
        ("energy", rod(180), -2.0),
        ("energy", rod(0, 3), -0.3),
        ("energy", rod(180, math.sqrt(60)), 0.0),  # just fast enough to get up
    ],
)
def test_state_terms_by_hand(term: str, next_obs: list[float], value: float) -> None:
    step = one_step(pendulum, [0.0], next_obs=next_obs)
    assert pendulum.terms[term](step) == pytest.approx(value)


def test_action_terms_by_hand() -> None:
    step = one_step(pendulum, [-1.5], last_action=[0.5])
    assert pendulum.terms["effort"](step) == -2.25
    assert pendulum.terms["smooth"](step) == -2.0
    beyond = one_step(pendulum, [3.0], last_action=[-3.0])  # the environment clips to ±2
    assert pendulum.terms["effort"](beyond) == -4.0
    assert pendulum.terms["smooth"](beyond) == -4.0


def test_own_reward_depends_on_the_state_before_the_step() -> None:
    assert pendulum.own_reward is not None
    step = one_step(pendulum, [2.0], obs=rod(90, 2.0), next_obs=rod(0))
    assert pendulum.own_reward(step) == pytest.approx(-((math.pi / 2) ** 2) - 0.4 - 0.004)


def test_energy_is_nearly_conserved_without_torque() -> None:
    steps = play(pendulum, lambda obs: np.zeros(1, dtype=np.float32), seed=0)
    swing = np.ptp(pendulum.terms["height"](steps))
    assert swing > 1
    assert np.ptp(pendulum.terms["energy"](steps)) < 0.2 * swing  # long integration steps


@pytest.mark.parametrize(
    ("last", "ended_as"),
    [
        (rod(0), "upright"),
        (rod(-19, 0.9), "upright"),
        (rod(21), "swinging"),
        (rod(0, 1.1), "swinging"),
        (rod(180, -1.1), "swinging"),
        (rod(159), "swinging"),
        (rod(-161, -0.9), "hanging"),
    ],
)
def test_outcomes_by_hand(last: list[float], ended_as: str) -> None:
    assert outcome(pendulum, one_step(pendulum, [0.0], next_obs=last)) == ended_as


@pytest.mark.parametrize("seed", range(5))
def test_controllers_end_as_they_say(seed: int) -> None:
    up, spin, hang = (
        play_controller(pendulum, name, seed) for name in ("swing_up", "spin", "hang")
    )
    ended = [outcome(pendulum, steps) for steps in (up, spin, hang)]
    assert ended == ["upright", "swinging", "hanging"]
    assert up.env_reward.sum() > -400
    assert max(spin.env_reward.sum(), hang.env_reward.sum()) < -1000
    assert pendulum.terms["still"](spin)[-50:].max() < -1


def test_rotating_past_the_top_is_not_a_success() -> None:
    steps = play_controller(pendulum, "spin")
    assert (pendulum.outcome(steps)[50:] == "swinging").all()
