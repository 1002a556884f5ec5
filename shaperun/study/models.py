"""The study file as models: what may stand in it, what it defaults to, what a run is made of."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)

from shaperun.common.validation import Model, Name, Seed, to_integer, validation_context
from shaperun.envs.base import Environment
from shaperun.rewards.config import PythonTerm, RewardConfig, Terms, check_potential
from shaperun.study.environment import EnvironmentConfig, describe_or_problem
from shaperun.study.sweep import Sweep
from shaperun.study.training import EvaluationConfig, TrainingConfig, merge_training


class Arm(RewardConfig):
    """A reward, and what is different about how it is trained."""

    training: TrainingConfig | None = Field(
        None,
        description="Keys of the recipe that are others for this arm. With another algorithm, only "
        "gamma is left of the study's hyperparameters.",
    )

    @field_validator("training", mode="before")
    @classmethod
    def _merge_with_study(cls, value: object, info: ValidationInfo) -> object:
        shared = validation_context(info, "training")
        if not (isinstance(value, dict) and isinstance(shared, dict)):
            return value
        steps = shared.get("total_timesteps")
        if value.get("total_timesteps", steps) != steps:
            raise ValueError("total_timesteps is the same for all arms of a study; leave it out")
        try:
            TrainingConfig.model_validate(shared, context=info.context)
        except ValidationError:
            return None  # its errors are reported already
        return merge_training(shared, value)

    @model_serializer(mode="wrap")
    def _serialize_own_keys(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        data = self._drop_defaults(handler)
        if self.training is None:
            del data["training"]
        else:
            del data["training"]["total_timesteps"]
        return data


def _seed_list(value: object) -> object:
    value = to_integer(value)
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 10_000:
        return list(range(value))
    return value


def _check_distinct(value: list[int]) -> list[int]:
    if len(set(value)) < len(value):
        raise ValueError("each seed may stand once")
    return value


Seeds = Annotated[
    list[Seed],
    Field(min_length=1, max_length=10_000),
    BeforeValidator(_seed_list, json_schema_input_type=Annotated[int, Field(ge=1)] | list[int]),
    AfterValidator(_check_distinct),
]


class Study(Model):
    """One study file: an environment, a recipe, seeds, an evaluation protocol and arms."""

    study: Name = Field(description="Names the results folder.")
    environment: EnvironmentConfig
    training: TrainingConfig
    seeds: Seeds = Field(
        [0, 1, 2, 3, 4], description="How many runs an arm (0 to n − 1), or which."
    )
    evaluation: EvaluationConfig = EvaluationConfig()
    terms: Terms = Field(
        {},
        description="Terms for all arms, recorded in every run: name -> formula, function or "
        "network.",
    )
    arms: dict[Name, Arm] = Field(min_length=1)
    sweep: Sweep | None = None

    @field_validator("sweep")
    @classmethod
    def _check_sweep_base(cls, value: Sweep | None, info: ValidationInfo) -> Sweep | None:
        environment: Environment | None = validation_context(info, "environment")
        base = value and info.data.get("arms", {}).get(value.base)
        if value and environment and base and base.mode == "potential":
            terms = {**info.data.get("terms", {}), **base.terms}
            check_potential(environment, terms, dict.fromkeys(value.weights, 1.0))
        return value

    @model_validator(mode="after")
    def _check_pruning(self) -> Self:
        if self.sweep and self.sweep.pruning and not self.training.learner.exact_resume:
            raise ValueError(
                f"sweep.pruning is not supported with {self.training.algorithm}; remove it"
            )
        return self

    @model_validator(mode="after")
    def _check_backend(self) -> Self:
        if self.environment.backend != "envpool":
            return self
        for training in (self.training, *(self.training_of(arm) for arm in self.arms.values())):
            if training.engine == "episodic":
                raise ValueError(
                    f"environment.backend: {training.algorithm} sets the initial state of every "
                    "episode, which EnvPool does not support; leave backend out"
                )
        return self

    @property
    def code(self) -> list[str]:
        """What the study names of Python code that no package declares as such."""
        definitions = [
            *self.terms.values(),
            *(d for a in self.arms.values() for d in a.terms.values()),
        ]
        named = [d.python for d in definitions if isinstance(d, PythonTerm)]
        return list(dict.fromkeys(name for name in [self.environment.id, *named] if ":" in name))

    @property
    def baseline(self) -> str:
        """The arm that the others are compared with: the first that leaves the reward alone."""
        plain = (name for name, reward in self.arms.items() if reward.mode == "log")
        return next(plain, next(iter(self.arms)))

    def baseline_of(self, arm: str) -> str:
        """What an arm is compared with.

        Where arms have recipes of their own, that is the first one that leaves the reward alone and
        is trained like it. If there is none, or it is that arm, it is the study's baseline.
        """
        own = self.training_of(self.arms[arm])
        plain = (name for name, reward in self.arms.items() if reward.mode == "log")
        alike = next((a for a in plain if self.training_of(self.arms[a]) == own), arm)
        return self.baseline if alike == arm else alike

    def resolved(self, reward: RewardConfig) -> RewardConfig:
        """A reward alone, with the terms that the study defines for all arms."""
        fields = {name: getattr(reward, name) for name in RewardConfig.model_fields}
        return RewardConfig.model_construct(**fields | {"terms": {**self.terms, **reward.terms}})

    def training_of(self, reward: RewardConfig) -> TrainingConfig:
        """How an arm is trained: as the study says, or in its own way."""
        own = reward.training if isinstance(reward, Arm) else None
        return own or self.training

    def run_config(self, reward: RewardConfig, seed: int) -> RunConfig:
        """Everything that decides the numbers of one run."""
        every = self.evaluation.every or max(1, self.training.total_timesteps // 20)
        return RunConfig(
            environment=self.environment,
            training=self.training_of(reward),
            evaluation=self.evaluation.model_copy(update={"every": every}),
            reward=self.resolved(reward),
            seed=seed,
        )


# How runs were trained before there was anything else: they keep their identity.
_IMPLIED = {"engine": "sb3", "device": "cpu"}


class RunConfig(Model):
    """The resolved configuration of one run: a run is a pure function of this."""

    environment: EnvironmentConfig
    training: TrainingConfig
    evaluation: EvaluationConfig
    reward: RewardConfig
    seed: Seed

    @property
    def identity(self) -> str:
        """SHA-256 of everything that can change the run's numbers, and of nothing else."""
        data = self.model_dump(mode="json")
        for key, value in _IMPLIED.items():
            if data["training"][key] == value:
                del data["training"][key]
        text = json.dumps(data, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


def parse_study(data: object, *, allow_code: bool = False) -> Study:
    """Validate plain data as a study, its terms against its environment.

    Args:
        data: what a study file holds.
        allow_code: whether it may name Python code that no package declares.

    Raises:
        pydantic.ValidationError: all that is wrong with it, at once.
    """
    environment, arms, terms, training = (
        part if isinstance(data, dict) and isinstance(part := data.get(key), dict) else {}
        for key in ("environment", "arms", "terms", "training")
    )
    known, problem = describe_or_problem(environment, allow_code=allow_code)
    return Study.model_validate(
        data,
        context={
            "environment": known,
            "problem": problem,
            "arms": arms,
            "terms": terms,
            "training": training,
            "allow_code": allow_code,
        },
    )
