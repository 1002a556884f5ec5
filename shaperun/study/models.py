"""Models of a study file and of the configuration of a run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PrivateAttr,
    SerializerFunctionWrapHandler,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)
from pydantic_core import PydanticCustomError

from shaperun.common.text import format_options
from shaperun.common.validation import (
    Model,
    Name,
    Seed,
    to_integer,
    validation_context,
)
from shaperun.envs.base import Environment
from shaperun.rewards.config import (
    PythonTerm,
    RewardConfig,
    Terms,
    check_definition,
    check_potential,
)
from shaperun.study.environment import EnvironmentConfig, find_environment
from shaperun.study.parameters import check_swept_parameters, inherit_formulas
from shaperun.study.sweep import Sweep, split_parameter
from shaperun.study.training import EvaluationConfig, TrainingConfig, merge_training


class Arm(RewardConfig):
    """A reward, and how its training differs from the study's."""

    added_later = RewardConfig.added_later | {"training"}

    training: TrainingConfig | None = Field(
        None,
        description="Training keys that differ for this arm. With another algorithm, gamma is the "
        "only hyperparameter inherited from the study.",
    )

    @field_validator("terms", mode="before")
    @classmethod
    def _inherit_formulas(cls, value: object, info: ValidationInfo) -> object:
        return inherit_formulas(value, info) if isinstance(value, dict) else value

    @field_validator("training", mode="before")
    @classmethod
    def _merge_with_study(cls, value: object, info: ValidationInfo) -> object:
        shared = validation_context(info, "training")
        if not (isinstance(value, dict) and isinstance(shared, dict)):
            return value
        steps = shared.get("total_timesteps")
        if value.get("total_timesteps", steps) != steps:
            raise ValueError("total_timesteps is the same for all arms of a study; remove it here")
        try:
            TrainingConfig.model_validate(shared, context=info.context)
        except ValidationError:
            return None  # reported already
        return merge_training(shared, value)

    @model_serializer(mode="wrap")
    def serialize_compatibly(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out fields that were added later while they are at their defaults."""
        data = super().serialize_compatibly(handler)
        if self.training:
            del data["training"]["total_timesteps"]
        return data


def _seed_list(value: object) -> object:
    value = to_integer(value)
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 10_000:
        return list(range(value))
    if isinstance(value, int | float | str):
        raise ValueError(f"found {value!r}, expected a number from 1 to 10,000, or a list of seeds")
    return value


def _check_distinct(value: list[int]) -> list[int]:
    if len(set(value)) < len(value):
        raise ValueError("duplicate seeds; list each seed once")
    return value


Seeds = Annotated[
    list[Seed],
    Field(min_length=1, max_length=10_000),
    BeforeValidator(_seed_list, json_schema_input_type=Annotated[int, Field(ge=1)] | list[int]),
    AfterValidator(_check_distinct),
]


class Study(Model):
    """A study: an environment, training, seeds, evaluation and the arms to compare."""

    study: Name = Field(description="Name of the study and of its results folder.")
    environment: EnvironmentConfig
    training: TrainingConfig
    seeds: Seeds = Field(
        [0, 1, 2, 3, 4], description="Runs per arm: a number n for seeds 0 to n − 1, or a list."
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
            swept = {name for name in value.weights if not split_parameter(name)}
            check_potential(environment, terms, dict.fromkeys(swept, 1.0))
        return value

    @field_validator("sweep")
    @classmethod
    def _check_parameters(cls, value: Sweep | None, info: ValidationInfo) -> Sweep | None:
        environment: Environment | None = validation_context(info, "environment")
        base = value and info.data.get("arms", {}).get(value.base)
        if not (value and environment and base and "terms" in info.data):
            return value
        terms = {**info.data["terms"], **base.terms}
        check_swept_parameters(environment, terms, base, value)
        return value

    @model_validator(mode="after")
    def _check_supported(self) -> Self:
        if self.sweep and self.sweep.pruning and not self.training.learner.exact_resume:
            raise ValueError(
                f"sweep.pruning is not supported with {self.training.algorithm}; remove it"
            )
        for training in (self.training, *(arm.training for arm in self.arms.values())):
            if self.environment.backend == "envpool" and training and training.engine == "episodic":
                raise ValueError(
                    f"environment.backend: {training.algorithm} sets the initial state of every "
                    "episode, which EnvPool does not support; leave backend out"
                )
        return self

    @model_validator(mode="after")
    def _check_evaluated_terms(self, info: ValidationInfo) -> Self:
        if info.context is None or not self.evaluation.options:
            return self
        evaluated = self.evaluated_environment.describe()
        parts = {"terms": self.terms, **{f"arms.{n}.terms": a.terms for n, a in self.arms.items()}}
        for section, terms in parts.items():
            for name, definition in terms.items():
                try:
                    check_definition(evaluated, definition)
                except (ValueError, PydanticCustomError) as error:
                    raise ValueError(
                        f"evaluation.options: {section}.{name} does not fit the environment with "
                        f"them: {error}"
                    ) from None
        return self

    @property
    def code_references(self) -> list[str]:
        """References (`module:name`) to Python code that no package declares as a term."""
        definitions = [
            *self.terms.values(),
            *(d for a in self.arms.values() for d in a.terms.values()),
        ]
        named = [d.python for d in definitions if isinstance(d, PythonTerm)]
        wrappers = [w if isinstance(w, str) else next(iter(w)) for w in self.environment.wrappers]
        names = [self.environment.id, *wrappers, *named]
        return list(dict.fromkeys(name for name in names if ":" in name))

    # Where the study was opened: its results folder, and how messages name the place of a key.
    _results: Path = PrivateAttr(default=Path("results"))
    _place: Callable[[tuple[str, ...]], str] = PrivateAttr(default=".".join)

    def __eq__(self, other: object) -> bool:
        """Return whether the contents are equal, wherever the studies were opened."""
        return isinstance(other, Study) and vars(self) == vars(other)

    __hash__ = Model.__hash__

    def opened(
        self,
        *,
        results: Path | None = None,
        place: Callable[[tuple[str, ...]], str] | None = None,
    ) -> Self:
        """Remember the results folder, and how messages name the place of a key; return self."""
        self._results, self._place = results or self._results, place or self._place
        return self

    @property
    def results(self) -> Path:
        """Folder with the results of this and other studies."""
        return self._results

    def place_of_start(self, arm: str) -> str:
        """Return where it is written which policy an arm starts from."""
        name = arm if arm in self.arms or self.sweep is None else self.sweep.base
        own = self.training_of(self.arms[name]).start_from != self.training.start_from
        section = ("arms", name, "training") if own else ("training",)
        return self._place((*section, "start_from"))

    @property
    def evaluated_environment(self) -> EnvironmentConfig:
        """Environment of the evaluation: the study's, with the options of its evaluation."""
        return self.environment.with_options(self.evaluation.options)

    @property
    def evaluated_with(self) -> str:
        """Say with which options of their own policies are evaluated; empty without."""
        options = self.evaluation.options
        return f"evaluated with {format_options(options)}" if options else ""

    @property
    def setting(self) -> str:
        """Environment, its options and wrappers, and `evaluated_with`, as figures show it."""
        environment = self.environment
        wrappers = [w if isinstance(w, str) else next(iter(w)) for w in environment.wrappers]
        parts = [format_options(environment.options), ", ".join(wrappers)]
        details = "; ".join(filter(None, parts))
        name = f"{environment.id} ({details})" if details else environment.id
        return ", ".join(filter(None, [name, self.evaluated_with]))

    @property
    def _unshaped(self) -> list[str]:
        return [name for name, reward in self.arms.items() if reward.mode == "log"]

    @property
    def baseline(self) -> str:
        """Arm that the others are compared with: the first unshaped arm, else the first arm."""
        return [*self._unshaped, *self.arms][0]

    def baseline_of(self, arm: str) -> str:
        """Return the arm that an arm is compared with.

        It is the first unshaped arm that is trained in the same way, for arms with training
        sections. Without one, and for that arm itself, it is the study's baseline.
        """
        training = self.training_of(self.arms[arm])
        alike = (a for a in self._unshaped if self.training_of(self.arms[a]) == training)
        candidate = next(alike, arm)
        return self.baseline if candidate == arm else candidate

    def resolve_reward(self, reward: RewardConfig) -> RewardConfig:
        """Return a reward without its training, with the terms that the study defines."""
        fields = {name: getattr(reward, name) for name in RewardConfig.model_fields}
        return RewardConfig.model_construct(**fields | {"terms": {**self.terms, **reward.terms}})

    def training_of(self, reward: RewardConfig) -> TrainingConfig:
        """Return how an arm is trained: its training section, or else the study's."""
        return (reward.training if isinstance(reward, Arm) else None) or self.training

    def run_config(self, reward: RewardConfig, seed: int) -> RunConfig:
        """Return everything that determines the numbers of one run."""
        every = self.evaluation.every or max(1, self.training.total_timesteps // 20)
        return RunConfig(
            environment=self.environment,
            training=self.training_of(reward),
            evaluation=self.evaluation.model_copy(update={"every": every}),
            reward=self.resolve_reward(reward),
            seed=seed,
        )


# Values from before these keys existed; leaving them out keeps the identity of earlier runs.
_IMPLIED_TRAINING = {"engine": "sb3", "device": "cpu", "policy": "MlpPolicy"}


class StartPolicy(Model):
    """Policy that a run starts from: its file, and the SHA-256 of its parameters if known."""

    path: str
    sha256: str | None = None


class RunConfig(Model):
    """Resolved configuration of one run; the run is a pure function of it."""

    added_later = frozenset({"start"})

    environment: EnvironmentConfig
    training: TrainingConfig
    evaluation: EvaluationConfig
    reward: RewardConfig
    seed: Seed
    start: StartPolicy | None = None

    @property
    def evaluated_environment(self) -> EnvironmentConfig:
        """Environment of the evaluation, as of `Study`."""
        return self.environment.with_options(self.evaluation.options)

    @property
    def identity(self) -> str:
        """SHA-256 of everything that can change the numbers of the run, and of nothing else."""
        data = self.model_dump(mode="json")
        for key, value in _IMPLIED_TRAINING.items():
            if data["training"][key] == value:
                del data["training"][key]
        if self.start:  # the parameters count, not where they are
            data["start"] = self.start.sha256
            del data["training"]["start_from"]
        if self.reward.mode == "potential" and not self.training.learner.has_critic:
            # Earlier versions kept the potential at time limits, which changes the rewards.
            data["reward"]["potential_at_time_limit"] = 0
        if self.environment.reads_success:
            # Earlier versions recorded other outcomes.
            data["environment"]["outcomes"] = "is_success"
        text = json.dumps(data, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


def parse_study(data: object, *, allow_code: bool = False) -> Study:
    """Validate the data of a study file, including its terms against its environment.

    `allow_code` accepts references to Python code that no package declares.

    Raises:
        pydantic.ValidationError: lists all mistakes.
    """
    sections = data if isinstance(data, dict) else {}
    context: dict[str, Any] = {
        key: section if isinstance(section := sections.get(key), dict) else {}
        for key in ("environment", "arms", "terms", "training")
    }
    section = context["environment"]
    environment, problem = find_environment(section, allow_code=allow_code)
    context |= {"environment": environment, "problem": problem, "section": section}
    context["allow_code"] = allow_code
    return Study.model_validate(data, context=context)
