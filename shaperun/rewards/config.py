"""Configuration of a reward: its terms, weights, mode and schedule."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    StringConstraints,
    Tag,
    ValidationError,
    ValidationInfo,
    field_serializer,
    field_validator,
    model_validator,
)
from pydantic.json_schema import SkipJsonSchema
from pydantic_core import PydanticCustomError

from shaperun.common.validation import (
    Bounded,
    Model,
    located_error,
    unknown_name_error,
    validation_context,
)
from shaperun.envs.base import OWN_REWARD, RESERVED, Environment, Term
from shaperun.envs.metrics import recorded_metrics
from shaperun.rewards import network_term, python_term
from shaperun.rewards.expression import expression_term
from shaperun.rewards.formula import ExpressionError, ParameterError
from shaperun.rewards.network_term import NetworkTerm
from shaperun.rewards.schedule import Schedule

TERM_NAME = r"^[a-z][a-z0-9_]{0,39}$"
NAME_RULE = "up to 40 lower-case letters (a to z), digits or _, starting with a letter"
TermName = Annotated[str, StringConstraints(pattern=TERM_NAME)]
Mode = Literal["log", "add", "replace", "potential"]


class FormulaTerm(Model):
    """Term that is a formula with parameters: every other key names a number in it."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Bounded]

    formula: str = Field(description="Formula over the transition; other keys are its parameters.")

    @property
    def parameters(self) -> dict[str, float]:
        """The parameters by name."""
        return self.__pydantic_extra__

    def with_parameter(self, name: str, value: float) -> FormulaTerm:
        """Return the term with another value of a parameter."""
        return FormulaTerm.model_validate({**self.model_dump(), name: value})

    @model_validator(mode="after")
    def _check_formula(self, info: ValidationInfo) -> Self:
        for name in self.parameters:
            if not re.match(TERM_NAME, name):
                raise located_error(f"invalid name of a parameter, expected {NAME_RULE}", name)
            if name in PythonTerm.model_fields or name in NetworkTerm.model_fields:
                raise located_error(f"{name} is a key of other terms; rename the parameter", name)
        environment: Environment | None = validation_context(info, "environment")
        if environment:
            check_formula(environment, self.formula, self.parameters, path=("formula",))
        return self


class PythonTerm(Model):
    """Term that is a Python function: an installed term, or any importable function."""

    python: Annotated[str, StringConstraints(min_length=1, max_length=200)] = Field(
        description="Name of an installed term (entry point shaperun.terms), or "
        "module:function, which needs --allow-code."
    )
    state_only: bool = Field(
        False,
        description="Whether the function takes observations (N, size) instead of transitions.",
    )

    @field_validator("python")
    @classmethod
    def _check_code_allowed(cls, value: str, info: ValidationInfo) -> str:
        if ":" in value:
            if info.context is not None and not validation_context(info, "allow_code"):
                raise ValueError(
                    f"{value} is code, not an installed term; give --allow-code if you trust it"
                )
        elif value not in python_term.installed_terms():
            raise unknown_name_error("installed term", value, python_term.installed_terms())
        return value


class FunctionTerm(Model):
    """Term that a script defines as a function; written out as a reference to it."""

    python: Callable[..., Any]
    state_only: bool = False

    @model_validator(mode="after")
    def _check_parameters(self) -> Self:
        if self.state_only:
            python_term.check_state_function(self.python)
        return self

    @field_serializer("python")
    def _name(self, function: Callable[..., Any]) -> str:
        return f"{function.__module__}:{getattr(function, '__qualname__', type(function).__name__)}"


def _take_function(value: object) -> object:
    if callable(value):
        return FunctionTerm(python=value)
    is_function = isinstance(value, dict) and callable(value.get("python"))
    return FunctionTerm.model_validate(value) if is_function else value


