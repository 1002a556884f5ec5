"""LunarLander: terms by hand and against its reward, outcomes and controllers on episodes."""

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.box2d.lunar_lander import heuristic

from shaperun.envs.base import Environment, Transition
from shaperun.envs.builtin.lunar_lander import (
    LEFT_ENGINE,
    MAIN_ENGINE,
    NOTHING,
    RIGHT_ENGINE,
    lunar_lander,
    lunar_lander_continuous,
)
from tests.helpers.env_episodes import make_env, one_step, outcome, play, play_controller

Policy = Callable[[gym.Env[Any, Any], Any], int]
BOTH = [lunar_lander, lunar_lander_continuous]
both = pytest.mark.parametrize("lander", BOTH, ids=lambda lander: lander.id)


@pytest.mark.parametrize(
    ("term", "obs", "value"),
    [
        ("distance", [3, -4, 9, 9, 9, 9, 1, 1], -5.0),
        ("velocity", [9, 9, -5, 12, 9, 9, 1, 1], -13.0),
        ("angle", [9, 9, 9, 9, -0.5, 9, 1, 1], -0.5),
        ("angle", [9, 9, 9, 9, 0.5, 9, 1, 1], -0.5),
        ("legs", [9, 9, 9, 9, 9, 9, 0, 0], 0.0),
        ("legs", [9, 9, 9, 9, 9, 9, 1, 0], 1.0),
        ("legs", [9, 9, 9, 9, 9, 9, 0, 1], 1.0),
        ("legs", [9, 9, 9, 9, 9, 9, 1, 1], 2.0),
    ],
)
def test_state_terms_by_hand(term: str, obs: list[float], value: float) -> None:
    assert lunar_lander.terms[term](one_step(lunar_lander, NOTHING, next_obs=obs)) == value


def test_action_terms_by_hand() -> None:
    actions = [NOTHING, LEFT_ENGINE, MAIN_ENGINE, RIGHT_ENGINE]
    steps = Transition.concatenate([one_step(lunar_lander, action) for action in actions])
    assert lunar_lander.terms["main_engine"](steps).tolist() == [0, 0, -1, 0]
    assert lunar_lander.terms["side_engine"](steps).tolist() == [0, -1, 0, -1]


@pytest.mark.parametrize(
    ("throttles", "main", "side"),
    [
        ([-1.0, 0.0], 0.0, 0.0),
        ([0.0, 0.5], 0.0, 0.0),  # both exactly at their thresholds
        ([0.5, -0.5], -0.75, 0.0),
        ([1.0, -0.75], -1.0, -0.75),
        ([-0.5, 1.0], 0.0, -1.0),
        ([3.0, -3.0], -1.0, -1.0),  # the environment clips them as well
    ],
)
def test_continuous_action_terms_by_hand(throttles: list[float], main: float, side: float) -> None:
    step = one_step(lunar_lander_continuous, np.array(throttles, dtype=np.float32))
    assert lunar_lander_continuous.terms["main_engine"](step) == main
    assert lunar_lander_continuous.terms["side_engine"](step) == side


def test_landers_share_terms_and_controllers() -> None:
    discrete, continuous = BOTH
    assert discrete.terms is continuous.terms
    assert discrete.controllers.keys() == continuous.controllers.keys()


def play_policy(policy: Policy, seed: int, *, limit: int = 1000) -> Transition:
    env = make_env(lunar_lander, limit)
    steps = play(lunar_lander, lambda obs: policy(env, obs), seed, env=env)
    env.close()
    return steps


def land(env: gym.Env[Any, Any], obs: Any) -> int:
    return int(heuristic(env.unwrapped, obs))  # type: ignore[no-untyped-call]


def outcomes(policy: Policy, *, limit: int = 1000) -> set[str]:
    return {outcome(lunar_lander, play_policy(policy, seed, limit=limit)) for seed in range(3)}


def test_coming_to_rest_counts_as_landed() -> None:
    assert outcomes(land) == {"landed"}


def test_doing_nothing_crashes() -> None:
    assert outcomes(lambda env, obs: NOTHING) == {"crashed"}


