"""Hyperparameters read from source files, compared with the imported classes."""

from __future__ import annotations

import importlib
import inspect
import subprocess
import sys
from types import ModuleType
from typing import Any

import pytest
from pydantic import ValidationError

from shaperun.study.hyperparameters import BOUNDS, MANAGED, linear_schedule_start, signature
from shaperun.study.learners import LEARNERS

SB3 = [name for name, learner in LEARNERS.items() if learner.own_hyperparameters is None]
each_algorithm = pytest.mark.parametrize("algorithm", SB3)


def module_of(algorithm: str) -> ModuleType:
    return importlib.import_module(LEARNERS[algorithm].implementation.partition(":")[0])


def imported(algorithm: str) -> dict[str, inspect.Parameter]:
    """Return the constructor parameters that a study may set."""
    parameters = inspect.signature(getattr(module_of(algorithm), algorithm)).parameters
    return {name: p for name, p in parameters.items() if name not in MANAGED}


def parsed(algorithm: str) -> dict[str, tuple[str, Any]]:
    return signature(LEARNERS[algorithm].implementation)


@each_algorithm
def test_names_and_defaults_match_the_class(algorithm: str) -> None:
    defaults = {name: default for name, (_, default) in parsed(algorithm).items()}
    real = {name: parameter.default for name, parameter in imported(algorithm).items()}
    assert defaults == real
    assert list(defaults) == list(real)
    assert [type(value) for value in defaults.values()] == [type(v) for v in real.values()]


@each_algorithm
def test_annotations_match_the_class(algorithm: str) -> None:
    names = vars(module_of(algorithm))
    for name, (annotation, _) in parsed(algorithm).items():
        real = imported(algorithm)[name].annotation
        evaluated = eval(annotation, names)  # noqa: S307 (text of the installed package)
        assert evaluated == (eval(real, names) if isinstance(real, str) else real)  # noqa: S307


def test_managed_and_bounded_parameters_exist() -> None:
    parameters: set[str] = set()
    for algorithm in SB3:
        parameters |= inspect.signature(getattr(module_of(algorithm), algorithm)).parameters.keys()
    assert parameters >= MANAGED | BOUNDS.keys()


@each_algorithm
def test_model_accepts_defaults_and_policy_kwargs(algorithm: str) -> None:
    model = LEARNERS[algorithm].hyperparameters
    assert set(model.model_fields) == {*imported(algorithm), "policy_kwargs"}
    defaults = model().model_dump()
    for name, parameter in imported(algorithm).items():
        assert defaults[name] == parameter.default
    assert model(**defaults).model_dump() == defaults
    assert repr(model(**defaults).model_dump()) == repr(defaults)  # distinguishes 10 from 10.0


@each_algorithm
@pytest.mark.parametrize("name", sorted(MANAGED - {"policy_kwargs"}))
def test_managed_parameter_is_refused(algorithm: str, name: str) -> None:
    with pytest.raises(ValidationError, match="extra_forbidden"):
        LEARNERS[algorithm].hyperparameters(**{name: None})


def dump(algorithm: str, **hyperparameters: Any) -> dict[str, Any]:
    return LEARNERS[algorithm].hyperparameters(**hyperparameters).model_dump()


@pytest.mark.parametrize(
    ("text", "start"), [("lin_1", 1.0), ("lin_2.5e-4", 2.5e-4), ("lin_3e-4", 3e-4), ("lin_.5", 0.5)]
)
def test_linear_schedule_is_read(text: str, start: float) -> None:
    assert linear_schedule_start(text) == start
    assert dump("PPO", learning_rate=text, clip_range=text)["clip_range"] == text


@pytest.mark.parametrize("text", ["lin", "lin_", "lin_x", "LIN_1", "exp_1", "1", "", "lin_1 2"])
def test_invalid_schedule_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"a linear schedule like lin_2\.5e-4"):
        linear_schedule_start(text)
    with pytest.raises(ValidationError):
        dump("PPO", learning_rate=text)


