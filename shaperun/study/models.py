"""The study file as models: what may stand in it, what it defaults to, what a run is made of."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    FiniteFloat,
    SerializerFunctionWrapHandler,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)

from shaperun.envs.base import Environment
from shaperun.envs.builtin import environments
from shaperun.envs.envpool_support import Backend, obstacle_to_envpool
from shaperun.envs.generic import UnfitEnvironmentError, UnknownEnvironmentError, describe
from shaperun.rewards.config import (
    Model,
    Name,
    PythonTerm,
    RewardConfig,
    Terms,
    check_potential,
    context,
    unknown,
)
from shaperun.study.hyperparameters import (
    WITHOUT_CRITIC,
    Algorithm,
    Device,
    Engine,
    Seed,
    Whole,
    check_groups,
    engine_of,
    hyperparameter_model,
    whole,
)
from shaperun.study.sweep import Sweep

Positive = Annotated[Whole, Field(ge=1)]
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
    def _known(cls, value: str, info: ValidationInfo) -> str:
        problem = context(info, "problem")
        try:
            if problem:
                raise problem
        except UnknownEnvironmentError as error:
            ours = ", ".join(environments())
            shown = f"{ours}, or any other that gymnasium has registered"
            raise unknown("environment", value, error.known, shown) from None
        except UnfitEnvironmentError as error:
            raise ValueError(f"{value} cannot be used: {error}") from None
        return value

    @field_validator("backend")
    @classmethod
    def _has_it(cls, value: Backend, info: ValidationInfo) -> Backend:
        if value == "envpool" and {"id", "options"} <= info.data.keys():
            obstacle = obstacle_to_envpool(info.data["id"], info.data["options"])
            if obstacle:
                raise ValueError(f"not by EnvPool: {obstacle}; leave backend out")
        return value

    @model_serializer(mode="wrap")
    def _as_before(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # So that a run keeps its identity where shaperun learns to do more.
        data: dict[str, Any] = handler(self)
        if self.backend == "gymnasium":
            data.pop("backend", None)
        return data

    def describe(self) -> Environment:
        """What is known about it."""
        return describe(self.id, self.options)

    @field_validator("options")
    @classmethod
    def _fit(cls, value: dict[str, Scalar], info: ValidationInfo) -> dict[str, Scalar]:
        for name in {"id", "render_mode", "disable_env_checker"} & value.keys():
            raise ValueError(f"{name} is set by shaperun itself")
        environment: Environment | None = context(info, "environment")
        if info.context is None and "id" in info.data:
            environment, problem = _described(
                {"id": info.data["id"], "options": value}, allow_code=True
            )
            if problem:
                raise ValueError(str(problem))
        if environment and environment.endless:
            raise ValueError(
                f"nothing limits the length of {environment.id}'s episodes, and a policy that gets "
                "nowhere would never end; say so here, as in {max_episode_steps: 500}"
            )
        return value


class NormalizeConfig(Model):
    """Running normalisation of what the learner sees; recorded returns are never normalised."""

    observations: bool = False
    rewards: bool = False


class TrainingConfig(Model):
    """The recipe that arms are trained with."""

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
    engine: Engine = Field(
        "auto",
        validate_default=True,
        description="lockstep trains many runs of PPO at once; sb3 trains each run by "
        "stable-baselines3's own loop; auto is lockstep wherever that can be had. REINFORCE and "
        "GRPO have an engine of their own, episodic.",
    )
    device: Device = Field(
        "cpu",
        validate_default=True,
        description="Where the networks of runs in lockstep are; cuda pays for large networks.",
    )

    @field_validator("algorithm")
    @classmethod
    def _takes_the_actions(cls, value: str, info: ValidationInfo) -> str:
        environment: Environment | None = context(info, "environment")
        if environment and value == "DQN" and environment.action_size is not None:
            raise ValueError(
                f"DQN chooses one of a few actions, and an action of {environment.id} is "
                f"{environment.action_size} numbers; take PPO, A2C or TRPO"
            )
        return value

    @field_validator("normalize")
    @classmethod
    def _can_be_normalized(cls, value: NormalizeConfig, info: ValidationInfo) -> NormalizeConfig:
        environment: Environment | None = context(info, "environment")
        if environment and environment.countable and value.observations:
            raise ValueError(
                f"an observation of {environment.id} is the number of a state, which has no mean; "
                "leave observations out"
            )
        algorithm = info.data.get("algorithm")
        if value.rewards and algorithm in WITHOUT_CRITIC:
            raise ValueError(f"{algorithm} compares whole returns as they are; leave rewards out")
        return value

    @field_validator("hyperparameters")
    @classmethod
    def _taken_by_the_algorithm(cls, value: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        algorithm = info.data.get("algorithm")
        if algorithm is None:  # its own error is reported already
            return value
        found = hyperparameter_model(algorithm).model_validate(value).model_dump()
        if algorithm in WITHOUT_CRITIC and "n_envs" in info.data:
            check_groups(algorithm, found, info.data["n_envs"])
        return found

    @field_validator("engine")
    @classmethod
    def _can_be_had(cls, value: Engine, info: ValidationInfo) -> Engine:
        if not {"algorithm", "hyperparameters"} <= info.data.keys():  # which has its own error
            return value
        return engine_of(info.data["algorithm"], info.data["hyperparameters"], value)

    @field_validator("device")
    @classmethod
    def _of_lockstep(cls, value: Device, info: ValidationInfo) -> Device:
        if value != "cpu" and info.data.get("engine") in ("sb3", "episodic"):
            raise ValueError("only runs in lockstep are trained on a GPU; leave device out")
        return value

    @property
    def gamma(self) -> float:
        """The learner's own discount factor."""
        return float(self.hyperparameters["gamma"])


