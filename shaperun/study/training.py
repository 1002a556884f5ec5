"""The `training` and `evaluation` sections of a study file."""

from __future__ import annotations

import re
from math import prod
from typing import Annotated, Any

from pydantic import (
    BeforeValidator,
    Field,
    ValidationInfo,
    field_validator,
)

from shaperun.common.validation import Integer, Model, validation_context
from shaperun.envs.base import Environment, View
from shaperun.rewards.config import RewardConfig
from shaperun.rewards.kernel import RewardKernel
from shaperun.study.environment import Option, check_evaluation_options
from shaperun.study.hyperparameters import MAX_PARAMETERS, count_weights
from shaperun.study.learners import (
    LEARNERS,
    Algorithm,
    Device,
    Engine,
    Learner,
    Policy,
    check_group_size,
    choose_engine,
    choose_policy,
)

CNN_FEATURES = 512  # of NatureCNN
PICTURE_FEATURES = 256  # of each picture among other observations, as stable-baselines3 has it
# A run of a results folder, or a file.
_START = re.compile(r"[^/.][^/]*/[^/.][^/]*(/[0-9]{1,10})?|.+\.zip")
MAX_BUFFER_BYTES = 4_000_000_000

Positive = Annotated[Integer, Field(ge=1)]


class NormalizeConfig(Model):
    """Running normalization of what the learner sees; recorded returns are never normalized."""

    observations: bool = False
    rewards: bool = False


def _normalize_both(value: object) -> object:
    return {"observations": value, "rewards": value} if isinstance(value, bool) else value


