"""An arm, one reward: the terms it defines, what it weighs, its mode and its schedule."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    Discriminator,
    Field,
    FiniteFloat,
    SerializerFunctionWrapHandler,
    StringConstraints,
    Tag,
    ValidationInfo,
    field_validator,
    model_serializer,
)
from pydantic_core import PydanticCustomError

from shaperun.common.validation import Model, unknown_name_error, validation_context
from shaperun.envs.base import RESERVED, Environment, Term
from shaperun.rewards import network_term, python_term
from shaperun.rewards.compiler import ExpressionError
from shaperun.rewards.expression import expression_term
from shaperun.rewards.network_term import NetworkTerm
from shaperun.rewards.schedule import Schedule

TERM_NAME = r"^[a-z][a-z0-9_]{0,39}$"
NewTerm = Annotated[str, StringConstraints(pattern=TERM_NAME)]
Mode = Literal["log", "add", "replace", "potential"]


class PythonTerm(Model):
    """A term that is a function of installed code, or of code that lies about."""

    python: Annotated[str, StringConstraints(min_length=1, max_length=200)] = Field(
        description="The name of an installed term (entry point shaperun.terms), or "
        "module:function, which needs --allow-code."
    )
    state_only: bool = Field(
        False,
        description="Whether it is a function of observations (N, size) and not of transitions.",
    )

    @field_validator("python")
    @classmethod
    def _check_code_allowed(cls, value: str, info: ValidationInfo) -> str:
        if ":" in value:
            if info.context is not None and not validation_context(info, "allow_code"):
                raise ValueError(
                    f"{value} is code from outside of what is installed as terms; give "
                    "--allow-code if you trust it"
                )
        elif value not in python_term.installed_terms():
            raise unknown_name_error("installed term", value, python_term.installed_terms())
        return value


def _kind(value: object) -> str:
    if isinstance(value, NetworkTerm) or (isinstance(value, dict) and "kind" in value):
        return "network"
    return "function" if isinstance(value, dict | PythonTerm) else "formula"


AnyTerm = str | PythonTerm | NetworkTerm
"""What a term is: a formula over the transition, a function, or a network of the state."""

Definition = Annotated[
    Annotated[str, Tag("formula")]
    | Annotated[PythonTerm, Tag("function")]
    | Annotated[NetworkTerm, Tag("network")],
    Discriminator(_kind),
]


def define_term(environment: Environment, name: str, definition: AnyTerm) -> Term:
    """The term that a study defines; a function is imported when it is first called.

    Raises:
        ExpressionError: the formula will not do.
    """
    if isinstance(definition, PythonTerm):
        return python_term.python_term(name, definition.python, state_only=definition.state_only)
    if isinstance(definition, NetworkTerm):
        return network_term.network_term(name, definition)
    return expression_term(environment, name, definition)


def _check_definition(value: AnyTerm, info: ValidationInfo) -> AnyTerm:
    environment: Environment | None = validation_context(info, "environment")
    if environment and isinstance(value, NetworkTerm):
        taken, size = value.sizes[0], environment.observation_size
        if taken != size:
            raise ValueError(
                f"the network takes {taken} numbers, and an observation of {environment.id} is "
                f"{size}"
            )
    if environment and isinstance(value, str):
        try:
            expression_term(environment, "", value)
        except ExpressionError as error:
            # The braces of a formula are no placeholders.
            raise PydanticCustomError(
                "formula",
                "{problem}",
                {
                    "problem": str(error),
                    "offset": error.offset,
                    "known": error.known,
                    "name": error.name,
                },
            ) from None
    return value


def _check_new(name: str, info: ValidationInfo) -> str:
    environment: Environment | None = validation_context(info, "environment")
    taken = RESERVED | (environment.built_in.keys() if environment else set())
    if name in taken:
        raise ValueError(f"{name} is taken already, choose another name")
    return name


Terms = Annotated[
    dict[
        Annotated[NewTerm, AfterValidator(_check_new)],
        Annotated[Definition, AfterValidator(_check_definition)],
    ],
    Field(max_length=50),
]
"""Name -> definition of terms beside the environment's own."""


