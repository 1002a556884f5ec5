"""Acrobot: terms by hand and against the dynamics; outcomes and controllers on episodes."""

import math

import numpy as np
import pytest

from shaperun.envs.builtin.acrobot import NO_TORQUE, PULL_LEFT, PULL_RIGHT, acrobot
from tests.helpers.env_episodes import make_env, one_step, outcome, play, play_controller


def links(angle1: float, angle2: float, spin1: float = 0.0, spin2: float = 0.0) -> list[float]:
    """Return the observation of two links at these angles; 0 is down."""
    return [
        *(math.cos(angle1), math.sin(angle1), math.cos(angle2), math.sin(angle2)),
        *(spin1, spin2),
    ]


@pytest.mark.parametrize(
    ("term", "next_obs", "value"),
    [
        ("height", links(0, 0), -2.0),
        ("height", links(math.pi, 0), 2.0),
        ("height", links(math.pi / 2, math.pi / 2), 1.0),
        ("height", links(math.pi / 2, -math.pi / 2), -1.0),
        ("energy", links(0, 0), -1.0),
        ("energy", links(math.pi, 0), 1.0),
        ("energy", links(0, 0, 2.0, 0.0), 4.5 / 2.0 * 2.0**2 / 19.6 - 1.0),
        ("energy", links(0, math.pi, 0.0, 2.0), 1.25 / 2.0 * 2.0**2 / 19.6 - 0.5),
        ("still", links(1, 2, 3, -4), -5.0),
    ],
)
def test_state_terms_by_hand(term: str, next_obs: list[float], value: float) -> None:
    step = one_step(acrobot, NO_TORQUE, next_obs=next_obs)
    assert acrobot.terms[term](step) == pytest.approx(value)


@pytest.mark.parametrize(
    ("action", "spin2", "along", "effort"),
    [
        (PULL_RIGHT, 2.0, 1.0, -1.0),
        (PULL_RIGHT, -2.0, -1.0, -1.0),
        (PULL_LEFT, -2.0, 1.0, -1.0),
        (NO_TORQUE, 2.0, 0.0, 0.0),
    ],
)
def test_action_terms_by_hand(action: int, spin2: float, along: float, effort: float) -> None:
    step = one_step(acrobot, action, obs=links(0, 0, 0, spin2))
    assert acrobot.terms["along"](step) == along
    assert acrobot.terms["effort"](step) == effort


def test_energy_is_conserved_without_torque() -> None:
    env = make_env(acrobot)
    env.reset(seed=0)
    env.unwrapped.state = np.array([1.0, 0.5, 1.0, -1.0])  # type: ignore[attr-defined]
    observations = np.array([env.step(NO_TORQUE)[0].astype(np.float64) for _ in range(50)])
    energy = acrobot.terms["energy"].function(observations)
    assert np.ptp(observations[:, 0]) > 0.5
    # Integration with long steps is imprecise.
    assert np.ptp(energy) < 0.02


def test_torque_along_the_rotation_adds_energy() -> None:
    steps = play_controller(acrobot, "swing")
    energy = acrobot.terms["energy"]
    gained = energy(steps) - energy.function(steps.obs)
    # The joint sometimes reverses within a step.
    assert (gained > 0).mean() > 0.8
    assert energy(steps)[-1] > 0


@pytest.mark.parametrize("seed", range(3))
def test_controllers_end_as_they_say(seed: int) -> None:
    swing, hang, strain = (play_controller(acrobot, n, seed) for n in ("swing", "hang", "strain"))
    assert [outcome(acrobot, s) for s in (swing, hang, strain)] == [
        "swung_up",
        "timeout",
        "timeout",
    ]
    assert acrobot.terms["height"](swing)[-1] > 1
    assert (acrobot.terms["height"](swing)[:-1] <= 1).all()
    assert acrobot.terms["still"](hang)[-100:].min() > -0.15


def test_success_on_the_last_step_counts() -> None:
    swing = acrobot.controllers["swing"].make()
    length = len(play_controller(acrobot, "swing"))
    assert outcome(acrobot, play(acrobot, swing, 0, limit=length)) == "swung_up"
    assert outcome(acrobot, play(acrobot, swing, 0, limit=length - 1)) == "timeout"
