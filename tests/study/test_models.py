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
from shaperun.study.models import RunConfig, Study, parse_study

PLAIN: dict[str, Any] = {
    "study": "lander",
    "environment": {"id": "LunarLander-v3"},
    "training": {"total_timesteps": 1000},
    "arms": {"default": {}},
}
FULL: dict[str, Any] = {
    "study": "lander",
    "environment": {"id": "LunarLander-v3", "options": {"gravity": -9.0, "enable_wind": False}},
    "training": {
        "algorithm": "PPO",
        "total_timesteps": 1000,
        "n_envs": 4,
        "normalize": {"observations": False, "rewards": True},
        "hyperparameters": {
            "gamma": 0.999,
            "learning_rate": "lin_3e-4",
            "policy_kwargs": {"net_arch": {"pi": [64], "vf": [32, 32]}, "activation_fn": "relu"},
        },
    },
    "seeds": [3, 5],
    "evaluation": {"every": 100, "episodes": 5, "final_episodes": 10},
    "arms": {
        "default": {},
        "custom": {"mode": "replace", "weights": {"distance": 2, "legs": 1}, "scale": 0.5},
    },
    "sweep": {
        "method": "random",
        "base": "custom",
        "weights": {"distance": {"low": 1, "high": 9, "log": True}},
        "samples": 3,
        "seed": 7,
    },
}
GRID = {"method": "grid", "base": "custom", "weights": {"distance": [0, 1], "legs": [5]}}


def changed(data: dict[str, Any], key: str, value: object) -> dict[str, Any]:
    """Return a copy of the data with a value at the dotted key."""
    data = copy.deepcopy(data)
    *parents, last = key.split(".")
    inner = data
    for part in parents:
        inner = inner.setdefault(part, {})
    inner[last] = value
    return data


def accept(key: str, value: object) -> Study:
    return parse_study(changed(FULL, key, value))


def refuse(key: str, value: object) -> str:
    with pytest.raises(ValidationError) as caught:
        accept(key, value)
    return str(caught.value)


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


def test_sweep_of_a_potential_needs_state_terms() -> None:
    data = changed(FULL, "arms.custom", {"mode": "potential", "weights": {"legs": 1}})
    with pytest.raises(ValidationError, match="main_engine depends on more than that"):
        parse_study(changed(data, "sweep", GRID | {"weights": {"main_engine": [0, 1]}}))


@pytest.mark.parametrize(
    "range_", [{"low": 2, "high": 1}, {"low": 0, "high": 1, "log": True}, {"low": 1}, {"high": 1}]
)
def test_invalid_range_is_refused(range_: dict[str, Any]) -> None:
    refuse("sweep.weights", {"legs": range_})


def test_range_without_an_end_gives_one_error() -> None:
    message = refuse("sweep.weights", {"legs": {"low": 2, "log": True}})
    assert message.startswith("1 validation error")


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


def test_engine_must_be_able_to_train_the_learner() -> None:
    assert accept("training.engine", "lockstep").training.engine == "lockstep"
    assert accept("study", "plain").training.engine == "lockstep"
    a2c = {"total_timesteps": 1, "algorithm": "A2C"}
    assert accept("training", a2c).training.engine == "sb3"
    refused = refuse("training", a2c | {"engine": "lockstep"})
    assert "A2C is trained by sb3, not by lockstep; leave engine out" in refused
    sde = {"total_timesteps": 1, "hyperparameters": {"use_sde": True}}
    assert accept("training", sde).training.engine == "sb3"
    refused = refuse("training", sde | {"engine": "lockstep"})
    assert "PPO with use_sde is trained by sb3, not by lockstep" in refused


def test_gpu_needs_lockstep() -> None:
    assert accept("training.device", "cuda").training.device == "cuda"
    for training in ({"engine": "sb3"}, {"algorithm": "DQN"}):
        refused = refuse("training", {"total_timesteps": 1, "device": "cuda", **training})
        assert "only the lockstep engine trains on a GPU; leave device out" in refused