def _check_weight_name(name: str, info: ValidationInfo) -> str:
    if "terms" in info.data:  # or their own error is reported already
        own = {**(validation_context(info, "terms") or {}), **info.data["terms"]}
        check_weighable(name, validation_context(info, "environment"), own)
    return name


def check_weighable(name: str, environment: Environment | None, own: Mapping[str, object]) -> None:
    """Refuse a name that is no term of the environment and none of the study's own.

    Raises:
        PydanticCustomError: lists what there is.
    """
    if environment and name not in environment.built_in and name not in own:
        raise unknown_name_error(f"{environment.id} term", name, [*environment.built_in, *own])


class RewardConfig(Model):
    """One reward: weighted terms and what they do to the environment's own reward."""

    terms: Terms = Field(
        {}, description="Terms of this arm's own: name -> formula, function or network."
    )
    weights: dict[Annotated[str, AfterValidator(_check_weight_name)], FiniteFloat] = Field(
        {}, description="Term -> weight."
    )
    mode: Mode = Field(
        None,
        validate_default=True,
        description="log: only record; add: r + S; replace: S; potential: r + γΦ(s′) − Φ(s). "
        "An arm without weights needs none: it logs.",
    )
    scale: FiniteFloat = Field(1.0, description="A factor on all weights.")
    schedule: Schedule | None = Field(
        None, description="How the weight of shaping changes over training."
    )

    @field_validator("mode", mode="before")
    @classmethod
    def _check_mode(cls, value: object, info: ValidationInfo) -> object:
        if value is None and info.data.get("weights"):
            raise PydanticCustomError("missing", "an arm with weights must name its mode")
        return "log" if value is None else value

    @field_validator("mode")
    @classmethod
    def _check_potential(cls, value: Mode, info: ValidationInfo) -> Mode:
        environment: Environment | None = validation_context(info, "environment")
        if value == "potential" and environment and "terms" in info.data:
            shared = validation_context(info, "terms") or {}
            terms = {**shared, **info.data["terms"]}
            check_potential(environment, terms, info.data.get("weights", {}))
        return value

    @model_serializer(mode="wrap")
    def _drop_defaults(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # So that a run keeps its identity where shaperun learns to do more.
        data: dict[str, Any] = handler(self)
        unused: dict[str, Any] = {"terms": {}, "schedule": None}
        return {k: v for k, v in data.items() if k not in unused or v != unused[k]}


def check_potential(
    environment: Environment, terms: Mapping[str, Any], weights: Mapping[str, float]
) -> None:
    """Refuse weighted terms that depend on the action: a potential is a function of the state.

    Raises:
        ValueError: names those terms.
    """
    wrong = [
        name for name, w in weights.items() if w and not _is_state_term(environment, terms, name)
    ]
    if wrong:
        raise ValueError(
            f"a potential is a function of the state, and {', '.join(wrong)} "
            f"{'depends' if len(wrong) == 1 else 'depend'} on more than that"
        )


def _is_state_term(environment: Environment, terms: Mapping[str, Any], name: str) -> bool:
    built_in = environment.built_in.get(name)
    if built_in:
        return built_in.state_only
    definition = terms.get(name)
    if isinstance(definition, PythonTerm):
        return definition.state_only
    if isinstance(definition, NetworkTerm):
        return True
    if isinstance(definition, dict):
        return "kind" in definition or bool(definition.get("state_only"))
    try:
        return expression_term(environment, name, str(definition)).state_only
    except ExpressionError:  # its own error is reported already
        return True


Factor = Callable[[float], float]
"""Share of training done -> factor on the weight of shaping."""


def shaping_factor(config: RewardConfig) -> Factor:
    """The schedule of a reward; without one the factor is 1 throughout."""
    return config.schedule or (lambda progress: 1.0)