def _definition_kind(value: object) -> str:
    if isinstance(value, FunctionTerm):
        return "object"
    if isinstance(value, FormulaTerm) or (isinstance(value, dict) and "formula" in value):
        return "parameters"
    if isinstance(value, NetworkTerm) or (isinstance(value, dict) and "kind" in value):
        return "network"
    return "function" if isinstance(value, dict | PythonTerm) else "formula"


TermDefinition = str | FormulaTerm | PythonTerm | FunctionTerm | NetworkTerm
"""A formula over the transition, a Python function, or a network of the state."""

_TaggedDefinition = Annotated[
    Annotated[str, Tag("formula")]
    | Annotated[FormulaTerm, Tag("parameters")]
    | Annotated[PythonTerm, Tag("function")]
    | Annotated[NetworkTerm, Tag("network")]
    | SkipJsonSchema[Annotated[FunctionTerm, Tag("object")]],
    Discriminator(_definition_kind),
    BeforeValidator(_take_function),
]


def define_term(environment: Environment, name: str, definition: TermDefinition) -> Term:
    """Return the term of a definition; a Python function is imported on the first call.

    Raises:
        ExpressionError: the formula is invalid.
    """
    if isinstance(definition, PythonTerm | FunctionTerm):
        return python_term.python_term(name, definition.python, state_only=definition.state_only)
    if isinstance(definition, NetworkTerm):
        return network_term.network_term(name, definition)
    return expression_term(environment, name, *formula_of(definition))


def formula_of(definition: str | FormulaTerm) -> tuple[str, dict[str, float]]:
    """Return the text of a formula and its parameters."""
    if isinstance(definition, str):
        return definition, {}
    return definition.formula, definition.parameters


def check_formula(
    environment: Environment, text: str, parameters: Mapping[str, float], path: tuple[str, ...] = ()
) -> None:
    """Refuse a formula that is invalid on an environment; `path` leads to its text.

    Raises:
        PydanticCustomError: says where in the formula, or which parameter.
    """
    try:
        expression_term(environment, "", text, parameters)
    except ParameterError as error:
        raise located_error(str(error), error.parameter) from None
    except ExpressionError as error:
        # Not as the template: braces of a formula are not placeholders.
        context = {"offset": error.offset, "known": error.known, "name": error.name}
        raise PydanticCustomError(
            "formula", "{problem}", {"problem": str(error), "path": path, **context}
        ) from None


def check_definition(environment: Environment, value: TermDefinition) -> None:
    """Refuse a formula or network that is invalid on an environment.

    Raises:
        ValueError: the inputs of the network are not its observations.
        PydanticCustomError: says where in the formula, or which parameter.
    """
    if isinstance(value, NetworkTerm):
        inputs, size = value.sizes[0], environment.observation_size
        if inputs != size:
            raise ValueError(
                f"the network takes {inputs} inputs, but observations of {environment.id} have "
                f"{size} values"
            )
    if isinstance(value, str | FormulaTerm):
        check_formula(environment, *formula_of(value))


def _check_definition(value: TermDefinition, info: ValidationInfo) -> TermDefinition:
    environment: Environment | None = validation_context(info, "environment")
    if environment and isinstance(value, NetworkTerm | str):
        check_definition(environment, value)
    # A formula without parameters is the same term, and the same run, as its text.
    return value.formula if isinstance(value, FormulaTerm) and not value.parameters else value


def _check_name_is_free(name: str, info: ValidationInfo) -> str:
    environment: Environment | None = validation_context(info, "environment")
    metrics = recorded_metrics(environment) if environment else {}
    check_name_is_free(name, environment, metrics)
    return name


def check_name_is_free(
    name: str, environment: Environment | None, metrics: Collection[str] = ()
) -> None:
    """Refuse a name that a column, or something of the environment, has.

    Raises:
        ValueError: says what has it.
    """
    used: list[tuple[Collection[str], str]] = [(RESERVED, "a column of the results")]
    if environment:
        env_id = environment.id
        used += [
            ([OWN_REWARD], f"the own reward of {env_id}"),
            (environment.terms, f"a term of {env_id}"),
            (environment.outcomes, f"an outcome of {env_id}"),
            (metrics, f"a metric of {env_id}"),
        ]
    for names, user in used:
        if name in names:
            raise ValueError(f"the name {name} is already in use by {user}; choose another one")


