"""MuJoCo: terms and outcomes by hand, and options that change the reward or the observation."""

from __future__ import annotations

import math
from contextlib import closing
from typing import Any

import pytest

from shaperun.envs.base import Environment
from shaperun.envs.builtin import environments
from shaperun.envs.builtin.mujoco import (
    ant,
    half_cheetah,
    hopper,
    humanoid,
    inverted_double_pendulum,
    inverted_pendulum,
    pusher,
    reacher,
    swimmer,
    walker2d,
)
from shaperun.envs.episodes import play_episode
from shaperun.envs.generic import get_environment
from shaperun.envs.make import make_environment
from tests.helpers.env_episodes import one_step, outcome, play, play_controller

pytest.importorskip("mujoco")
environments()  # adds the controllers, which are in a module of their own


def seen(environment: Environment, **values: float) -> list[float]:
    """Return an observation with the given values, else zeros."""
    assert values.keys() <= set(environment.observations)
    return [values.get(name, 0.0) for name in environment.observations]


@pytest.mark.parametrize(
    ("environment", "term", "values", "expected"),
    [
        (half_cheetah, "upright", {"angle": math.pi}, -1.0),
        (hopper, "healthy", {"z": 0.71, "angle": -0.19}, 1.0),
        (hopper, "healthy", {"z": 0.69}, 0.0),
        (hopper, "healthy", {"z": 1.0, "angle": 0.21}, 0.0),
        (walker2d, "healthy", {"z": 1.9, "angle": 0.9}, 1.0),
        (walker2d, "healthy", {"z": 2.1}, 0.0),
        (ant, "healthy", {"z": 0.5, "qw": 1.0}, 1.0),
        (ant, "healthy", {"z": 1.1}, 0.0),
        (ant, "upright", {"qw": 1.0}, 1.0),
        (ant, "upright", {"qy": 1.0}, -1.0),
        (ant, "contact", {"torso_torque_x": 9.0, "back_right_lower_force_z": 0.5}, -81.25),
        (humanoid, "contact", {"left_foot_force_z": 3.0, "left_knee_torque": 9.0}, -9.0),
        (humanoid, "contact", {"right_lower_arm_force_z": 1e6}, -2e7),
        (swimmer, "heading", {"angle": math.pi}, -1.0),
        (reacher, "distance", {"dx": 0.3, "dy": -0.4}, -0.5),
        (pusher, "distance", {"object_x": 0.3, "goal_y": 0.4}, -0.5),
        (pusher, "near", {"object_x": 0.3, "tip_z": 0.4}, -0.5),
        (inverted_pendulum, "upright", {"angle": -0.1}, 0.5),
        (inverted_pendulum, "healthy", {"angle": 0.21}, 0.0),
        (inverted_pendulum, "centered", {"x": -0.5}, -0.5),
        (inverted_double_pendulum, "distance", {"cos_angle1": 1, "cos_angle2": 1}, -0.64),
        (inverted_double_pendulum, "distance", {"x": 1, "sin_angle1": 1, "cos_angle2": 1}, -4.0484),
        (inverted_double_pendulum, "healthy", {"cos_angle1": 0.8, "cos_angle2": 1}, 0.0),
        (inverted_double_pendulum, "velocity", {"spin1": 2, "spin2": -2}, -0.024),
    ],
)
def test_state_terms_by_hand(
    environment: Environment, term: str, values: dict[str, float], expected: float
) -> None:
    motors = [0.0] * (environment.action_size or 0)
    step = one_step(environment, motors, next_obs=seen(environment, **values))
    assert environment.terms[term](step) == pytest.approx(expected)


def test_action_terms_by_hand() -> None:
    step = one_step(hopper, [1.0, -0.5, 0.0], last_action=[0.5, 0.5, 0.0], info={"x_velocity": 2.5})
    assert hopper.terms["control"](step) == -1.25
    assert hopper.terms["smooth"](step) == -1.5
    assert hopper.terms["forward"](step) == 2.5


@pytest.mark.parametrize(
    ("environment", "values", "x", "ended_as"),
    [
        (half_cheetah, {}, 10.0, "ran"),
        (half_cheetah, {}, 9.9, "stayed"),
        (half_cheetah, {"angle": 2.0}, 50.0, "flipped"),
        (swimmer, {}, 3.0, "swam"),
        (swimmer, {}, 2.9, "stayed"),
        (reacher, {"dx": 0.018}, 0.0, "reached"),
        (reacher, {"dy": 0.02}, 0.0, "missed"),
        (pusher, {"object_x": 0.07, "goal_z": -0.3}, 0.0, "pushed"),
        (pusher, {"object_x": 0.09}, 0.0, "missed"),
        (hopper, {"z": 1.2}, 0.0, "survived"),
        (hopper, {"z": 0.2}, 0.0, "fell"),  # with terminate_when_unhealthy: false
    ],
)
def test_outcomes_by_hand(
    environment: Environment, values: dict[str, float], x: float, ended_as: str
) -> None:
    motors = [0.0] * (environment.action_size or 0)
    last = seen(environment, **values)
    step = one_step(environment, motors, next_obs=last, info={"x_position": x})
    assert outcome(environment, step) == ended_as