class Arm(RewardConfig):
    """A reward, and what is different about how it is trained."""

    training: TrainingConfig | None = Field(
        None,
        description="Keys of the recipe that are others for this arm. With another algorithm, only "
        "gamma is left of the study's hyperparameters.",
    )

    @field_validator("training", mode="before")
    @classmethod
    def _on_top_of_the_studys(cls, value: object, info: ValidationInfo) -> object:
        shared = context(info, "training")
        if not (isinstance(value, dict) and isinstance(shared, dict)):
            return value
        steps = shared.get("total_timesteps")
        if value.get("total_timesteps", steps) != steps:
            raise ValueError("total_timesteps is the same for all arms of a study; leave it out")
        try:
            TrainingConfig.model_validate(shared, context=info.context)
        except ValidationError:
            return None  # its errors are reported already
        return _merged(shared, value)

    @model_serializer(mode="wrap")
    def _as_in_a_file(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        data = self._without_what_is_not_used(handler)
        if self.training is None:
            del data["training"]
        else:
            del data["training"]["total_timesteps"]
        return data


def _merged(shared: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """A recipe with some keys replaced, as they stand in a file."""
    if own.get("algorithm", shared.get("algorithm")) != shared.get("algorithm"):
        # What else stands in the study's recipe is about another learner.
        kept = {k: v for k, v in shared.items() if k in ("total_timesteps", "n_envs", "normalize")}
        hyperparameters = _mapping(shared.get("hyperparameters"))
        gamma = {k: v for k, v in hyperparameters.items() if k == "gamma"}
        shared = {**kept, "hyperparameters": gamma}
    parts = [key for key in ("normalize", "hyperparameters") if isinstance(own.get(key), dict)]
    return {**shared, **own, **{key: {**_mapping(shared.get(key)), **own[key]} for key in parts}}


def _mapping(value: object) -> dict[Any, Any]:
    return value if isinstance(value, dict) else {}


class EvaluationConfig(Model):
    """The protocol on the environment's own reward: the same held-out episodes for every run."""

    every: Positive | None = Field(
        None,
        description="Environment steps between evaluations; a twentieth of training if absent.",
    )
    episodes: Annotated[Whole, Field(ge=1, le=10_000)] = 20
    final_episodes: Annotated[Whole, Field(ge=1, le=10_000)] = 100


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
    terms: Terms = Field(
        {},
        description="Terms for all arms, recorded in every run: name -> formula, function or "
        "network.",
    )
    arms: dict[Name, Arm] = Field(min_length=1)
    sweep: Sweep | None = None

    @field_validator("sweep")
    @classmethod
    def _base_can_be_swept(cls, value: Sweep | None, info: ValidationInfo) -> Sweep | None:
        environment: Environment | None = context(info, "environment")
        base = value and info.data.get("arms", {}).get(value.base)
        if value and environment and base and base.mode == "potential":
            terms = {**info.data.get("terms", {}), **base.terms}
            check_potential(environment, terms, dict.fromkeys(value.weights, 1.0))
        return value

    @model_validator(mode="after")
    def _pruned_runs_go_on(self) -> Self:
        if self.sweep and self.sweep.pruning and self.training.algorithm == "DQN":
            raise ValueError("sweep.pruning: DQN cannot pause its training; take it away")
        return self

    @model_validator(mode="after")
    def _episodes_can_begin_alike(self) -> Self:
        recipes = [self.training, *(self.training_of(arm) for arm in self.arms.values())]
        alone = next((r.algorithm for r in recipes if r.algorithm in WITHOUT_CRITIC), None)
        if alone and self.environment.backend == "envpool":
            raise ValueError(
                f"environment.backend: {alone} says which state an episode begins in, which "
                "EnvPool cannot be told; leave it out"
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
_BEFORE = {"engine": "sb3", "device": "cpu"}


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
        for key, value in _BEFORE.items():
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
    known, problem = _described(environment, allow_code=allow_code)
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


def _described(
    data: dict[str, Any], *, allow_code: bool
) -> tuple[Environment | None, Exception | None]:
    env_id, options = data.get("id"), data.get("options")
    if not isinstance(env_id, str):
        return None, None
    if ":" in env_id and not allow_code:
        # gymnasium imports the module in front of the colon.
        return None, UnfitEnvironmentError("it names code; give --allow-code if you trust it")
    try:
        return describe(env_id, options if isinstance(options, dict) else {}), None
    except (UnknownEnvironmentError, UnfitEnvironmentError) as problem:
        return None, problem
    except TypeError:  # options that are no plain values; their own error says so
        return None, None