def test_full_power_leaves_the_screen() -> None:
    # At full power without steering, the lander leaves the screen.
    assert outcomes(lambda env, obs: MAIN_ENGINE) == {"out_of_bounds"}


def test_timeout() -> None:
    assert outcomes(land, limit=20) == {"timeout"}


def test_success_on_the_last_step_counts() -> None:
    length = len(play_policy(land, 0))
    assert outcome(lunar_lander, play_policy(land, 0, limit=length)) == "landed"
    assert outcome(lunar_lander, play_policy(land, 0, limit=length - 1)) == "timeout"


def mixed(env: gym.Env[Any, Any], obs: Any) -> int:
    """Land with some random actions, so that every engine fires and both legs touch."""
    random = env.unwrapped.np_random.random()
    return int(env.unwrapped.np_random.integers(4)) if random < 0.3 else land(env, obs)


@pytest.mark.parametrize("seed", range(3))
def test_terms_add_up_to_the_environments_reward(seed: int) -> None:
    """The reward is the progress in state terms minus fuel, except for the last step."""
    steps = play_policy(mixed, seed)
    terms = {name: term(steps) for name, term in lunar_lander.terms.items()}
    before = {n: t.function(steps.obs) for n, t in lunar_lander.terms.items() if t.state_only}
    weights = {"distance": 100, "velocity": 100, "angle": 100, "legs": 10}
    progress = sum(w * (terms[name] - before[name]) for name, w in weights.items())
    fuel = 0.30 * terms["main_engine"] + 0.03 * terms["side_engine"]
    # Observations have 32 bits, and the weights of 100 amplify the rounding.
    assert (progress + fuel)[:-1] == pytest.approx(steps.env_reward[:-1], abs=1e-4)
    assert abs(steps.env_reward[-1]) == 100.0
    assert all(len(np.unique(terms[name])) > 1 for name in ("legs", "main_engine", "side_engine"))


def test_fuel_is_the_cost_of_the_environment() -> None:
    fuel = lunar_lander.metrics["fuel"].terms
    assert fuel == {"main_engine": -0.30, "side_engine": -0.03}
    steps = Transition.concatenate([one_step(lunar_lander, a) for a in (0, 1, 2, 2, 3)])
    used = sum(weight * lunar_lander.terms[name](steps).sum() for name, weight in fuel.items())
    assert used == pytest.approx(2 * 0.30 + 2 * 0.03)


@both
def test_land_lands_with_a_high_return(lander: Environment) -> None:
    played = [play_controller(lander, "land", seed) for seed in range(5)]
    assert {outcome(lander, steps) for steps in played} == {"landed"}
    assert np.mean([steps.env_reward.sum() for steps in played]) > 230


@both
def test_crashing_uses_only_the_side_engines(lander: Environment) -> None:
    for seed in range(3):
        steps = play_controller(lander, "crash", seed)
        assert outcome(lander, steps) == "crashed"
        assert len(steps) < 120
        assert not lander.terms["main_engine"](steps).any()
        assert abs(steps.next_obs[-1, 4]) < 0.3


@both
def test_hovering_stays_in_the_air(lander: Environment) -> None:
    steps = play_controller(lander, "hover")
    assert outcome(lander, steps) == "timeout"
    assert not lander.terms["legs"](steps).any()
    assert abs(steps.next_obs[-100:, :2] - [0.0, 0.8]).max() < 0.3


@both
def test_burn_fires_until_out_of_bounds(lander: Environment) -> None:
    steps = play_controller(lander, "burn")
    assert outcome(lander, steps) == "out_of_bounds"
    assert (lander.terms["main_engine"](steps) == -1).all()


@both
def test_lingering_stays_on_the_pad_to_the_time_limit(lander: Environment) -> None:
    # Contact of a leg is not detected (112, 117); the lander is stuck against a slope (29).
    for seed in (0, 29, 112, 117):
        steps = play_controller(lander, "linger", seed)
        assert outcome(lander, steps) == "timeout"
        assert abs(steps.next_obs[-500:, :2]).max() < 0.25  # about the pad
        assert lander.terms["side_engine"](steps.take(np.arange(900, 1000))).all()
