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
from typing import Annotated, Any, Literal, get_args

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
    field_validator,
)

# class -> the package it is installed with and its file there.
LOCATIONS = {
    "PPO": ("stable_baselines3", "ppo/ppo.py"),
    "A2C": ("stable_baselines3", "a2c/a2c.py"),
    "DQN": ("stable_baselines3", "dqn/dqn.py"),
    "TRPO": ("sb3_contrib", "trpo/trpo.py"),
}

Algorithm = Literal["PPO", "A2C", "DQN", "TRPO", "REINFORCE", "GRPO"]
ALGORITHMS: tuple[str, ...] = get_args(Algorithm)

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

Seed = Annotated[Whole, Field(ge=0, lt=2**32)]

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


Engine = Literal["auto", "sb3", "lockstep", "episodic"]
Device = Literal["cpu", "cuda"]


def obstacle_to_lockstep(algorithm: str, hyperparameters: dict[str, Any]) -> str | None:
    """Why runs of these are not trained in lockstep; None where they can be."""
    if algorithm != "PPO":
        return f"{algorithm} is not trained in lockstep, only PPO is"
    if hyperparameters["use_sde"]:
        return "use_sde is not trained in lockstep"
    return None


SCHEDULED = "lin_"  # a value that falls from what follows to 0


def engine_of(algorithm: str, hyperparameters: dict[str, Any], wanted: Engine) -> Engine:
    """What trains runs of these, given what the study says.

    Raises:
        ValueError: not the engine that it says.
    """
    if algorithm in WITHOUT_CRITIC:
        if wanted not in ("auto", "episodic"):
            raise ValueError(f"{algorithm} learns from whole episodes; leave engine out")
        return "episodic"
    if wanted == "episodic":
        learners = " and ".join(WITHOUT_CRITIC)
        raise ValueError(f"only {learners} learn from whole episodes; leave engine out")
    obstacle = obstacle_to_lockstep(algorithm, hyperparameters)
    if wanted == "lockstep" and obstacle:
        raise ValueError(f"{obstacle}; leave engine out")
    return ("sb3" if obstacle else "lockstep") if wanted == "auto" else wanted


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


class WithoutCritic(BaseModel):
    """What the learners from whole episodes have in common."""

    model_config = STRICT

    learning_rate: Schedule = 1e-3
    gamma: Annotated[FiniteFloat, BOUNDS["gamma"]] = 0.99
    group_size: Annotated[Whole, Field(ge=2)] = Field(
        8, description="Episodes that begin in the same state, of the n_envs that an update has."
    )
    policy_kwargs: PolicyKwargs = PolicyKwargs()

    @field_validator("policy_kwargs")
    @classmethod
    def _without_values(cls, value: PolicyKwargs) -> PolicyKwargs:
        if isinstance(value.net_arch, Networks) and (value.net_arch.vf or value.net_arch.qf):
            raise ValueError("there is no critic: net_arch takes pi alone")
        return value


class Reinforce(WithoutCritic):
    """Hyperparameters of REINFORCE."""

    baseline: Literal["moving", "group"] = Field(
        "moving",
        description="What returns are compared with: a moving average over the updates before, or "
        "the other episodes of the group.",
    )


class Grpo(WithoutCritic):
    """Hyperparameters of GRPO."""

    n_epochs: Annotated[Whole, BOUNDS["n_epochs"]] = 4
    batch_size: Annotated[Whole, BOUNDS["batch_size"]] = Field(
        256, description="Transitions of a minibatch."
    )
    clip_range: Schedule = 0.2
    kl_coef: Annotated[FiniteFloat, Field(ge=0)] = Field(
        0.01, description="How much a step away from the reference policy costs."
    )
    reference_updates: Annotated[Whole, Field(ge=1)] = Field(
        10, description="Updates after which the policy of now becomes the reference."
    )
    ent_coef: FiniteFloat = 0.0
    max_grad_norm: Annotated[FiniteFloat, BOUNDS["max_grad_norm"]] = 0.5


# Learners of our own, each with its hyperparameters: they learn from whole episodes.
WITHOUT_CRITIC: dict[str, type[WithoutCritic]] = {"REINFORCE": Reinforce, "GRPO": Grpo}


def check_groups(algorithm: str, hyperparameters: dict[str, Any], n_envs: int) -> None:
    """Make sure that the episodes of an update can be divided into groups.

    Raises:
        ValueError: they cannot.
    """
    group_size = group_size_of(algorithm, hyperparameters)
    if n_envs % group_size:
        raise ValueError(
            f"an update of {algorithm} has one episode of each of the n_envs copies, and "
            f"{n_envs} cannot be divided into groups of {group_size} (group_size); "
            f"say training.n_envs: {group_size * max(1, round(n_envs / group_size))}"
        )


def group_size_of(algorithm: str, hyperparameters: dict[str, Any]) -> int:
    """How many episodes of an update begin in the same state."""
    grouped = algorithm == "GRPO" or hyperparameters.get("baseline") == "group"
    return int(hyperparameters["group_size"]) if grouped else 1


@cache
def hyperparameter_model(algorithm: str) -> type[BaseModel]:
    """A strict model of what a study may set: of a class, the keyword arguments that it takes."""
    if algorithm in WITHOUT_CRITIC:
        return WITHOUT_CRITIC[algorithm]
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
