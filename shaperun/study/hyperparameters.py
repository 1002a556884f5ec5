"""Hyperparameters as the signatures of the learners' classes state them.

The signature is read from the installed source: importing the class would import torch, and a
study file should be checked in milliseconds.
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
    Discriminator,
    Field,
    FiniteFloat,
    Tag,
    create_model,
)

from shaperun.common.validation import STRICT, Integer

# Parameters of the classes that a study says in other words, or that change no number of a run.
MANAGED = {
    "policy", "env", "seed", "device", "verbose", "tensorboard_log", "stats_window_size",
    "rollout_buffer_class", "rollout_buffer_kwargs", "replay_buffer_class",
    "replay_buffer_kwargs", "policy_kwargs", "_init_setup_model",
}  # fmt: skip


Layers = list[Annotated[Integer, Field(ge=1, le=65_536)]]


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


SCHEDULED = "lin_"  # a value that falls from what follows to 0


def linear_schedule_start(text: str) -> float:
    """The value that a schedule like `lin_2.5e-4` falls from, to 0 at the end of training."""
    with suppress(ValueError):
        if text.startswith(SCHEDULED):
            return float(text.removeprefix(SCHEDULED))
    raise ValueError("a number, or a linear schedule written like lin_2.5e-4, is expected")


def _check_schedule(value: float | str) -> float | str:
    start = linear_schedule_start(value) if isinstance(value, str) else value
    if not 0 < start < float("inf"):
        raise ValueError("a schedule starts above 0")
    return value


ScheduledFloat = Annotated[FiniteFloat | str, AfterValidator(_check_schedule)]


def _check_frequency(value: list[int | str]) -> list[int | str]:
    match value:
        case [int(), "step" | "episode"]:
            return value
    raise ValueError("a number of steps, or a list like [4, step] or [1, episode], is expected")


Frequency = Annotated[list[Integer | str], AfterValidator(_check_frequency)]

# How the names in the classes' annotations are checked in a study file.
TYPES: dict[str, Any] = {
    "float": FiniteFloat,
    "int": Integer,
    "bool": bool,
    "None": None,
    "Schedule": ScheduledFloat,
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
def signature(implementation: str) -> dict[str, tuple[str, Any]]:
    """Return annotation (as text) and default of every hyperparameter of an installed class.

    Args:
        implementation: the class, as `module:class`.

    Raises:
        ModuleNotFoundError: the package of the class is not installed.
    """
    module_name, _, class_name = implementation.partition(":")
    package, *parts = module_name.split(".")
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"{class_name} needs the package {package}")
    file = Path(spec.origin).parent.joinpath(*parts).with_suffix(".py")
    arguments = _constructor(ast.parse(file.read_text(encoding="utf-8")), class_name).args
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
    # A schedule takes every plain number too, so the union has one member and errors stay short.
    if "Schedule" in parts:
        parts -= {"float"}
    kind: Any = None
    for part in sorted(parts - {"None"}):
        kind = TYPES[part] if kind is None else kind | TYPES[part]
    kind = Annotated[kind, BOUNDS[name]] if name in BOUNDS else kind
    return kind | None if "None" in parts else kind