class TrainingConfig(Model):
    """Training settings of the arms."""

    added_later = frozenset({"start_from"})

    algorithm: Algorithm = Field("PPO", validate_default=True)
    total_timesteps: Annotated[Positive, Field(le=10**12)] = Field(
        description="Environment steps per run, summed over n_envs."
    )
    n_envs: Annotated[Integer, Field(ge=1, le=1024)] = Field(
        1, description="Parallel copies of the environment per run."
    )
    normalize: Annotated[
        NormalizeConfig,
        BeforeValidator(_normalize_both, json_schema_input_type=NormalizeConfig | bool),
    ] = Field(NormalizeConfig(), description="A boolean sets both.")
    policy: Policy = Field(
        "auto",
        validate_default=True,
        description="Class of the policy: CnnPolicy looks at pictures with the network of Mnih et "
        "al. (2015), MultiInputPolicy at those of a Dict or Tuple, MlpPolicy flattens the "
        "observation. auto is the first that fits.",
    )
    hyperparameters: dict[str, Any] = Field(
        {},
        validate_default=True,
        description="Keyword arguments of the learner's class.",
    )
    engine: Engine = Field(
        "auto",
        validate_default=True,
        description="Training loop: lockstep trains many runs at once with stacked networks (PPO), "
        "sb3 is the loop of stable-baselines3, episodic learns from whole episodes (REINFORCE, "
        "GRPO). auto picks the fastest that the learner has.",
    )
    device: Device = Field(
        "cpu",
        validate_default=True,
        description="Device of the networks, for runs in lockstep; cuda pays off for large ones.",
    )

    start_from: str | None = Field(
        None,
        description="Policy that training starts from: STUDY/ARM (its run with the same seed) or "
        "STUDY/ARM/SEED of the results folder, or the path of a policy.zip of stable-baselines3.",
    )

    @field_validator("start_from")
    @classmethod
    def _check_start(cls, value: str | None) -> str | None:
        if value is not None and not _START.fullmatch(value):
            raise ValueError(
                "Input should be STUDY/ARM, STUDY/ARM/SEED or the path of a policy.zip"
            )
        return value

    @field_validator("algorithm")
    @classmethod
    def _check_action_space(cls, value: str, info: ValidationInfo) -> str:
        environment: Environment | None = validation_context(info, "environment")
        if environment is None:
            return value
        if environment.learner_view.obstacle:
            raise ValueError(
                f"{environment.id} cannot be learned: {environment.learner_view.obstacle}"
            )
        space = environment.learner_view.actions
        if space not in LEARNERS[value].actions:
            others = (name for name, learner in LEARNERS.items() if space in learner.actions)
            raise ValueError(
                f"{value} cannot learn the actions of {environment.id}, a {space} space; "
                f"choose from {', '.join(others)}"
            )
        return value

    @field_validator("normalize")
    @classmethod
    def _check_normalize(cls, value: NormalizeConfig, info: ValidationInfo) -> NormalizeConfig:
        environment: Environment | None = validation_context(info, "environment")
        if environment and environment.learner_view.indices and value.observations:
            raise ValueError(
                f"observations of {environment.id} are state indices, which cannot be normalized; "
                "normalize {rewards: true} alone"
            )
        algorithm = info.data.get("algorithm")
        if value.rewards and algorithm and not LEARNERS[algorithm].has_critic:
            raise ValueError(
                f"{algorithm} has no critic and compares whole returns; leave rewards out"
            )
        return value

    @field_validator("policy")
    @classmethod
    def _check_policy(cls, value: Policy, info: ValidationInfo) -> Policy:
        algorithm = info.data.get("algorithm")
        if algorithm is None:  # reported already
            return value
        environment: Environment | None = validation_context(info, "environment")
        if environment is None and value == "auto":  # of the data of a run
            return "MlpPolicy"
        view = environment.learner_view if environment else None
        policy = choose_policy(algorithm, value, view)
        normalize = info.data.get("normalize")
        if policy == "CnnPolicy" and normalize and normalize.observations:
            raise ValueError(
                "CnnPolicy takes pictures as bytes, which cannot be normalized; set normalize: "
                "{observations: false}"
            )
        return policy

    @field_validator("hyperparameters")
    @classmethod
    def _check_hyperparameters(cls, value: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        algorithm = info.data.get("algorithm")
        if algorithm is None:  # reported already
            return value
        validated = LEARNERS[algorithm].hyperparameters.model_validate(value).model_dump()
        if "n_envs" in info.data:
            check_group_size(algorithm, validated, info.data["n_envs"])
        environment: Environment | None = validation_context(info, "environment")
        if environment and {"n_envs", "total_timesteps"} <= info.data.keys():
            n_envs, steps = info.data["n_envs"], info.data["total_timesteps"]
            policy = info.data.get("policy", "MlpPolicy")
            _check_memory(environment.learner_view, policy, validated, n_envs, steps)
        return validated

    @field_validator("engine")
    @classmethod
    def _check_engine(cls, value: Engine, info: ValidationInfo) -> Engine:
        if not {"algorithm", "hyperparameters"} <= info.data.keys():  # reported already
            return value
        environment: Environment | None = validation_context(info, "environment")
        return choose_engine(
            info.data["algorithm"],
            info.data["hyperparameters"],
            value,
            pictures=info.data.get("policy") == "MultiInputPolicy"
            or (environment is not None and environment.learner_view.is_picture),
        )

    @field_validator("device")
    @classmethod
    def _check_device(cls, value: Device, info: ValidationInfo) -> Device:
        if value != "cpu" and info.data.get("engine") in ("sb3", "episodic"):
            raise ValueError("only the lockstep engine trains on a GPU; leave device out")
        return value

    @property
    def learner(self) -> Learner:
        """Registry entry of the algorithm."""
        return LEARNERS[self.algorithm]

    @property
    def gamma(self) -> float:
        """Discount factor of the learner."""
        return float(self.hyperparameters["gamma"])

    def kernel(self, environment: Environment, reward: RewardConfig) -> RewardKernel:
        """Return the kernel of a reward for this learner; raises as the kernel does."""
        return RewardKernel(environment, reward, self.gamma, bootstraps=self.learner.has_critic)

    @property
    def steps_per_update(self) -> int | None:
        """Environment steps of a rollout; None without rollouts of a fixed length."""
        n_steps = self.hyperparameters.get("n_steps") if self.learner.on_policy else None
        return n_steps * self.n_envs if n_steps else None

    @property
    def updates(self) -> int | None:
        """Number of rollouts, each followed by an update; None if it depends on the episodes."""
        steps = self.steps_per_update
        return -(-self.total_timesteps // steps) if steps else None

    @property
    def episodes_per_start(self) -> int:
        """Number of episodes of an update that begin in the same state."""
        return self.learner.episodes_per_start(self.hyperparameters)


def _check_memory(
    view: View, policy: Policy, hyperparameters: dict[str, Any], n_envs: int, total_timesteps: int
) -> None:
    """Check the sizes that depend on the observations.

    Raises:
        ValueError: the first layer, a rollout or the replay buffer would be too large.
    """
    size = prod(view.shape)
    features = CNN_FEATURES if policy == "CnnPolicy" else size
    if policy == "MultiInputPolicy":
        pictures = [picture.shape for picture in view.pictures if picture.is_large]
        features = size - sum(map(prod, pictures)) + PICTURE_FEATURES * len(pictures)
    architecture = hyperparameters["policy_kwargs"]["net_arch"] or []
    networks = architecture.values() if isinstance(architecture, dict) else [architecture]
    weights = max((count_weights([features, *layers]) for layers in networks), default=0)
    if weights > MAX_PARAMETERS:
        raise ValueError(
            f"a network of {weights:,} weights, above the limit of {MAX_PARAMETERS:,}, for "
            f"observations of {size:,} numbers; set a smaller policy_kwargs.net_arch"
        )
    held = {
        "n_steps": hyperparameters.get("n_steps", 0) * n_envs,
        "buffer_size": min(hyperparameters.get("buffer_size", 0), total_timesteps),
    }
    for name, transitions in held.items():
        taken = transitions * size * (1 if view.is_picture else 4)
        if taken > MAX_BUFFER_BYTES:
            raise ValueError(
                f"{name}: observations of {transitions:,} steps take {taken / 1e9:,.0f} GB, above "
                f"the limit of {MAX_BUFFER_BYTES // 10**9} GB; lower {name}"
            )


def merge_training(shared: dict[str, Any], arm: dict[str, Any]) -> dict[str, Any]:
    """Return the study's training section, overridden by the keys of an arm's section."""
    if arm.get("algorithm", shared.get("algorithm")) != shared.get("algorithm"):
        # The study's other keys belong to another learner.
        common = {
            k: v for k, v in shared.items() if k in ("total_timesteps", "n_envs", "normalize")
        }
        hyperparameters = _mapping(shared.get("hyperparameters"))
        gamma = {k: v for k, v in hyperparameters.items() if k == "gamma"}
        shared = {**common, "hyperparameters": gamma}
    parts = [key for key in ("normalize", "hyperparameters") if isinstance(arm.get(key), dict)]
    merged = {key: {**_mapping(_normalize_both(shared.get(key))), **arm[key]} for key in parts}
    return {**shared, **arm, **merged}


def _mapping(value: object) -> dict[Any, Any]:
    return value if isinstance(value, dict) else {}


class EvaluationConfig(Model):
    """Evaluation on the environment's reward, with the same held-out episodes for every run."""

    added_later = frozenset({"options"})

    every: Annotated[Positive, Field(le=10**12)] | None = Field(
        None,
        description="Environment steps between evaluations (default: a twentieth of training).",
    )
    episodes: Annotated[Integer, Field(ge=1, le=10_000)] = 20
    final_episodes: Annotated[Integer, Field(ge=1, le=10_000)] = 100
    options: dict[str, Option] = Field(
        {},
        description="Options of the environment for evaluation only, merged over "
        "environment.options: other data or other noise than in training.",
    )

    @field_validator("options")
    @classmethod
    def _check_options(cls, value: dict[str, Option], info: ValidationInfo) -> dict[str, Option]:
        if value and info.context and info.context["environment"]:
            check_evaluation_options(info.context["section"], value, info.context)
        return value