Terms = Annotated[
    dict[
        Annotated[TermName, AfterValidator(_check_name_is_free)],
        Annotated[_TaggedDefinition, AfterValidator(_check_definition)],
    ],
    Field(max_length=50),
]
"""Name -> definition of terms in addition to those of the environment."""


def _check_weight_name(name: str, info: ValidationInfo) -> str:
    if "terms" in info.data:  # otherwise their error is already reported
        defined = {**(validation_context(info, "terms") or {}), **info.data["terms"]}
        check_weighable(name, validation_context(info, "environment"), defined)
    return name


def check_weighable(
    name: str, environment: Environment | None, defined: Mapping[str, object]
) -> None:
    """Refuse names that are terms neither of the environment nor of the study.

    Raises:
        PydanticCustomError: the name is unknown; lists the known names.
    """
    if environment and name not in environment.built_in and name not in defined:
        raise unknown_name_error(f"{environment.id} term", name, [*environment.built_in, *defined])


class RewardConfig(Model):
    """Reward of an arm: weighted terms, and how they change the environment's reward."""

    added_later = frozenset({"terms", "schedule"})

    terms: Terms = Field(
        {},
        description="Terms of this arm only: name -> formula, function or network, or parameters "
        "in which the study's term of this name differs.",
    )
    weights: dict[Annotated[str, AfterValidator(_check_weight_name)], Bounded] = Field(
        {}, description="Term -> weight."
    )
    mode: Mode = Field(
        None,
        validate_default=True,
        description="log: only record; add: r + S; replace: S; potential: r + γΦ(s′) − Φ(s). "
        "Arms without weights log by default.",
    )
    scale: Bounded = Field(1.0, description="Factor on all weights.")
    schedule: Schedule | None = Field(
        None, description="Factor on shaping as a function of training progress."
    )

    @field_validator("mode", mode="before")
    @classmethod
    def _check_mode(cls, value: object, info: ValidationInfo) -> object:
        if value is None and info.data.get("weights"):
            raise PydanticCustomError("missing", "an arm with weights needs a mode")
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


def check_potential(
    environment: Environment, terms: Mapping[str, Any], weights: Mapping[str, float]
) -> None:
    """Refuse weighted terms that depend on more than the state.

    Raises:
        ValueError: names these terms.
    """
    invalid = [
        name for name, w in weights.items() if w and not _is_state_term(environment, terms, name)
    ]
    if invalid:
        raise ValueError(
            f"a potential is a function of the state, but {', '.join(invalid)} "
            f"{'depends' if len(invalid) == 1 else 'depend'} on more than that"
        )


def _is_state_term(environment: Environment, terms: Mapping[str, Any], name: str) -> bool:
    built_in = environment.built_in.get(name)
    if built_in:
        return built_in.state_only
    definition = terms.get(name)
    if isinstance(definition, PythonTerm | FunctionTerm):
        return definition.state_only
    if isinstance(definition, NetworkTerm):
        return True
    if isinstance(definition, dict):
        if "formula" not in definition:
            return "kind" in definition or bool(definition.get("state_only"))
        try:
            definition = FormulaTerm.model_validate(definition)
        except ValidationError:  # already reported for the definition
            return True
    if not isinstance(definition, FormulaTerm):
        definition = str(definition)
    try:
        return expression_term(environment, name, *formula_of(definition)).state_only
    except ExpressionError:  # already reported for the definition
        return True


def shaping_factor(config: RewardConfig) -> Callable[[float], float]:
    """Return the factor on shaping as a function of the share of training; 1 without a schedule."""
    return config.schedule or _constant_factor


def _constant_factor(_progress: float) -> float:
    return 1.0
