"""Environment sections: which backends are accepted, and what is serialized."""

from __future__ import annotations

from typing import Any

import pytest
from gymnasium import spaces

from shaperun.study.environment import EnvironmentConfig
from shaperun.study.models import RunConfig, parse_study
from tests.helpers import toy
from tests.helpers.studies import accept, refuse


def test_envpool_needs_a_validated_environment() -> None:
    lander = {"id": "LunarLander-v3", "backend": "envpool"}
    assert accept("environment", lander).environment.backend == "envpool"
    limited = lander | {"options": {"max_episode_steps": 500}}
    assert accept("environment", limited).environment.backend == "envpool"
    windy = lander | {"options": {"enable_wind": True}}
    assert "does not support the option enable_wind" in refuse("environment", windy)
    reasons = {"Pendulum-v1": "differs from"} | dict.fromkeys(
        ("Taxi-v4", "Hopper-v5"), "not validated"
    )
    for env_id, why in reasons.items():
        refused = refuse("environment", {"id": env_id, "backend": "envpool"})
        assert why in refused
        assert "leave backend out" in refused


def test_default_backend_is_not_serialized() -> None:
    default = accept("study", "plain")
    assert "backend" not in default.model_dump(mode="json")["environment"]
    lander = {"id": "LunarLander-v3"}
    studies = [accept("environment", lander | {"backend": b}) for b in ("gymnasium", "envpool")]
    configs = [study.run_config(study.arms["default"], 0) for study in studies]
    assert configs[0].identity != configs[1].identity
    assert [c.environment.backend for c in configs] == ["gymnasium", "envpool"]
    again = [RunConfig.model_validate_json(c.model_dump_json()) for c in configs]
    assert again == configs


def test_setting_names_options_and_wrappers() -> None:
    scaled = {"RescaleAction": {"min_action": 0, "max_action": 1}}
    wrappers = ["FlattenObservation", scaled]
    environment = {"id": "Pendulum-v1", "options": {"g": 9}, "wrappers": wrappers}
    raw = {
        "study": "p",
        "environment": environment,
        "training": {"algorithm": "PPO", "total_timesteps": 100},
        "arms": {"default": {}},
    }
    setting = parse_study(raw).setting
    assert setting == "Pendulum-v1 (g=9; FlattenObservation, RescaleAction)"


def test_evaluation_options_are_merged_for_evaluation_only() -> None:
    plain = accept("evaluation", {})
    other = accept("evaluation", {"options": {"gravity": -5, "wind_power": 3}})
    assert other.environment == plain.environment == plain.evaluated_environment
    merged = {"gravity": -5, "enable_wind": False, "wind_power": 3}
    assert other.evaluated_environment.options == merged
    assert other.setting == (
        "LunarLander-v3 (gravity=-9.0, enable_wind=false), evaluated with gravity=-5, wind_power=3"
    )
    assert plain.setting == "LunarLander-v3 (gravity=-9.0, enable_wind=false)"
    configs = [study.run_config(study.arms["default"], 0) for study in (plain, other)]
    assert "options" not in configs[0].model_dump(mode="json")["evaluation"]
    assert configs[0].identity != configs[1].identity
    assert [RunConfig.model_validate_json(c.model_dump_json()) for c in configs] == configs
    assert configs[1].evaluated_environment == other.evaluated_environment


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"gravty": -5}, "unexpected keyword argument 'gravty'"),
        ({"continuous": True}, "with these options an action is 2 numbers"),
        ({"render_mode": "human"}, "render_mode is set by shaperun; remove it"),
        ({"max_episode_steps": 2_000_000}, "above the limit 1,000,000"),
        ({"max_episode_steps": -1}, "no time limit of LunarLander-v3"),
        ([1], "valid dictionary"),
    ],
)
def test_evaluation_options_are_checked_like_those_of_training(options: object, why: str) -> None:
    assert why in refuse("evaluation.options", options)
    assert why in refuse("environment.options", options)


def test_evaluation_needs_the_spaces_of_training(register: toy.Register) -> None:
    class Choices(toy.Toy):
        def __init__(self, actions: int = 2, low: float = -1, dtype: Any = "float32") -> None:
            super().__init__()
            self.action_space = spaces.Discrete(actions)
            self.observation_space = spaces.Box(low, 1, (3,), dtype)

    register("Choices-v0", Choices)
    data = {"id": "Choices-v0", "ends_itself": True}
    wider = toy.study(data, evaluation={"options": {"low": -7}})  # other data
    assert wider.evaluated_environment.options == {"low": -7}
    for options, why in (
        ({"actions": 3}, "the action space is Discrete(3) with them and Discrete(2) in training"),
        ({"dtype": "float64"}, "the observation space is Box(-1.0, 1.0, (3,), float64) with them"),
    ):
        refused = toy.refusals(data, evaluation={"options": options})
        assert why in refused["evaluation.options"]


def test_evaluation_needs_the_layout_of_training(register: toy.Register) -> None:
    class Pair(toy.Toy):
        def __init__(self, first: int = 2, second: int = 3) -> None:
            self.observation_space = spaces.Dict(
                a=spaces.Box(-1, 1, (first,)), b=spaces.Box(-1, 1, (second,))
            )

    register("Pair-v0", Pair)
    data: dict[str, Any] = {"id": "Pair-v0", "ends_itself": True}
    swapped = {"options": {"first": 3, "second": 2}}
    refused = toy.refusals(data, evaluation=swapped)
    assert "the observation space is Dict('a': Box(" in refused["evaluation.options"]
    # The learner sees the same, but terms do not.
    data["wrappers"] = [{"FilterObservation": {"filter_keys": ["a"]}}]
    smaller = {"options": {"second": 2}}
    toy.study(data, evaluation=smaller, terms={"t": 'obs["b"][1]'})
    refused = toy.refusals(data, evaluation=smaller, terms={"t": 'obs["b"][2]'})
    assert "evaluation.options: terms.t does not fit the environment with them" in refused[""]


def test_environment_of_a_study_has_its_options() -> None:
    config = EnvironmentConfig(
        id="LunarLander-v3", options={"gravity": -5.0, "max_episode_steps": 7}
    )
    env = config.make()
    assert env.render_mode is None
    assert env.unwrapped.gravity == -5.0  # type: ignore[attr-defined]
    env.reset(seed=0)
    assert [env.step(0)[3] for _ in range(7)] == [False] * 6 + [True]
    assert config.make(render_mode="rgb_array").render_mode == "rgb_array"
