"""BipedalWalker: terms by hand, the observed part of its reward, and repeatable episodes."""

from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from shaperun.envs.base import Environment, Transition
from shaperun.envs.builtin.bipedal_walker import bipedal_walker
from tests.helpers.env_episodes import make_env, one_step, outcome, play, play_controller

ZEROS = [0.0] * 24


def seen(**values: float) -> list[float]:
    """Return an observation with the given values, else zeros."""
    return [values.get(name, 0.0) for name in bipedal_walker.observations]


@pytest.mark.parametrize(
    ("term", "next_obs", "value"),
    [
        ("forward", seen(vx=0.25, vy=9), 0.25),
        ("level", seen(angle=-0.5, spin=9), -0.5),
        ("level", seen(angle=0.5), -0.5),
        ("calm", seen(spin=-0.3, vy=0.4, vx=9), -0.5),
        ("feet", seen(hip1=9, knee2=9), 0.0),
        ("feet", seen(foot1=1), 1.0),
        ("feet", seen(foot2=1), 1.0),
        ("feet", seen(foot1=1, foot2=1), 2.0),
    ],
)
def test_state_terms_by_hand(term: str, next_obs: list[float], value: float) -> None:
    step = one_step(bipedal_walker, [0.0] * 4, next_obs=next_obs)
    assert bipedal_walker.terms[term](step) == pytest.approx(value)


def test_action_terms_by_hand() -> None:
    step = one_step(bipedal_walker, [0.5, -0.25, 0.0, -3.0], last_action=[0.25, 0.25, 0.0, -1.0])
    assert bipedal_walker.terms["torque"](step) == -1.75  # 3 is clipped to 1
    assert bipedal_walker.terms["smooth"](step) == -0.75


def test_observations_are_named_in_order() -> None:
    env = make_env(bipedal_walker)
    walker: Any = env.unwrapped
    env.reset(seed=0)
    for _ in range(20):
        obs = env.step(np.array([0.5, -0.5, -1.0, 1.0], dtype=np.float32))[0]
    values = dict(zip(bipedal_walker.observations, obs.tolist(), strict=True))
    expected = {
        "angle": walker.hull.angle,
        "vx": walker.hull.linearVelocity.x * 0.12,
        "vy": walker.hull.linearVelocity.y * 0.08,
        "hip1": walker.joints[0].angle,
        "knee1": walker.joints[1].angle + 1.0,
        "foot1": float(walker.legs[1].ground_contact),
        "hip2": walker.joints[2].angle,
        "knee2_spin": walker.joints[3].speed / 6.0,
        "foot2": float(walker.legs[3].ground_contact),
        "lidar0": walker.lidar[0].fraction,
        "lidar9": walker.lidar[9].fraction,
    }
    assert {name: values[name] for name in expected} == pytest.approx(expected, abs=1e-5)
    env.close()


def random_play(seed: int) -> Any:
    space = gym.make(bipedal_walker.id).action_space
    space.seed(seed)
    return lambda obs: space.sample()


def own_reward(steps: Transition) -> Any:
    assert bipedal_walker.own_reward is not None
    return bipedal_walker.own_reward(steps)


@pytest.mark.parametrize("policy", ["random", "walk", "stand"])
def test_own_reward_is_approximately_the_speed(policy: str) -> None:
    """The position is not observed, and a foot that hits the ground moves the hull as well."""
    act = random_play(0) if policy == "random" else bipedal_walker.controllers[policy].make()
    steps = play(bipedal_walker, act, seed=0)
    steps = steps.take(~steps.terminated)
    errors = own_reward(steps) - steps.env_reward
    assert np.abs(errors).max() < 0.15
    assert np.corrcoef(own_reward(steps), steps.env_reward)[0, 1] > 0.99
    assert abs(errors.sum()) < 0.03 * np.abs(steps.env_reward).sum()


def test_own_reward_by_hand() -> None:
    step = one_step(
        bipedal_walker, [1.0, -0.5, 0.0, 0.0], obs=seen(angle=0.1), next_obs=seen(vx=0.12)
    )
    # 1 m/s for 1/50 s at 130 points per 30 m, 0.1 less tilt, and the torque.
    assert own_reward(step) == pytest.approx(130.0 / 30.0 / 50.0 + 0.5 - 0.042)


@pytest.mark.parametrize(
    ("terminated", "env_reward", "ended_as"),
    [(False, 0.2, "timeout"), (True, -100.0, "fell"), (True, 0.2, "arrived")],
)
def test_outcomes_by_hand(terminated: bool, env_reward: float, ended_as: str) -> None:
    end = one_step(
        bipedal_walker, ZEROS[:4], next_obs=ZEROS, env_reward=env_reward, terminated=terminated
    )
    assert outcome(bipedal_walker, end) == ended_as


def test_controllers_end_as_they_say() -> None:
    walk, stand, fall = (
        play_controller(bipedal_walker, name) for name in ("walk", "stand", "fall")
    )
    assert outcome(bipedal_walker, walk) == "arrived"
    assert walk.env_reward.sum() > 300
    assert outcome(bipedal_walker, stand) == "timeout"
    assert np.abs(stand.next_obs[-500:, 0]).max() < 0.2
    assert -50 < stand.env_reward.sum() < 0
    assert outcome(bipedal_walker, fall) == "fell"
    assert len(fall) < 100


def observations_after(environment: Environment, before: int) -> bytes:
    """Return the observations of the episode of seed 7, played after other episodes."""
    env = make_env(environment)
    for seed in range(before):
        play(environment, random_play(seed), seed, env=env)
    steps = play(environment, random_play(7), 7, env=env)
    env.close()
    return steps.obs.tobytes()


def test_episode_does_not_depend_on_earlier_ones() -> None:
    assert observations_after(bipedal_walker, before=2) == observations_after(
        bipedal_walker, before=0
    )


def test_episode_depends_on_earlier_ones_without_the_hook() -> None:
    unpatched = replace(bipedal_walker, before_reset=None)
    assert observations_after(unpatched, before=0) == observations_after(bipedal_walker, before=0)
    assert observations_after(unpatched, before=2) != observations_after(unpatched, before=0)


def test_new_world_is_like_the_original() -> None:
    env = make_env(bipedal_walker)
    walker: Any = env.unwrapped
    gravity = tuple(walker.world.gravity)
    assert bipedal_walker.before_reset is not None
    for _ in range(3):  # the first time, before any reset
        old = walker.world
        bipedal_walker.before_reset(walker)
        assert walker.world is not old
        assert old.bodyCount == walker.world.bodyCount == 0
        assert tuple(walker.world.gravity) == gravity
        env.reset()
        assert walker.world.bodyCount > 200
    env.close()
