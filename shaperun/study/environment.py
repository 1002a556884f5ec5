"""The `environment` section of a study file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import (
    Field,
    FiniteFloat,
    SerializerFunctionWrapHandler,
    ValidationInfo,
    field_validator,
    model_serializer,
)

from shaperun.common.validation import Model, unknown_name_error, validation_context
from shaperun.envs.base import Environment
from shaperun.envs.builtin import environments
from shaperun.envs.envpool_support import Backend, why_not_envpool
from shaperun.envs.generic import (
    UnknownEnvironmentError,
    UnsupportedEnvironmentError,
    get_environment,
)

if TYPE_CHECKING:
    import gymnasium as gym

Scalar = bool | int | FiniteFloat | str | None


class EnvironmentConfig(Model):
    """Which gymnasium environment, and how `gymnasium.make` is to make it."""

    id: str = Field(description="The id that gymnasium registers the environment under.")
    options: dict[str, Scalar] = Field(
        {}, validate_default=True, description="Keyword arguments of gymnasium.make."
    )
    backend: Backend = Field(
        "gymnasium",
        description="What steps the environments of training; envpool is faster and has a few. "
        "Evaluation is gymnasium's in any case.",
    )

    @field_validator("id")
    @classmethod
    def _check_id(cls, value: str, info: ValidationInfo) -> str:
        problem = validation_context(info, "problem")
        try:
            if problem:
                raise problem
        except UnknownEnvironmentError as error:
            ours = ", ".join(environments())
            shown = f"{ours}, or any other that gymnasium has registered"
            raise unknown_name_error("environment", value, error.known, shown) from None
        except UnsupportedEnvironmentError as error:
            raise ValueError(f"{value} cannot be used: {error}") from None
        return value

    @field_validator("backend")
    @classmethod
    def _check_backend(cls, value: Backend, info: ValidationInfo) -> Backend:
        if value == "envpool" and {"id", "options"} <= info.data.keys():
            obstacle = why_not_envpool(info.data["id"], info.data["options"])
            if obstacle:
                raise ValueError(f"not by EnvPool: {obstacle}; leave backend out")
        return value

    @model_serializer(mode="wrap")
    def _serialize_compatibly(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # So that a run keeps its identity where shaperun learns to do more.
        data: dict[str, Any] = handler(self)
        if self.backend == "gymnasium":
            data.pop("backend", None)
        return data

    def describe(self) -> Environment:
        """What is known about it."""
        return get_environment(self.id, self.options)

    def make(self, *, render_mode: str | None = None) -> gym.Env[Any, Any]:
        """Make the environment, unshaped."""
        from shaperun.envs.make import make_environment  # gymnasium takes a moment to import

        return make_environment(self.describe(), self.options, render_mode=render_mode)

    @field_validator("options")
    @classmethod
    def _check_options(cls, value: dict[str, Scalar], info: ValidationInfo) -> dict[str, Scalar]:
        for name in {"id", "render_mode", "disable_env_checker"} & value.keys():
            raise ValueError(f"{name} is set by shaperun itself")
        environment: Environment | None = validation_context(info, "environment")
        if info.context is None and "id" in info.data:
            environment, problem = describe_or_problem(
                {"id": info.data["id"], "options": value}, allow_code=True
            )
            if problem:
                raise ValueError(str(problem))
        if environment and environment.no_time_limit:
            raise ValueError(
                f"nothing limits the length of {environment.id}'s episodes, and a policy that gets "
                "nowhere would never end; say so here, as in {max_episode_steps: 500}"
            )
        return value


def describe_or_problem(
    data: dict[str, Any], *, allow_code: bool
) -> tuple[Environment | None, Exception | None]:
    env_id, options = data.get("id"), data.get("options")
    if not isinstance(env_id, str):
        return None, None
    if ":" in env_id and not allow_code:
        # gymnasium imports the module in front of the colon.
        return None, UnsupportedEnvironmentError("it names code; give --allow-code if you trust it")
    try:
        return get_environment(env_id, options if isinstance(options, dict) else {}), None
    except (UnknownEnvironmentError, UnsupportedEnvironmentError) as problem:
        return None, problem
    except TypeError:  # options that are no plain values; their own error says so
        return None, None
