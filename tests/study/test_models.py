"""Models of studies: accepted and refused data, defaults, and the identity of a run."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from shaperun.study.learners import LEARNERS
from shaperun.study.models import RunConfig, parse_study
from tests.helpers.studies import FULL, GRID, PLAIN, accept, changed, refuse


def test_minimal_study_has_defaults() -> None:
    study = parse_study(PLAIN)
    assert study.seeds == [0, 1, 2, 3, 4]
    assert study.training.algorithm == "PPO"
    assert study.training.n_envs == 1
    assert study.training.gamma == 0.99
    assert study.evaluation.episodes == 20
    assert study.evaluation.final_episodes == 100
    assert study.arms["default"].mode == "log"
    assert study.arms["default"].scale == 1.0
    assert study.sweep is None


def test_full_study_is_read() -> None:
    study = parse_study(FULL)
    assert study.environment.options == {"gravity": -9.0, "enable_wind": False}
    assert study.training.gamma == 0.999
    assert study.training.hyperparameters["n_steps"] == 2048  # default of the class
    assert study.training.hyperparameters["policy_kwargs"]["net_arch"]["vf"] == [32, 32]
    assert study.arms["custom"].weights == {"distance": 2.0, "legs": 1.0}
    assert study.sweep is not None
    assert study.sweep.base == "custom"
    grid = accept("sweep", GRID).sweep
    assert grid is not None
    assert grid.weights == {"distance": [0.0, 1.0], "legs": [5.0]}


@pytest.mark.parametrize(
    ("seeds", "expected"),
    [(1, [0]), (3, [0, 1, 2]), (1e1, list(range(10))), ([7, 2.0, 2**32 - 1], [7, 2, 2**32 - 1])],
)
def test_seeds_may_be_a_number_or_a_list(seeds: object, expected: list[int]) -> None:
    assert accept("seeds", seeds).seeds == expected


@pytest.mark.parametrize(
    "seeds", [0, -1, True, 1.5, "3", None, [], [1, 1], [1, 1.0], [-1], [2**32], [0.5], [True], {}]
)
def test_invalid_seeds_are_refused(seeds: object) -> None:
    assert "seeds" in refuse("seeds", seeds)


@pytest.mark.parametrize(
    "key",
    ["training.total_timesteps", "training.n_envs", "evaluation.every", "evaluation.episodes"],
)
def test_positive_integers_are_required(key: str) -> None:
    section, name = key.split(".")
    assert getattr(getattr(accept(key, 1e2), section), name) == 100
    for invalid in (0, -1, 0.5, "100", True, float("inf"), float("nan")):
        refuse(key, invalid)


@pytest.mark.parametrize("name", ["a", "A-b_9", "9", "_", "a" * 64])
def test_valid_names_are_accepted(name: str) -> None:
    assert accept("study", name).study == name
    assert name in accept("arms", {name: {}, "custom": {}}).arms


@pytest.mark.parametrize(
    "name", ["", "a/b", "..", "a.b", "a b", "-a", "a" * 65, "é", "a\n", "a\\b", "=a", "\0"]
)
def test_names_unfit_for_folders_or_options_are_refused(name: str) -> None:
    assert "study" in refuse("study", name)
    assert "arms" in refuse("arms", {name: {}, "custom": {}})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("environment.id", "LunarLander-v2"),
        ("environment.options.render_mode", "human"),
        ("environment.options.id", "CartPole-v1"),
        ("environment.options.disable_env_checker", True),
        ("environment.options.gravity", [1, {"a": float("inf")}]),
        ("environment.options.gravity", {1, 2}),
        ("environment.options.max_episode_steps", 1_000_001),
        ("training.algorithm", "SAC"),
        ("training.normalize.rewards", 1),
        ("training.hyperparameters.seed", 1),
        ("training.hyperparameters.buffer_size", 1),  # DQN's
        ("training.hyperparameters.gamma", 1.1),
        ("training.hyperparameters.batch_size", 1),
        ("training.hyperparameters.learning_rate", "lin_"),
        ("training.hyperparameters.policy_kwargs.activation_fn", "torch.nn.ReLU"),
        ("training.hyperparameters.policy_kwargs.net_arch", [0]),
        ("arms", {}),
        ("arms.custom", None),
        ("arms.custom.mode", None),
        ("arms.custom.mode", "shape"),
        ("arms.custom.scale", float("inf")),
        ("arms.custom.weights.distance", "1"),
        ("arms.custom.weights.distance", float("nan")),
        ("arms.custom.weights.upright", 1),  # CartPole's
        ("sweep.base", "article"),
        ("sweep.method", "bayes"),
        ("sweep.weights.upright", {"low": 1, "high": 2}),
        ("sweep.samples", 0),
        ("sweep.weights", {}),
        ("extra", 1),
    ],
)
def test_invalid_value_is_refused(key: str, value: object) -> None:
    assert key.split(".", maxsplit=1)[0] in refuse(key, value)


@pytest.mark.parametrize(
    "algorithm", [name for name, learner in LEARNERS.items() if learner.has_critic]
)
def test_algorithm_has_default_hyperparameters(algorithm: str) -> None:
    study = parse_study(changed(PLAIN, "training.algorithm", algorithm))
    assert study.training.gamma == 0.99


@pytest.mark.parametrize(
    ("arm", "mode"),
    [
        ({}, "log"),
        ({"mode": None}, "log"),
        ({"weights": {}}, "log"),
        ({"mode": "log", "weights": {"legs": 1}}, "log"),
        ({"mode": "potential", "weights": {"legs": 1, "main_engine": 0}}, "potential"),
    ],
)
def test_mode_defaults_to_log_without_weights(arm: dict[str, Any], mode: str) -> None:
    assert accept("arms.other", arm).arms["other"].mode == mode


def test_arm_with_weights_needs_a_mode() -> None:
    assert "needs a mode" in refuse("arms.other", {"weights": {"legs": 1}})


def test_potential_needs_state_terms() -> None:
    arm = {"mode": "potential", "weights": {"legs": 1, "side_engine": 0.1}}
    assert "side_engine depends on more than that" in refuse("arms.other", arm)


def test_baseline_is_the_first_unshaped_arm() -> None:
    custom = FULL["arms"]["custom"]
    assert parse_study(FULL).baseline == "default"
    assert accept("arms", {"custom": custom, "b": {}, "c": {}}).baseline == "b"
    assert accept("arms", {"a": custom, "custom": custom}).baseline == "a"


def test_study_is_frozen() -> None:
    with pytest.raises(ValidationError):
        parse_study(FULL).study = "other"


def test_default_evaluation_interval_is_a_twentieth_of_training() -> None:
    study = parse_study(PLAIN)
    assert study.run_config(study.arms["default"], 0).evaluation.every == 50
    short = parse_study(changed(PLAIN, "training.total_timesteps", 3))
    assert short.run_config(short.arms["default"], 0).evaluation.every == 1


# The identity of a run.


def run(data: dict[str, Any], arm: str = "custom", seed: int = 3) -> RunConfig:
    study = parse_study(data)
    return study.run_config(study.arms[arm], seed)


NUMBERS = [
    ("environment.options.gravity", -10.0),
    ("environment.options.enable_wind", True),
    ("environment.options.turbulence_power", 1.0),
    ("training.algorithm", "TRPO"),
    ("training.total_timesteps", 1001),
    ("training.n_envs", 5),
    ("training.normalize.observations", True),
    ("training.normalize.rewards", False),
    ("training.hyperparameters.gamma", 0.998),
    ("training.hyperparameters.learning_rate", "lin_4e-4"),
    ("training.hyperparameters.learning_rate", 3e-4),
    ("training.hyperparameters.n_epochs", 3),
    ("training.hyperparameters.clip_range_vf", 0.2),
    ("training.hyperparameters.policy_kwargs.net_arch.pi", [65]),
    ("training.hyperparameters.policy_kwargs.net_arch", [64]),
    ("training.hyperparameters.policy_kwargs.activation_fn", "tanh"),
    ("evaluation.every", 99),
    ("evaluation.episodes", 6),
    ("evaluation.final_episodes", 11),
    ("arms.custom.mode", "add"),
    ("arms.custom.scale", 0.6),
    ("arms.custom.weights.distance", 2.0000001),
    ("arms.custom.weights.angle", 1),
]


@pytest.mark.parametrize(("key", "value"), NUMBERS)
def test_identity_depends_on_what_changes_numbers(key: str, value: object) -> None:
    data = changed(FULL, key, value)
    if key == "training.algorithm":
        del data["training"]["hyperparameters"]
    assert run(data).identity != run(FULL).identity


def test_identity_depends_on_environment_and_seed() -> None:
    cartpole = changed(PLAIN, "environment.id", "CartPole-v1")
    assert run(cartpole, "default").identity != run(PLAIN, "default").identity
    assert run(FULL, seed=4).identity != run(FULL, seed=3).identity


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("study", "another"),
        ("seeds", [3, 4, 5, 6]),
        ("arms.third", {"mode": "replace", "weights": {"legs": 1}}),
        ("arms.default", {"mode": "add", "weights": {"legs": 1}}),
        ("sweep", None),
        # Other spellings of the same values.
        ("training.total_timesteps", 1e3),
        ("arms.custom.weights", {"legs": 1.0, "distance": 2.0}),
        ("training.hyperparameters.n_epochs", 10),  # the default
        ("training.hyperparameters.clip_range_vf", None),
    ],
)
def test_identity_ignores_what_changes_no_number(key: str, value: object) -> None:
    assert run(changed(FULL, key, value)).identity == run(FULL).identity


def test_identity_ignores_the_name_of_an_arm() -> None:
    renamed = changed(FULL, "arms.renamed", FULL["arms"]["custom"])
    assert run(renamed, "renamed").identity == run(FULL, "custom").identity


def test_default_interval_has_the_identity_of_the_same_explicit_one() -> None:
    spelled_out = changed(PLAIN, "evaluation.every", 50)
    assert run(spelled_out, "default").identity == run(PLAIN, "default").identity


@pytest.mark.parametrize(
    "algorithm", [name for name, learner in LEARNERS.items() if learner.has_critic]
)
def test_run_config_round_trips_through_json(algorithm: str) -> None:
    config = run(changed(PLAIN, "training.algorithm", algorithm), "default")
    again = RunConfig.model_validate_json(config.model_dump_json())
    assert again == config
    assert again.identity == config.identity
    plain = RunConfig.model_validate(json.loads(json.dumps(config.model_dump(mode="json"))))
    assert plain.identity == config.identity


def test_full_study_round_trips_through_json() -> None:
    config = run(FULL)
    assert RunConfig.model_validate_json(config.model_dump_json()).identity == config.identity
    study = parse_study(FULL)
    assert parse_study(study.model_dump(mode="json")) == study


# Any data gives a study or a ValidationError.

WORDS = ["", "lander", "custom", "PPO", "distance", "lin_1", "grid", "random", "method", "id", "e"]
TEXT = st.sampled_from(WORDS) | st.text(max_size=5)
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | TEXT
JSON = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


@st.composite
def mutated(draw: st.DrawFn) -> dict[str, Any]:
    """Draw a full study in which a few values are replaced, removed or added."""
    data = copy.deepcopy(FULL)
    for _ in range(draw(st.integers(1, 3))):
        inner: Any = data
        key = draw(st.sampled_from(sorted(inner)))
        while isinstance(inner[key], dict) and inner[key] and draw(st.integers(0, 3)):
            inner = inner[key]
            key = draw(st.sampled_from(sorted(inner)))
        match draw(st.sampled_from(["replace", "remove", "add"])):
            case "replace":
                inner[key] = draw(JSON)
            case "remove" if len(inner) > 1:
                del inner[key]
            case _:
                inner[draw(TEXT)] = draw(JSON)
    return data


@settings(deadline=None)
@given(JSON | mutated())
def test_any_data_gives_a_study_or_a_validation_error(data: Any) -> None:
    try:
        study = parse_study(data)
    except ValidationError:
        return
    for reward in study.arms.values():
        config = study.run_config(reward, study.seeds[0])
        assert RunConfig.model_validate_json(config.model_dump_json()).identity == config.identity