def test_names_of_bodies_are_in_mujocos_order() -> None:
    """At rest the forces on the ant's feet point up; the sum of masses is that of the model."""
    stand = play_controller(ant, "stand").next_obs[-1]
    up = [i for i, name in enumerate(ant.observations) if name.endswith("_lower_force_z")]
    assert stand[up].min() > 0.1
    env = make_environment(humanoid, {})
    obs, _ = env.reset(seed=0)
    masses = [i for i, name in enumerate(humanoid.observations) if name.endswith("_mass")]
    model: Any = env.unwrapped
    assert obs[masses].sum() == pytest.approx(model.model.body_mass.sum())
    assert [obs[humanoid.observations.index(name)] for name in ("z", "left_elbow_spin")] == [
        model.data.qpos[2],
        model.data.qvel[-1],
    ]


def test_distance_is_that_covered() -> None:
    steps = play_controller(half_cheetah, "run")
    [(term, seconds)] = half_cheetah.metrics["distance"].terms.items()
    distance = seconds * half_cheetah.terms[term](steps).sum()
    end = steps.read_info("x_position")[-1]
    assert distance == pytest.approx(end, abs=0.2)  # the start is random


@pytest.mark.parametrize(
    ("environment", "options"),
    [
        (hopper, {"healthy_z_range": [1.24, 2.0]}),
        (hopper, {"healthy_angle_range": [-0.01, 0.1]}),
        (hopper, {"healthy_state_range": [-3.0, 3.0]}),
        (walker2d, {"healthy_z_range": [1.24, 2.0]}),
        (ant, {"healthy_z_range": [0.55, 0.7]}),
        (humanoid, {"healthy_z_range": [1.3, 2.0]}),
    ],
)
def test_health_has_the_ranges_of_options(
    environment: Environment, options: dict[str, Any]
) -> None:
    options |= {"terminate_when_unhealthy": False, "max_episode_steps": 60}
    known = get_environment(environment.id, options)
    with closing(make_environment(known, options)) as env:
        env.action_space.seed(0)
        episode = play_episode(env, known, lambda obs: env.action_space.sample(), 0)
    healthy = known.terms["healthy"](episode.transition)
    paid = episode.transition.read_info("reward_survive") > 0
    assert healthy.tolist() == paid.astype(float).tolist()
    assert 0 < healthy.sum() < len(healthy)
    assert (episode.outcome == "survived") == bool(healthy[-1])


def test_distance_knows_how_long_a_step_takes() -> None:
    def metrics(**options: Any) -> Any:
        return get_environment("HalfCheetah-v5", options).metrics

    assert metrics()["distance"].terms == {"forward": 0.05}
    assert metrics(frame_skip=10)["distance"].terms == {"forward": 0.1}
    assert metrics(xml_file="./robot.xml") == {}


def test_camera_follows_the_robot_unless_the_study_has_another_one() -> None:
    assert half_cheetah.render_options is not None
    assert half_cheetah.render_options({}) == {"camera_name": "track"}
    assert half_cheetah.render_options({"camera_id": 0}) == {}
    env = make_environment(half_cheetah, {}, render_mode="rgb_array")
    renderer: Any = env.unwrapped
    assert renderer.mujoco_renderer.camera_id == 0
    env.close()


def test_solved_is_for_episodes_of_full_length() -> None:
    assert get_environment("HalfCheetah-v5").solved == 4800
    assert get_environment("HalfCheetah-v5", {"max_episode_steps": 50}).solved is None
    assert get_environment("HalfCheetah-v5", {"max_episode_steps": 1500}).solved == 4800


@pytest.mark.parametrize(
    ("environment", "option"),
    [(hopper, "healthy_reward"), (ant, "contact_cost_weight"), (pusher, "reward_near_weight")],
)
def test_options_that_change_the_reward_invalidate_it(
    environment: Environment, option: str
) -> None:
    assert get_environment(environment.id, {"reset_noise_scale": 0.1}).own_reward
    changed = get_environment(environment.id, {option: 7.0})
    assert (changed.own_reward, changed.solved) == (None, None)


def test_options_that_change_the_observation_are_refused() -> None:
    with pytest.raises(ValueError, match="an observation is 18 numbers, but the terms of Half"):
        make_environment(half_cheetah, {"exclude_current_positions_from_observation": False})
    with pytest.raises(ValueError, match="an observation is 27 numbers, but the terms of Ant-v5"):
        make_environment(ant, {"include_cfrc_ext_in_observation": False})


def test_random_actions_fall() -> None:
    env = make_environment(hopper, {})
    env.action_space.seed(0)
    steps = play(hopper, lambda obs: env.action_space.sample(), 0)
    assert outcome(hopper, steps) == "fell"
    assert "Hopper-v5" in environments()
