"""Environments without a module: inferred from their spaces, or refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from pydantic import ValidationError

from shaperun.envs.base import Transition
from shaperun.envs.builtin import environments
from shaperun.envs.episodes import play_episode
from shaperun.envs.generic import UnknownEnvironmentError, get_environment
from shaperun.envs.metrics import metric_bounds
from shaperun.envs.spaces import UnsupportedEnvironmentError, from_spaces
from shaperun.rewards.expression import expression_term
from shaperun.study.environment import EnvironmentConfig
from tests.helpers.toy import Register, Toy, refusals, study

BOX = spaces.Box(-1, 1, (3,))


def test_ids_of_a_module_are_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "listed_of_mine.py").write_text(
        "import gymnasium as gym\n\nclass A(gym.Env):\n    pass\n\n"
        "gym.register('Listed-v0', A)\ngym.register('Other-v0', 'listed_of_mine:A')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UnknownEnvironmentError) as caught:
        get_environment("listed_of_mine:A")
    assert caught.value.known == ["listed_of_mine:Listed-v0", "listed_of_mine:Other-v0"]
    assert caught.value.module == "listed_of_mine"
    del gym.registry["Listed-v0"], gym.registry["Other-v0"]


def test_generic_outcomes() -> None:
    environment = from_spaces("Any-v0", BOX, spaces.Discrete(2))
    flags = np.array([[True, False], [False, True], [True, True], [False, False]])
    steps = Transition(
        obs=np.zeros((4, 3)),
        action=np.zeros(4),
        next_obs=np.zeros((4, 3)),
        env_reward=np.array([1.0, 2.0, 3.0, 4.0]),
        terminated=flags[:, 0],
        truncated=flags[:, 1],
        last_action=np.zeros(4),
    )
    assert environment.outcome(steps.take(np.arange(3))).tolist() == [
        "terminated",
        "truncated",
        "terminated",
    ]
    assert environment.outcomes == {"terminated": None, "truncated": None}
    terms = environment.built_in
    assert list(terms) == ["terminated", "truncated", "environment"]
    assert terms["terminated"](steps).tolist() == [1, 0, 1, 0]
    assert terms["truncated"](steps).tolist() == [0, 1, 0, 0]
    assert terms["environment"](steps).tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize("env_id", list(environments()))
def test_declared_environment_is_returned(env_id: str) -> None:
    assert get_environment(env_id) is environments()[env_id]
    limited = get_environment(env_id, {"max_episode_steps": 5000})
    assert limited == replace(environments()[env_id], time_limit=5000)
    assert get_environment(env_id, {"max_episode_steps": -1}).time_limit is None


@pytest.mark.parametrize(
    ("options", "solved"),
    [
        ({}, 475),
        ({"max_episode_steps": 475}, 475),
        ({"max_episode_steps": 20}, None),
        ({"sutton_barto_reward": True}, None),
    ],
)
def test_environment_is_not_solved_at_a_return_out_of_reach(
    options: dict[str, Any], solved: float | None
) -> None:
    known = get_environment("CartPole-v1", options)
    assert known.solved == solved
    assert (known.own_reward is None) == ("sutton_barto_reward" in options)


def test_options_other_than_the_time_limit_drop_the_bounds() -> None:
    for options, bounded in (({}, True), ({"max_episode_steps": 9}, True), ({"g": 5.0}, False)):
        environment = get_environment("Pendulum-v1", options)
        assert ("return" in metric_bounds(environment)) == bounded


@pytest.mark.parametrize("env_id", ["FrozenLake-v1", "CliffWalking-v1", "Taxi-v4"])
def test_environment_without_a_module_is_inferred(env_id: str) -> None:
    environment = get_environment(env_id)
    assert (environment.id, environment.observation_size) == (env_id, 1)
    assert environment.action_size is None
    config = study({"id": env_id, "options": {"max_episode_steps": 8}}).environment
    env = config.make()
    env.action_space.seed(1)
    episode = play_episode(env, config.describe(), lambda obs: env.action_space.sample(), seed=1)
    assert episode.outcome in environment.outcomes
    assert episode.transition.obs.shape == (len(episode), 1)
    state = expression_term(environment, "state", "obs + 0 * action")
    assert state(episode.transition).tolist() == episode.transition.next_obs[:, 0].tolist()
    env.close()


def test_composite_observations_are_flattened_for_the_learner() -> None:
    environment = get_environment("Blackjack-v1")
    assert environment.layout == {0: (), 1: (), 2: ()}
    assert environment.observation_size == 3
    assert environment.learner_view.shape == (32 + 11 + 2,)  # a one for each state of each entry


@pytest.mark.parametrize("env_id", ["FrozenLake-v0", "FrozenLake", "frozenlake-v1", "", "a/b-v1"])
def test_unknown_environment_is_refused(env_id: str) -> None:
    with pytest.raises(UnknownEnvironmentError) as caught:
        get_environment(env_id)
    assert caught.value.env_id == env_id
    assert {"FrozenLake-v1", *environments()} <= set(caught.value.known)
    [(path, message)] = refusals({"id": env_id}).items()
    assert path == "environment.id"
    assert message == f"unknown environment {env_id}"
    with pytest.raises(ValidationError, match="unknown environment"):
        EnvironmentConfig(id=env_id)


def test_environment_is_created_once_and_closed(register: Register) -> None:
    class Counted(Toy):
        made, closed = 0, 0

    register("Counted-v0", Counted)
    for _ in range(3):
        get_environment("Counted-v0")
    assert (Counted.made, Counted.closed) == (1, 1)


def test_options_change_the_environment(register: Register) -> None:
    register("Toy-v0", Toy)
    assert get_environment("Toy-v0").observation_size == 3
    assert get_environment("Toy-v0", {"size": 5}).observation_size == 5
    assert get_environment("Toy-v0", {"size": 4, "max_episode_steps": 9}).observation_size == 4
    config = study({"id": "Toy-v0", "options": {"size": 7, "max_episode_steps": 9}}).environment
    assert config.describe().observation_size == 7


def test_an_environment_cannot_change_its_options(register: Register) -> None:
    def make(sizes: dict[str, list[int]]) -> Toy:
        return Toy(size=sizes["all"].pop())

    register("Toy-v0", make)
    options = {"sizes": {"all": [7]}, "max_episode_steps": 9}
    config = study({"id": "Toy-v0", "options": options}).environment
    for _ in range(2):
        assert config.make().observation_space.shape == (7,)
    assert config.options == options


def test_environment_without_time_limit_is_refused(register: Register) -> None:
    register("Toy-v0", Toy)
    assert get_environment("Toy-v0").time_limit is None
    assert get_environment("Toy-v0", {"max_episode_steps": 9}).time_limit == 9
    assert get_environment("FrozenLake-v1").time_limit == 100
    [(path, message)] = refusals({"id": "Toy-v0"}).items()
    assert path == "environment.options"
    assert "no time limit of Toy-v0 is known to gymnasium; set one, as in" in message
    assert "or environment.ends_itself: true if all episodes end" in message
    limited = study({"id": "Toy-v0", "options": {"max_episode_steps": 9}}).environment
    assert "ends_itself" not in limited.model_dump()  # earlier runs keep their identity
    assert study({"id": "Toy-v0", "ends_itself": True}).environment.model_dump()["ends_itself"]


def failing(error: Exception) -> Callable[..., Any]:
    def make(**_options: Any) -> Any:
        raise error

    return make


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 3}, "TypeError: .* got an unexpected keyword argument 'size'"),
        ({"map_name": "9x9"}, "KeyError: '9x9'"),
        ({"max_episode_steps": -5}, "ValueError: .*positive"),
    ],
)
def test_unsupported_options_are_refused(options: dict[str, Any], message: str) -> None:
    message = f"creation failed with {message}"
    with pytest.raises(UnsupportedEnvironmentError, match=message):
        get_environment("FrozenLake-v1", options)
    with pytest.raises(ValidationError, match=f"FrozenLake-v1 cannot be used: {message}"):
        study({"id": "FrozenLake-v1", "options": options})


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (RuntimeError("no display"), "creation failed with RuntimeError: no display"),
        (AssertionError(), "creation failed with AssertionError"),
        (ImportError("No module named 'jax'"), "creation failed with ImportError: No module named"),
    ],
)
def test_environment_that_fails_on_creation_is_refused(
    register: Register, error: Exception, message: str
) -> None:
    register("Failing-v0", failing(error))
    with pytest.raises(UnsupportedEnvironmentError, match=message):
        get_environment("Failing-v0")
    assert message in refusals({"id": "Failing-v0"})["environment.id"]


def test_options_are_plain_data() -> None:
    lake = study({"id": "FrozenLake-v1", "options": {"desc": ["SFF", "FHF", "FFG"]}}).environment
    assert lake.make().observation_space.n == 9  # type: ignore[attr-defined]
    assert isinstance(lake.options["desc"], list)
    paths = refusals({"id": "FrozenLake-v1", "options": {"desc": [{"S": float("nan")}]}})
    assert "environment.options.desc" in paths
    assert list(refusals({"id": "FrozenLake-v1", "options": 5})) == ["environment.options"]
    assert list(refusals({"id": 5})) == ["environment.id"]
    assert list(refusals({})) == ["environment.id"]


def test_keys_of_environment_are_no_options(register: Register) -> None:
    register("Any-v0", Toy)
    problems = refusals({"id": "Any-v0", "options": {"ends_itself": True}})
    message = "ends_itself belongs beside options, in environment"
    assert problems["environment.options"] == message
    problems = refusals({"id": "Any-v0", "options": {"metrics": {}}, "ends_itself": True})
    message = "is metrics a key of environment, to be written beside options?"
    assert message in problems["environment.id"]


def test_no_window_is_opened_to_refuse_one(register: Register) -> None:
    modes = []

    def make(render_mode: str | None = None) -> Toy:
        modes.append(render_mode)
        return Toy()

    register("Any-v0", make)
    problems = refusals({"id": "Any-v0", "options": {"render_mode": "human"}, "ends_itself": True})
    assert "render_mode is set by shaperun" in problems["environment.options"]
    assert set(modes) == {None}