def test_envpool_needs_a_validated_environment() -> None:
    lander = {"id": "LunarLander-v3", "backend": "envpool"}
    assert accept("environment", lander).environment.backend == "envpool"
    limited = lander | {"options": {"max_episode_steps": 500}}
    assert accept("environment", limited).environment.backend == "envpool"
    windy = lander | {"options": {"enable_wind": True}}
    assert "does not support the option enable_wind" in refuse("environment", windy)
    for env_id, why in {"Pendulum-v1": "differs from", "Taxi-v4": "not validated"}.items():
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


def test_identity_depends_on_the_engine() -> None:
    one, other = (accept("training.engine", engine) for engine in ("sb3", "lockstep"))
    identities = {s.run_config(s.arms["default"], 0).identity for s in (one, other)}
    assert len(identities) == 2


SHARED = {"n_steps": 32, "gamma": 0.9}


def arm_training(overrides: dict[str, Any], **shared: Any) -> Study:
    data = copy.deepcopy(PLAIN)
    data["training"] = data["training"] | {"hyperparameters": SHARED} | shared
    data["arms"] = {"default": {}, "other": {"training": overrides}}
    return parse_study(data)


def test_arm_may_override_training() -> None:
    study = arm_training({"n_envs": 3, "hyperparameters": {"ent_coef": 0.1}}, n_envs=2)
    default, other = (study.training_of(arm) for arm in study.arms.values())
    assert default == study.training
    assert other.hyperparameters == default.hyperparameters | {"ent_coef": 0.1}
    assert (default.n_envs, other.n_envs) == (2, 3)
    runs = [study.run_config(arm, 0) for arm in study.arms.values()]
    assert [run.training for run in runs] == [default, other]
    assert runs[0].reward == runs[1].reward


def test_arm_with_another_algorithm_inherits_only_gamma() -> None:
    study = arm_training({"algorithm": "A2C"}, engine="lockstep", normalize={"rewards": True})
    other = study.training_of(study.arms["other"])
    alone = parse_study(PLAIN | {"training": {"algorithm": "A2C", "total_timesteps": 1}}).training
    assert other.hyperparameters == alone.hyperparameters | {"gamma": 0.9}
    assert (other.engine, other.normalize.rewards) == ("sb3", True)


def test_training_of_an_arm_round_trips_through_json() -> None:
    study = arm_training({"algorithm": "TRPO", "hyperparameters": {"gamma": 0.5}})
    plain = study.model_dump(mode="json")
    assert "training" not in plain["arms"]["default"]
    assert "total_timesteps" not in plain["arms"]["other"]["training"]
    assert parse_study(plain) == study
    longer = plain | {"training": plain["training"] | {"total_timesteps": 9_999}}
    assert parse_study(longer).arms["other"].training.total_timesteps == 9_999  # type: ignore


def test_arm_cannot_override_total_timesteps() -> None:
    with pytest.raises(ValidationError, match="is the same for all arms"):
        arm_training({"total_timesteps": 5})


@pytest.mark.parametrize("shared", [{"n_envs": 0}, {"bogus": 1}, {"hyperparameters": {"x": 1}}])
def test_mistake_in_shared_training_is_reported_once(shared: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as error:
        arm_training({"n_envs": 3}, **shared)
    assert error.value.error_count() == 1


@pytest.mark.parametrize("both", [True, False])
def test_normalize_takes_a_truth_value(both: bool) -> None:
    training = {"total_timesteps": 1000, "normalize": both}
    normalize = parse_study(PLAIN | {"training": training}).training.normalize
    assert (normalize.observations, normalize.rewards) == (both, both)
    arms = {"default": {}, "own": {"training": {"normalize": {"rewards": False}}}}
    study = parse_study(PLAIN | {"training": training, "arms": arms})
    own = study.training_of(study.arms["own"]).normalize
    assert (own.observations, own.rewards) == (both, False)
