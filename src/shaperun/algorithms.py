"""The learners a study may name, and their hyperparameters as their own signatures state them.

The signature is read from the installed source instead of the imported class, because importing it
imports torch, and a study file should be checked in milliseconds.
"""

from __future__ import annotations

import ast
import importlib.util
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    FiniteFloat,
    Tag,
    create_model,
)

# class -> the package it is installed with and its file there.
LOCATIONS = {
    "PPO": ("stable_baselines3", "ppo/ppo.py"),
    "A2C": ("stable_baselines3", "a2c/a2c.py"),
    "DQN": ("stable_baselines3", "dqn/dqn.py"),
    "TRPO": ("sb3_contrib", "trpo/trpo.py"),
}

Algorithm = Literal["PPO", "A2C", "DQN", "TRPO"]

# Parameters of the classes that a study says in other words, or that change no number of a run.
MANAGED = {
    "policy", "env", "seed", "device", "verbose", "tensorboard_log", "stats_window_size",
    "rollout_buffer_class", "rollout_buffer_kwargs", "replay_buffer_class",
    "replay_buffer_kwargs", "policy_kwargs", "_init_setup_model",
}  # fmt: skip


STRICT = ConfigDict(extra="forbid", strict=True, frozen=True, serialize_by_alias=True)


def whole(value: object) -> object:
    """1e6 and 1.0 as the integers that they are; anything else as it is."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Whole = Annotated[int, BeforeValidator(whole)]
"""An integer; 1e6 is one too."""

Layers = list[Annotated[Whole, Field(ge=1, le=65_536)]]


class Networks(BaseModel):
    """Hidden layers of the policy (pi) and the value function (vf), or of a Q-network (qf)."""

    model_config = STRICT

    pi: Layers = []
    vf: Layers = []
    qf: Layers = []


def _layers_or_networks(value: object) -> str:
    return "networks" if isinstance(value, dict | Networks) else "layers"


class PolicyKwargs(BaseModel):
    """The network, in names and numbers; code never comes from a study file."""

    model_config = STRICT

    net_arch: (
        Annotated[
            Annotated[Layers, Tag("layers")] | Annotated[Networks, Tag("networks")],
            Discriminator(_layers_or_networks),
        ]
        | None
    ) = None
    activation_fn: Literal["tanh", "relu", "elu", "leaky_relu", "gelu", "silu"] | None = None
    ortho_init: bool | None = None
    log_std_init: FiniteFloat | None = None


Engine = Literal["auto", "sb3", "lockstep"]
Device = Literal["cpu", "cuda"]


def obstacle_to_lockstep(algorithm: str, hyperparameters: dict[str, Any]) -> str | None:
    """Why runs of these are not trained in lockstep; None where they can be."""
    if algorithm != "PPO":
        return f"{algorithm} is not trained in lockstep, only PPO is"
    if hyperparameters["use_sde"]:
        return "use_sde is not trained in lockstep"
    return None


def linear_schedule_start(text: str) -> float:
    """The value that a schedule like `lin_2.5e-4` falls from, to 0 at the end of training."""
    with suppress(ValueError):
        if text.startswith("lin_"):
            return float(text.removeprefix("lin_"))
    raise ValueError("a number, or a linear schedule written like lin_2.5e-4, is expected")


def _check_schedule(value: float | str) -> float | str:
    start = linear_schedule_start(value) if isinstance(value, str) else value
    if not 0 < start < float("inf"):
        raise ValueError("a schedule starts above 0")
    return value


Schedule = Annotated[FiniteFloat | str, AfterValidator(_check_schedule)]


def _check_frequency(value: list[int | str]) -> list[int | str]:
    match value:
        case [int(), "step" | "episode"]:
            return value
    raise ValueError("a number of steps, or a list like [4, step] or [1, episode], is expected")


Frequency = Annotated[list[Whole | str], AfterValidator(_check_frequency)]

# How the names in the classes' annotations are checked in a study file.
TYPES: dict[str, Any] = {
    "float": FiniteFloat,
    "int": Whole,
    "bool": bool,
    "None": None,
    "Schedule": Schedule,
    "tuple[int, str]": Frequency,
}

# Values that the classes would accept and then fail or do nothing with.
BOUNDS: dict[str, Any] = {
    "gamma": Field(gt=0, le=1),
    "gae_lambda": Field(ge=0, le=1),
    "n_steps": Field(ge=1),
    "batch_size": Field(ge=2),
    "n_epochs": Field(ge=1),
    "buffer_size": Field(ge=1),
    "max_grad_norm": Field(gt=0),
    "tau": Field(ge=0, le=1),
}


@cache
def signature(algorithm: str) -> dict[str, tuple[str, Any]]:
    """Annotation (as text) and default of every hyperparameter of the installed class.

    Raises:
        ModuleNotFoundError: the package of the class is not installed.
    """
    package, file = LOCATIONS[algorithm]
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"{algorithm} needs the package {package}")
    module = ast.parse((Path(spec.origin).parent / file).read_text(encoding="utf-8"))
    arguments = _constructor(module, algorithm).args
    defaults = dict(zip(reversed(arguments.args), reversed(arguments.defaults), strict=False))
    return {
        argument.arg: (ast.unparse(argument.annotation), ast.literal_eval(defaults[argument]))
        for argument in arguments.args
        if argument in defaults and argument.annotation and argument.arg not in MANAGED
    }


def _constructor(module: ast.Module, class_name: str) -> ast.FunctionDef:
    return next(
        function
        for cls in module.body
        if isinstance(cls, ast.ClassDef) and cls.name == class_name
        for function in cls.body
        if isinstance(function, ast.FunctionDef) and function.name == "__init__"
    )


@cache
def hyperparameter_model(algorithm: str) -> type[BaseModel]:
    """A strict model of the keyword arguments that the class takes from a study."""
    fields: dict[str, Any] = {
        # Validated too: DQN's `max_grad_norm: float = 10` is the 10.0 of a study that says so.
        name: (_type(name, annotation), Field(default, validate_default=True))
        for name, (annotation, default) in signature(algorithm).items()
    }
    fields["policy_kwargs"] = (PolicyKwargs, PolicyKwargs())
    return create_model(f"{algorithm} hyperparameters", __config__=STRICT, **fields)


def _type(name: str, annotation: str) -> Any:
    parts = {part.strip() for part in annotation.split("|")}
    # A schedule takes every plain number too, so the union has one member and errors stay short.
    if "Schedule" in parts:
        parts -= {"float"}
    kind: Any = None
    for part in sorted(parts - {"None"}):
        kind = TYPES[part] if kind is None else kind | TYPES[part]
    kind = Annotated[kind, BOUNDS[name]] if name in BOUNDS else kind
    return kind | None if "None" in parts else kind