@pytest.mark.parametrize("value", ["lin_0", "lin_-1", "lin_nan", "lin_inf", 0, -1.0])
def test_schedule_must_start_above_0(value: object) -> None:
    with pytest.raises(ValidationError, match="starts above 0"):
        dump("PPO", learning_rate=value)


def test_constant_hyperparameter_takes_no_schedule() -> None:
    with pytest.raises(ValidationError):
        dump("PPO", gamma="lin_0.99")


@pytest.mark.parametrize(
    ("algorithm", "name", "value", "expected"),
    [
        ("PPO", "n_steps", 1e3, 1000),
        ("PPO", "ent_coef", 1, 1.0),
        ("PPO", "target_kl", None, None),
        ("PPO", "clip_range_vf", 0.1, 0.1),
        ("PPO", "sde_sample_freq", -1, -1),
        ("DQN", "train_freq", 4, 4),
        ("DQN", "train_freq", [1, "episode"], [1, "episode"]),
        ("DQN", "gradient_steps", -1, -1),
        ("DQN", "max_grad_norm", 10, 10.0),
        ("TRPO", "cg_damping", 0.2, 0.2),
        ("A2C", "use_rms_prop", False, False),
    ],
)
def test_valid_value_is_accepted(
    algorithm: str, name: str, value: object, expected: object
) -> None:
    assert repr(dump(algorithm, **{name: value})[name]) == repr(expected)


@pytest.mark.parametrize(
    ("algorithm", "name", "value"),
    [
        ("PPO", "n_steps", 10.5),
        ("PPO", "n_steps", True),
        ("PPO", "n_steps", 0),
        ("PPO", "batch_size", 1),
        ("PPO", "gamma", 0),
        ("PPO", "gamma", 1.01),
        ("PPO", "gamma", "0.99"),
        ("PPO", "gamma", None),
        ("PPO", "ent_coef", float("nan")),
        ("PPO", "use_sde", 0),
        ("PPO", "normalize_advantage", "yes"),
        ("DQN", "train_freq", [4, "minutes"]),
        ("DQN", "train_freq", [4, "step", 5]),
        ("DQN", "train_freq", []),
        ("DQN", "train_freq", "4"),
        ("DQN", "gae_lambda", 0.9),
        ("A2C", "clip_range", 0.2),
    ],
)
def test_invalid_value_is_refused(algorithm: str, name: str, value: object) -> None:
    with pytest.raises(ValidationError):
        dump(algorithm, **{name: value})


@pytest.mark.parametrize(
    "network",
    [
        {"net_arch": [64, 64]},
        {"net_arch": []},
        {"net_arch": {"pi": [64], "vf": [1e2]}},
        {"activation_fn": "tanh", "ortho_init": False, "log_std_init": -2},
    ],
)
def test_valid_network_is_accepted(network: dict[str, Any]) -> None:
    dumped = dump("PPO", policy_kwargs=network)["policy_kwargs"]
    assert dump("PPO", policy_kwargs=dumped)["policy_kwargs"] == dumped


@pytest.mark.parametrize(
    "network",
    [
        {"net_arch": [0]},
        {"net_arch": [64.5]},
        {"net_arch": 64},
        {"net_arch": {"qi": [64]}},
        {"net_arch": [[64]]},
        {"activation_fn": "torch.nn.ReLU"},
        {"activation_fn": "__import__('os')"},
        {"features_extractor_class": "x"},
        {"log_std_init": float("inf")},
        None,
    ],
)
def test_invalid_network_is_refused(network: object) -> None:
    with pytest.raises(ValidationError):
        dump("PPO", policy_kwargs=network)


def test_checking_imports_no_heavy_library() -> None:
    code = """
import sys
from shaperun.study.learners import LEARNERS
for learner in LEARNERS.values():
    learner.hyperparameters()
assert not {"torch", "stable_baselines3", "sb3_contrib", "gymnasium"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
