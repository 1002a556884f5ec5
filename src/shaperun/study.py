"""The study file as models: what may stand in it, what it defaults to, what a run is made of."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Field,
    FiniteFloat,
    StringConstraints,
    ValidationInfo,
    field_validator,
)
from pydantic_core import PydanticCustomError

from shaperun import envs
from shaperun.algorithms import STRICT, Algorithm, Whole, hyperparameter_model, whole
from shaperun.terms import Environment

# A leading hyphen would read as an option on a command line and as a formula in a spreadsheet.
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_-]{0,63}$")]
Mode = Literal["log", "add", "replace", "potential"]
Positive = Annotated[Whole, Field(ge=1)]
Seed = Annotated[Whole, Field(ge=0, lt=2**32)]
Scalar = bool | int | FiniteFloat | str | None


def _unknown(kind: str, name: str, known: list[str]) -> PydanticCustomError:
    message = "there is no {kind} named {name}"
    return PydanticCustomError("unknown", message, {"kind": kind, "name": name, "known": known})


def _environment(info: ValidationInfo) -> Environment | None:
    return (info.context or {}).get("environment")


def _check_term(name: str, info: ValidationInfo) -> str:
    environment = _environment(info)
    if environment and name not in environment.terms:
        raise _unknown(f"{environment.id} term", name, list(environment.terms))
    return name


TermName = Annotated[str, AfterValidator(_check_term)]


class Model(BaseModel):
    """Strict and frozen: no unknown keys, no silent conversions, no changes after validation."""

    model_config = STRICT


class EnvironmentConfig(Model):
    """Which gymnasium environment, and how `gymnasium.make` is to make it."""

    id: str = Field(description="The id that gymnasium registers the environment under.")
    options: dict[str, Scalar] = Field({}, description="Keyword arguments of gymnasium.make.")

    @field_validator("id")
    @classmethod
    def _known(cls, value: str) -> str:
        if value not in envs.environments():
            raise _unknown("environment", value, list(envs.environments()))
        return value

    @field_validator("options")
    @classmethod
    def _not_ours(cls, value: dict[str, Scalar]) -> dict[str, Scalar]:
        for name in {"id", "render_mode", "disable_env_checker"} & value.keys():
            raise ValueError(f"{name} is set by shaperun itself")
        return value


class NormalizeConfig(Model):
    """Running normalisation of what the learner sees; recorded returns are never normalised."""

    observations: bool = False
    rewards: bool = False


class TrainingConfig(Model):
    """The recipe that every arm is trained with."""

    algorithm: Algorithm = "PPO"
    total_timesteps: Positive = Field(description="Environment steps a run, over all its copies.")
    n_envs: Annotated[Whole, Field(ge=1, le=1024)] = Field(
        1, description="Copies of the environment that one run steps together."
    )
    normalize: NormalizeConfig = NormalizeConfig()
    hyperparameters: dict[str, Any] = Field(
        {},
        validate_default=True,
        description="Keyword arguments of the stable-baselines3 class, under their own names.",
    )

    @field_validator("hyperparameters")
    @classmethod
    def _taken_by_the_algorithm(cls, value: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        algorithm = info.data.get("algorithm")
        if algorithm is None:  # its own error is reported already
            return value
        return hyperparameter_model(algorithm).model_validate(value).model_dump()

    @property
    def gamma(self) -> float:
        """The learner's own discount factor."""
        return float(self.hyperparameters["gamma"])


class EvaluationConfig(Model):
    """The protocol on the environment's own reward: the same held-out episodes for every run."""

    every: Positive | None = Field(
        None,
        description="Environment steps between evaluations; a twentieth of training if absent.",
    )
    episodes: Annotated[Whole, Field(ge=1, le=10_000)] = 20
    final_episodes: Annotated[Whole, Field(ge=1, le=10_000)] = 100


class RewardConfig(Model):
    """One reward: weighted terms and what they do to the environment's own reward."""

    weights: dict[TermName, FiniteFloat] = Field({}, description="Term -> weight.")
    mode: Mode = Field(
        None,
        validate_default=True,
        description="log: only record; add: r + S; replace: S; potential: r + γΦ(s′) − Φ(s). "
        "An arm without weights needs none: it logs.",
    )
    scale: FiniteFloat = Field(1.0, description="A factor on all weights.")

    @field_validator("mode", mode="before")
    @classmethod
    def _log_without_weights(cls, value: object, info: ValidationInfo) -> object:
        if value is None and info.data.get("weights"):
            raise PydanticCustomError("missing", "an arm with weights must name its mode")
        return "log" if value is None else value

    @field_validator("mode")
    @classmethod
    def _potential_of_states(cls, value: Mode, info: ValidationInfo) -> Mode:
        environment = _environment(info)
        if value == "potential" and environment:
            check_potential(environment, info.data.get("weights", {}))
        return value


