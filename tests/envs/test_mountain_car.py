"""MountainCar, discrete and continuous: terms by hand; outcomes and controllers on episodes."""

import math
from typing import Any

import numpy as np
import pytest

from shaperun.envs.base import Environment
from shaperun.envs.builtin.mountain_car import mountain_car, mountain_car_continuous
from tests.helpers.env_episodes import one_step, outcome, play, play_controller

BOTH = [mountain_car, mountain_car_continuous]
both = pytest.mark.parametrize("car", BOTH, ids=lambda car: car.id)
LEFT, NO_PUSH, RIGHT = range(3)


@both
@pytest.mark.parametrize(
    ("term", "next_obs", "value"),
    [
        ("height", [-math.pi / 6, 9], -1.0),
        ("height", [math.pi / 6, 9], 1.0),
        ("speed", [9, -0.035], 0.5),
        ("speed", [9, 0.07], 1.0),
        ("energy", [-math.pi / 6, 0.0], -1.0),
        ("energy", [0.0, -0.05], 1.5),
    ],
)
def test_state_terms_by_hand(
    car: Environment, term: str, next_obs: list[float], value: float
) -> None:
    action: Any = NO_PUSH if car is mountain_car else [0.0]
    step = one_step(car, action, next_obs=next_obs)
    assert car.terms[term](step) == pytest.approx(value)


@pytest.mark.parametrize(
    ("car", "action", "vx", "along", "effort"),
    [
        (mountain_car, RIGHT, 0.01, 1.0, -1.0),
        (mountain_car, RIGHT, -0.01, -1.0, -1.0),
        (mountain_car, LEFT, -0.01, 1.0, -1.0),
        (mountain_car, NO_PUSH, 0.01, 0.0, 0.0),
        (mountain_car, RIGHT, 0.0, 0.0, -1.0),
        (mountain_car_continuous, [0.5], 0.01, 0.5, -0.25),
        (mountain_car_continuous, [-0.5], 0.01, -0.5, -0.25),
        (mountain_car_continuous, [0.0], 0.01, 0.0, 0.0),
        (mountain_car_continuous, [2.0], 0.01, 1.0, -4.0),  # charged for more than is applied
    ],
)
def test_action_terms_by_hand(
    car: Environment, action: Any, vx: float, along: float, effort: float
) -> None:
    step = one_step(car, action, obs=[0.0, vx])
    assert car.terms["along"](step) == along
    assert car.terms["effort"](step) == effort


@both
def test_energy_is_conserved_without_a_push(car: Environment) -> None:
    steps = play_controller(car, "rest")
    energy = car.terms["energy"](steps)
    swing = np.ptp(car.terms["height"](steps))
    assert swing > 0.01
    assert np.ptp(energy) < 0.1 * swing + 0.01


@both
@pytest.mark.parametrize("seed", range(3))
def test_controllers_end_as_they_say(car: Environment, seed: int) -> None:
    climb, rest, strain = (play_controller(car, name, seed) for name in ("climb", "rest", "strain"))
    assert [outcome(car, steps) for steps in (climb, rest, strain)] == [
        *("climbed", "timeout", "timeout")
    ]
    assert (car.terms["along"](climb) >= 0).all()
    assert (car.terms["effort"](climb) < 0).all()
    assert not car.terms["effort"](rest).any()
    assert (car.terms["effort"](strain) == -1).all()


def test_climbing_at_half_power_solves_the_environment() -> None:
    steps = play_controller(mountain_car_continuous, "climb")
    assert mountain_car_continuous.solved is not None
    assert steps.env_reward.sum() > mountain_car_continuous.solved


@both
def test_success_on_the_last_step_counts(car: Environment) -> None:
    def climb(limit: int | None) -> str:
        act = car.controllers["climb"].make()
        return outcome(car, play(car, act, 0, limit=limit))

    length = len(play_controller(car, "climb"))
    assert climb(length) == "climbed"
    assert climb(length - 1) == "timeout"
