"""Hyperparameters of learner classes, read from the signatures of their constructors.

Signatures are parsed from the installed source: importing a class would import torch, and a study
file should be checked in milliseconds.
"""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Sequence
from contextlib import suppress
from functools import cache, reduce
from itertools import pairwise
from operator import or_
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, Discriminator, Field, FiniteFloat, Tag, create_model

from shaperun.common.validation import STRICT, Integer

# Parameters that a study sets elsewhere, or that do not affect the numbers of a run.
MANAGED = {
    "policy", "env", "seed", "device", "verbose", "tensorboard_log", "stats_window_size",
    "rollout_buffer_class", "rollout_buffer_kwargs", "replay_buffer_class",
    "replay_buffer_kwargs", "policy_kwargs", "_init_setup_model",
}  # fmt: skip

MAX_PARAMETERS = 10_000_000  # of a network; a checkpoint holds each three times

Layers = Annotated[list[Annotated[Integer, Field(ge=1, le=65_536)]], Field(max_length=32)]


def count_weights(layers: Sequence[int]) -> int:
    """Return the number of weights between layers of these sizes."""
    return sum(a * b for a, b in pairwise(layers))


class Networks(BaseModel):
    """Hidden layers of the policy (pi) and the value function (vf), or of a Q-network (qf)."""

    model_config = STRICT

    pi: Layers = []
    vf: Layers = []
    qf: Layers = []


def _check_size(value: Any) -> Any:
    networks = value.model_dump().values() if isinstance(value, Networks) else [value or []]
    for layers in networks:
        if count_weights(layers) > MAX_PARAMETERS:
            raise ValueError(
                f"a network of {count_weights(layers):,} weights, above the limit of "
                f"{MAX_PARAMETERS:,}; take smaller layers"
            )
    return value


def _layers_or_networks(value: object) -> str:
    return "networks" if isinstance(value, dict | Networks) else "layers"


class PolicyKwargs(BaseModel):
    """Network architecture in names and numbers; a study file contains no code."""

    model_config = STRICT

    net_arch: (
        Annotated[
            Annotated[Layers, Tag("layers")] | Annotated[Networks, Tag("networks")],
            Discriminator(_layers_or_networks),
            AfterValidator(_check_size),
        ]
        | None
    ) = None
    activation_fn: Literal["tanh", "relu", "elu", "leaky_relu", "gelu", "silu"] | None = None
    ortho_init: bool | None = None
    log_std_init: FiniteFloat | None = None


LINEAR_PREFIX = "lin_"


def linear_schedule_start(text: str) -> float:
    """Return the initial value of a schedule like `lin_2.5e-4`, which falls linearly to 0."""
    with suppress(ValueError):
        if text.startswith(LINEAR_PREFIX):
            return float(text.removeprefix(LINEAR_PREFIX))
    raise ValueError("Input should be a number or a linear schedule like lin_2.5e-4")


def _check_schedule(value: float | str) -> float | str:
    start = linear_schedule_start(value) if isinstance(value, str) else value
    if not 0 < start < float("inf"):
        raise ValueError("Input should be a number above 0, or a schedule that starts above 0")
    return value


ScheduledFloat = Annotated[FiniteFloat | str, AfterValidator(_check_schedule)]


def _check_frequency(value: list[int | str]) -> list[int | str]:
    match value:
        case [int(), "step" | "episode"]:
            return value
    raise ValueError("Input should be a number of steps, or a list like [4, step] or [1, episode]")


Frequency = Annotated[list[Integer | str], AfterValidator(_check_frequency)]

# Annotation in a class -> type in a study file.
TYPES: dict[str, Any] = {
    "float": FiniteFloat,
    "int": Integer,
    "bool": bool,
    "None": None,
    "Schedule": ScheduledFloat,
    "tuple[int, str]": Frequency,
}

# Bounds that the classes do not check: values beyond them fail during training or have no effect.
BOUNDS: dict[str, Any] = {
    "gamma": Field(gt=0, le=1),
    "gae_lambda": Field(ge=0, le=1),
    "n_steps": Field(ge=1, le=10_000_000),
    "batch_size": Field(ge=2, le=10_000_000),
    "n_epochs": Field(ge=1, le=100_000),
    "buffer_size": Field(ge=1, le=1_000_000_000),
    "max_grad_norm": Field(gt=0),
    "tau": Field(ge=0, le=1),
}


@cache
def signature(implementation: str) -> dict[str, tuple[str, Any]]:
    """Return annotation (as text) and default of every hyperparameter of a class, `module:class`.

    Raises:
        ModuleNotFoundError: the package of the class is not installed.
    """
    module_name, _, class_name = implementation.partition(":")
    package, *parts = module_name.split(".")
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"{class_name} needs the package {package}")
    file = Path(spec.origin).parent.joinpath(*parts).with_suffix(".py")
    module = ast.parse(file.read_text(encoding="utf-8"))
    [cls] = [n for n in module.body if isinstance(n, ast.ClassDef) and n.name == class_name]
    [init] = [n for n in cls.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"]
    arguments = init.args
    defaults = dict(zip(reversed(arguments.args), reversed(arguments.defaults), strict=False))
    return {
        argument.arg: (ast.unparse(argument.annotation), ast.literal_eval(defaults[argument]))
        for argument in arguments.args
        if argument in defaults and argument.annotation and argument.arg not in MANAGED
    }


@cache
def hyperparameters_of(implementation: str) -> type[BaseModel]:
    """Return a strict model of the keyword arguments of a class, given as `module:class`."""
    fields: dict[str, Any] = {
        # Defaults are validated too: DQN's `max_grad_norm: float = 10` equals a study's 10.0.
        name: (_type(name, annotation), Field(default, validate_default=True))
        for name, (annotation, default) in signature(implementation).items()
    }
    fields["policy_kwargs"] = (PolicyKwargs, PolicyKwargs())
    name = implementation.rpartition(":")[2]
    return create_model(f"{name} hyperparameters", __config__=STRICT, **fields)


def _type(name: str, annotation: str) -> Any:
    parts = {part.strip() for part in annotation.split("|")}
    # A schedule also accepts plain numbers; a union with one member keeps errors short.
    if "Schedule" in parts:
        parts -= {"float"}
    kind = reduce(or_, (TYPES[part] for part in sorted(parts - {"None"})))
    kind = Annotated[kind, BOUNDS[name]] if name in BOUNDS else kind
    return kind | None if "None" in parts else kind
