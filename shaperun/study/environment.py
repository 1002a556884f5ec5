"""The `environment` section of a study file."""

from __future__ import annotations

import copy
import json
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import (
    AfterValidator,
    Field,
    JsonValue,
    SerializerFunctionWrapHandler,
    ValidationInfo,
    field_validator,
    model_serializer,
)

from shaperun.common.validation import Model, unknown_name_error, validation_context
from shaperun.envs.base import Environment
from shaperun.envs.builtin import environments
from shaperun.envs.envpool_support import Backend, envpool_obstacle
from shaperun.envs.generic import (
    PACKAGE_HINT,
    UnknownEnvironmentError,
    UnsupportedEnvironmentError,
    get_environment,
)

if TYPE_CHECKING:
    import gymnasium as gym

MAX_OPTIONS_LENGTH = 20_000  # in JSON; maps grow to many times their text
MAX_EPISODE_STEPS = 1_000_000  # an evaluation holds whole episodes


def _check_finite(value: JsonValue) -> JsonValue:
    try:
        json.dumps(value, allow_nan=False)
    except ValueError:
        raise ValueError("Input should be plain data with finite numbers") from None
    return value


Option = Annotated[JsonValue, AfterValidator(_check_finite)]
"""A number, text, true, false or null, or lists and mappings of these."""


class EnvironmentConfig(Model):
    """A gymnasium environment and the options it is created with."""

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
    backend: Backend = Field(
        "gymnasium",
        description="Simulator for training; envpool is faster and supports fewer environments. "
        "Evaluation always uses gymnasium.",
    )

    @field_validator("id")
    @classmethod
    def _check_id(cls, value: str, info: ValidationInfo) -> str:
        problem = validation_context(info, "problem")
        if isinstance(problem, UnknownEnvironmentError):
            registered = "or any other id registered with gymnasium"
            shown = f"{', '.join(environments())}, {registered} ({PACKAGE_HINT})"
            raise unknown_name_error("environment", value, problem.known, shown)
        if problem:
            raise ValueError(f"{value} cannot be used: {problem}")
        return value

    @field_validator("backend")
    @classmethod
    def _check_backend(cls, value: Backend, info: ValidationInfo) -> Backend:
        if value == "envpool" and {"id", "options"} <= info.data.keys():
            obstacle = envpool_obstacle(info.data["id"], info.data["options"])
            if obstacle:
                raise ValueError(f"{obstacle}; leave backend out")
        return value

    @model_serializer(mode="wrap")
    def _serialize_compatibly(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Runs from before there were these keys keep their identity.
        data: dict[str, Any] = handler(self)
        if self.backend == "gymnasium":
            data.pop("backend", None)
        if not self.ends_itself:
            data.pop("ends_itself", None)
        return data

    def describe(self) -> Environment:
        """Return the declaration of the environment."""
        return get_environment(self.id, self.options)

    def make(self, *, render_mode: str | None = None) -> gym.Env[Any, Any]:
        """Make the environment, unshaped."""
        from shaperun.envs.make import make_environment  # gymnasium is slow to import

        options = copy.deepcopy(self.options)  # an environment may change its lists
        return make_environment(self.describe(), options, render_mode=render_mode)

    @field_validator("options")
    @classmethod
    def _check_options(cls, value: dict[str, Option], info: ValidationInfo) -> dict[str, Option]:
        for name in {"id", "render_mode", "disable_env_checker"} & value.keys():
            raise ValueError(f"{name} is set by shaperun; remove it")
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
        return value


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
    try:
        return get_environment(env_id, options if isinstance(options, dict) else {}), None
    except (UnknownEnvironmentError, UnsupportedEnvironmentError) as problem:
        return None, problem
    except TypeError:  # options that are not plain data, which field validation reports
        return None, None