def check_potential(environment: Environment, weights: dict[str, float]) -> None:
    """Refuse weighted terms that depend on the action: a potential is a function of the state.

    Raises:
        ValueError: names those terms.
    """
    terms = (environment.terms[name] for name, weight in weights.items() if weight)
    wrong = [term.name for term in terms if not term.state_only]
    if wrong:
        raise ValueError(
            f"a potential is a function of the state, and {', '.join(wrong)} depends on the action"
        )


class Range(Model):
    """Where a random search draws a weight from."""

    low: FiniteFloat
    high: FiniteFloat
    log: bool = Field(
        False,
        validate_default=True,
        description="Draw uniformly in the logarithm; both ends positive.",
    )

    @field_validator("log")
    @classmethod
    def _ordered(cls, value: bool, info: ValidationInfo) -> bool:
        if not {"low", "high"} <= info.data.keys():  # their own errors are reported already
            return value
        low, high = info.data["low"], info.data["high"]
        if low > high or (value and low <= 0):
            raise ValueError("low must not exceed high, and must be positive where log is true")
        return value


def _check_arm(name: str, info: ValidationInfo) -> str:
    arms = (info.context or {}).get("arms")
    if arms is not None and name not in arms:
        raise _unknown("arm", name, arms)
    return name


ArmName = Annotated[Name, AfterValidator(_check_arm)]


class GridSweep(Model):
    """Every combination of the weights listed, on top of the base arm."""

    method: Literal["grid"]
    base: ArmName
    weights: dict[TermName, Annotated[list[FiniteFloat], Field(min_length=1)]] = Field(min_length=1)


class RandomSweep(Model):
    """A number of draws of the weights, on top of the base arm."""

    method: Literal["random"]
    base: ArmName
    weights: dict[TermName, Range] = Field(min_length=1)
    samples: Annotated[Whole, Field(ge=1, le=10_000)]
    seed: Seed = 0


Sweep = Annotated[GridSweep | RandomSweep, Field(discriminator="method")]


def _seed_list(value: object) -> object:
    value = whole(value)
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 10_000:
        return list(range(value))
    return value


def _distinct(value: list[int]) -> list[int]:
    if len(set(value)) < len(value):
        raise ValueError("each seed may stand once")
    return value


Seeds = Annotated[
    list[Seed],
    Field(min_length=1, max_length=10_000),
    BeforeValidator(_seed_list, json_schema_input_type=Annotated[int, Field(ge=1)] | list[int]),
    AfterValidator(_distinct),
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
    arms: dict[Name, RewardConfig] = Field(min_length=1)
    sweep: Sweep | None = None

    @field_validator("sweep")
    @classmethod
    def _base_can_be_swept(cls, value: Sweep | None, info: ValidationInfo) -> Sweep | None:
        environment, base = _environment(info), value and info.data.get("arms", {}).get(value.base)
        if value and environment and base and base.mode == "potential":
            check_potential(environment, dict.fromkeys(value.weights, 1.0))
        return value

    @property
    def baseline(self) -> str:
        """The arm that the others are compared with: the first that leaves the reward alone."""
        plain = (name for name, reward in self.arms.items() if reward.mode == "log")
        return next(plain, next(iter(self.arms)))

    def run_config(self, reward: RewardConfig, seed: int) -> RunConfig:
        """Everything that decides the numbers of one run."""
        every = self.evaluation.every or max(1, self.training.total_timesteps // 20)
        return RunConfig(
            environment=self.environment,
            training=self.training,
            evaluation=self.evaluation.model_copy(update={"every": every}),
            reward=reward,
            seed=seed,
        )


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
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


def parse_study(data: object) -> Study:
    """Validate plain data as a study, its terms against its environment.

    Raises:
        pydantic.ValidationError: all that is wrong with it, at once.
    """
    environment, arms = (
        part if isinstance(data, dict) and isinstance(part := data.get(key), dict) else {}
        for key in ("environment", "arms")
    )
    known = envs.environments().get(str(environment.get("id")))
    return Study.model_validate(data, context={"environment": known, "arms": list(arms)})
