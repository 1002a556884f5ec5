"""The `environment` section of a study file."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from contextlib import closing
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Discriminator,
    Field,
    JsonValue,
    Tag,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_core import PydanticCustomError

from shaperun.common.errors import UserError, describe_exception, find_place
from shaperun.common.validation import (
    Model,
    located_error,
    unknown_name_error,
    validation_context,
)
from shaperun.envs.base import Environment
from shaperun.envs.envpool_support import Backend, envpool_obstacle
from shaperun.envs.generic import (
    PACKAGE_HINT,
    SUCCESS_OUTCOMES,
    UnknownEnvironmentError,
    get_environment,
    view_through,
)
from shaperun.envs.spaces import UnsupportedEnvironmentError, describe_space
from shaperun.envs.wrapper_names import ALLOWED, REFUSED
from shaperun.rewards import syntax
from shaperun.study.outcomes import Metrics, Outcomes, declare, with_outcome_names

if TYPE_CHECKING:
    import gymnasium as gym

MAX_OPTIONS_LENGTH = 20_000  # in JSON; maps grow to many times their text
MAX_EPISODE_STEPS = 1_000_000  # an evaluation holds whole episodes


_MANAGED_OPTIONS = {"id", "render_mode", "disable_env_checker"}


def _check_finite(value: JsonValue) -> JsonValue:
    try:
        json.dumps(value, allow_nan=False)
    except ValueError:
        raise ValueError("Input should be plain data with finite numbers") from None
    return value


Option = Annotated[JsonValue, AfterValidator(_check_finite)]
"""A number, text, true, false or null, or lists and mappings of these."""


def _check_entry(value: object) -> object:
    """Refuse mappings that are no wrapper with its arguments, before unions make many errors."""
    if not isinstance(value, dict):
        if not isinstance(value, str):
            raise ValueError("Input should be a name or {Name: {argument: value}}")
        return value
    names = [name for name, arguments in value.items() if arguments is None]
    if names and len(value) == 1:
        raise ValueError(f"{names[0]} has a colon, but no arguments; remove the colon")
    if names:  # arguments beside the name and not below it
        raise ValueError(
            f"{names[0]} and {', '.join(n for n in value if n not in names)} are keys of one "
            "mapping; indent the arguments by more than the name, or write "
            f"{{{names[0]}: {{argument: value}}}}"
        )
    if len(value) != 1:
        raise ValueError(
            f"found {', '.join(map(str, value)) or 'nothing'} in one entry of the list; give each "
            "wrapper an entry of its own"
        )
    [(name, arguments)] = value.items()
    if not isinstance(arguments, dict):
        raise ValueError(
            f"arguments of {name} must be a mapping, as in {{{name}: {{argument: 1}}}}"
        )
    return value


Wrapper = Annotated[
    Annotated[str, Tag("name")]
    | Annotated[dict[str, dict[str, Option]], Field(min_length=1, max_length=1), Tag("arguments")],
    Discriminator(lambda value: "name" if isinstance(value, str) else "arguments"),
    BeforeValidator(_check_entry),
]


def check_wrapper(wrapper: Wrapper, *, allow_code: bool) -> None:
    """Check that a study may have a wrapper.

    Raises:
        ValueError: it is unknown, is code that may not run, or changes more than the view.
    """
    [name] = [wrapper] if isinstance(wrapper, str) else wrapper
    if name in REFUSED:
        raise ValueError(f"wrapper {name} is not allowed: {REFUSED[name]}")
    if ":" in name and not allow_code:
        raise ValueError(f"{name} is code; give --allow-code if you trust it")
    if ":" not in name and name not in ALLOWED:
        raise unknown_name_error("wrapper", name, ALLOWED)


class EnvironmentConfig(Model):
    """A gymnasium environment and the options it is created with."""

    added_later = frozenset({"ends_itself", "wrappers", "outcomes", "metrics", "backend"})

    id: str = Field(description="Id under which gymnasium registers the environment.")
    ends_itself: bool = Field(
        False,
        description="True if episodes end without a time limit of gymnasium, for environments that "
        "truncate themselves.",
    )
    options: dict[str, Option] = Field(
        {},
        validate_default=True,
        description="Keyword arguments of gymnasium.make: numbers, text, lists and mappings.",
    )
    wrappers: list[Wrapper] = Field(
        [],
        validate_default=True,
        max_length=20,
        description="Wrappers of gymnasium through which the learner sees and acts, innermost "
        "first: names, or {Name: {argument: value}}. Terms and the environment's reward are those "
        "behind them. Another wrapper is module:Class, which needs --allow-code.",
    )
    outcomes: Outcomes = Field(
        {},
        description="Outcomes of episodes instead of the environment's: name -> when, success. "
        "The first one that is true counts; episodes that match none end as other.",
    )
    metrics: Metrics = Field(
        {}, description="Metrics of episodes besides the environment's: name -> value, of, better."
    )
    backend: Backend = Field(
        "gymnasium",
        description="Simulator for training; envpool is faster and supports fewer environments. "
        "Evaluation always uses gymnasium.",
    )

    @field_validator("id")
    @classmethod
    def _check_id(cls, value: str, info: ValidationInfo) -> str:
        problem = validation_context(info, "problem")
        if isinstance(problem, UnknownEnvironmentError) and problem.module:
            shown = f"those that {problem.module} registers: {', '.join(problem.known)}"
            raise unknown_name_error("environment", value, problem.known, shown)
        if isinstance(problem, UnknownEnvironmentError):
            registered = "or any other id registered with gymnasium"
            shown = f"those that shaperun terms lists, {registered} ({PACKAGE_HINT})"
            raise unknown_name_error("environment", value, problem.known, shown)
        if problem:
            raise ValueError(f"{value} cannot be used: {problem}")
        return value

    @field_validator("backend")
    @classmethod
    def _check_backend(cls, value: Backend, info: ValidationInfo) -> Backend:
        if value == "envpool" and {"id", "options"} <= info.data.keys():
            obstacle = envpool_obstacle(info.data["id"], info.data["options"])
            if info.data.get("wrappers"):
                obstacle = obstacle or "EnvPool's environments have no wrappers"
            if obstacle:
                raise ValueError(f"{obstacle}; leave backend out")
        return value

    @property
    def reads_success(self) -> bool:
        """True if outcomes are those of `is_success` in the info of steps."""
        own = bool(self.outcomes)
        return not own and get_environment(self.id, self.options).outcomes is SUCCESS_OUTCOMES

    def describe(self) -> Environment:
        """Return the declaration of the environment."""
        environment = get_environment(self.id, self.options)
        return declare(environment, self.outcomes, self.metrics)

    @property
    def composite_observations(self) -> str:
        """The Dict or Tuple that the learner sees flattened; empty for other observations."""
        environment = self.describe()
        if self.wrappers:
            environment = view_through(environment, self.options, self.wrappers)
        described = environment.learner_view.described
        return described if described.startswith(("Dict", "Tuple")) else ""

    def make(
        self, *, render_mode: str | None = None, for_controller: bool = False
    ) -> gym.Env[Any, Any]:
        """Make the environment, unshaped, as a learner sees it or as a controller does.

        Raises:
            UserError: a package that it needs is not installed.
            Exception: anything that the code of the environment raises.
        """
        from shaperun.envs.make import make_environment  # gymnasium is slow to import

        environment = get_environment(self.id, self.options)
        module, remedy = environment.requires or ("gymnasium", "pip install gymnasium")
        if find_spec(module) is None:
            raise UserError(f"{self.id} needs {module}, which is not installed: {remedy}")
        options = copy.deepcopy(self.options)  # an environment may change its lists
        wrappers = None if for_controller else self.wrappers
        return make_environment(environment, options, wrappers, render_mode=render_mode)

    @field_validator("wrappers")
    @classmethod
    def _check_wrappers(cls, value: list[Wrapper], info: ValidationInfo) -> list[Wrapper]:
        environment: Environment | None = validation_context(info, "environment")
        allow_code = info.context is None or validation_context(info, "allow_code")
        for wrapper in value:
            check_wrapper(wrapper, allow_code=bool(allow_code))
        if value and environment and "options" in info.data:
            try:
                view_through(environment, info.data["options"], value)
            except UnsupportedEnvironmentError as problem:
                raise ValueError(
                    f"cannot apply these wrappers to {environment.id}: {problem}"
                ) from None
        return value

    def with_options(self, options: Mapping[str, Option]) -> EnvironmentConfig:
        """Return the environment with further options, which replace those of the same name."""
        return self.model_copy(update={"options": {**self.options, **options}}) if options else self

    @field_validator("options")
    @classmethod
    def _check_options(cls, value: dict[str, Option], info: ValidationInfo) -> dict[str, Option]:
        for name in _MANAGED_OPTIONS & value.keys():
            raise ValueError(f"{name} is set by shaperun; remove it")
        if "ends_itself" in value:
            raise located_error("ends_itself belongs beside options, in environment", "ends_itself")
        if len(json.dumps(value)) > MAX_OPTIONS_LENGTH:
            raise ValueError(f"longer than {MAX_OPTIONS_LENGTH:,} characters")
        limit = value.get("max_episode_steps")
        if isinstance(limit, int | float) and limit > MAX_EPISODE_STEPS:
            raise ValueError(f"max_episode_steps is {limit}, above the limit {MAX_EPISODE_STEPS:,}")
        environment: Environment | None = validation_context(info, "environment")
        if info.context is None and "id" in info.data:
            environment, problem = find_environment(
                {"id": info.data["id"], "options": value}, allow_code=True
            )
            if problem:
                raise ValueError(str(problem))
        ends_itself = info.data.get("ends_itself", True)  # by default: its error is reported
        if environment and environment.time_limit is None and not ends_itself:
            raise ValueError(
                f"no time limit of {environment.id} is known to gymnasium; set one, as in "
                "{max_episode_steps: 500}, or environment.ends_itself: true if all episodes end"
            )
        if environment and info.context is not None:
            _check_accepted(environment, value)
        return value


def _check_accepted(environment: Environment, options: Mapping[str, Option]) -> None:
    """Raise ValueError if the environment takes no such options, or a space has another size."""
    module, _ = environment.requires or ("gymnasium", "")
    if not options.keys() - {"max_episode_steps"} or find_spec(module) is None:
        return
    from shaperun.envs.make import make_environment  # gymnasium is slow to import

    try:
        make_environment(environment, copy.deepcopy(dict(options))).close()
    except (TypeError, ValueError) as error:
        # gymnasium adds all options to the message.
        cause = error.__context__ if type(error) is TypeError else None
        cause = cause or error
        why = describe_exception(cause) if find_place(cause) else cause
        raise ValueError(f"{environment.id} cannot be made with them: {why}") from error
    except Exception:  # noqa: S110 (a file may be missing here that results do not need)
        pass


def check_evaluation_options(
    data: dict[str, Any], options: Mapping[str, Option], context: Mapping[str, Any]
) -> None:
    """Check options that evaluation merges over those of an `environment` section.

    Raises:
        ValueError: the environment does not take them, or has other spaces with them.
    """
    try:
        training = EnvironmentConfig.model_validate(data, context=dict(context))
    except ValidationError:
        return  # reported already
    merged = {**data, "options": {**training.options, **options}, "backend": "gymnasium"}
    environment, problem = find_environment(merged, allow_code=context["allow_code"])
    if problem:
        raise ValueError(str(problem))
    try:
        evaluated = EnvironmentConfig.model_validate(
            merged, context={**context, "environment": environment}
        )
    except ValidationError as error:
        message = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise ValueError(message) from None
    _check_spaces(training, evaluated)


def _check_spaces(training: EnvironmentConfig, evaluated: EnvironmentConfig) -> None:
    """Raise ValueError if a policy of the one environment does not fit the other."""
    from shaperun.envs.wrappers import seen_space  # gymnasium is slow to import

    try:
        with closing(training.make()) as first, closing(evaluated.make()) as second:
            spaces = {
                "observation": (seen_space(first), seen_space(second)),
                "action": (first.action_space, second.action_space),
            }
    except Exception:  # reported when the environment is used
        return
    for kind, (here, there) in spaces.items():
        # Other data may have other bounds.
        is_alike = kind == "observation" and describe_space(here) == describe_space(there)
        if here != there and not is_alike:
            raise ValueError(
                f"the {kind} space is {there} with them and {here} in training; a policy needs "
                "the same spaces in both"
            )


def find_environment(
    data: dict[str, Any], *, allow_code: bool
) -> tuple[Environment | None, Exception | None]:
    """Return the environment of a section, or the error that prevents its use, or neither.

    Neither is returned for data of the wrong types, which field validation reports.
    """
    env_id, options = data.get("id"), data.get("options")
    if not isinstance(env_id, str):
        return None, None
    if ":" in env_id and not allow_code:
        # gymnasium imports the module in front of the colon.
        return None, UnsupportedEnvironmentError(
            "its id names Python code; pass --allow-code if you trust it"
        )
    options = options if isinstance(options, dict) else {}
    # Validation reports these; creation would open a window, or fail.
    refused = {*_MANAGED_OPTIONS, "ends_itself"}
    options = {key: value for key, value in options.items() if key not in refused}
    try:
        environment = get_environment(env_id, options)
        _check_observation_names(environment)
        environment = _seen_by_learner(environment, options, data.get("wrappers"), allow_code)
        return with_outcome_names(environment, data), None
    except UnsupportedEnvironmentError as problem:
        misplaced = sorted(options.keys() & EnvironmentConfig.model_fields.keys())
        if not misplaced:
            return None, problem
        hint = f"is {', '.join(misplaced)} a key of environment, to be written beside options?"
        return None, UnsupportedEnvironmentError(f"{problem}; {hint}")
    except UnknownEnvironmentError as problem:
        return None, problem
    except TypeError:  # options that are not plain data, which field validation reports
        return None, None


def _check_observation_names(environment: Environment) -> None:
    """Raise UnsupportedEnvironmentError if an observation has the name of a constant or function.

    Formulas could not use one of both.
    """
    meant = syntax.FUNCTIONS.union(syntax.CONSTANTS, [syntax.INFO])
    for name in environment.observations:
        if name in meant:
            raise UnsupportedEnvironmentError(
                f"the name of its observation {name} means something else in formulas; rename it"
            )


def _seen_by_learner(
    environment: Environment, options: dict[str, Any], wrappers: object, allow_code: bool
) -> Environment:
    """Return an environment as seen through valid wrappers; field validation reports others."""
    try:
        checked = TypeAdapter(list[Wrapper]).validate_python(wrappers or [])
        for wrapper in checked:
            check_wrapper(wrapper, allow_code=allow_code)
        return view_through(environment, options, checked) if checked else environment
    except (ValueError, PydanticCustomError):
        return environment
