"""Registry of learners: one entry per algorithm that a study may name.

To add a learner, add an entry here and, unless a library has its class, a module of
`training/algorithms`; the rest of the program depends on the entry only. See CONTRIBUTING.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, Field, FiniteFloat, WithJsonSchema, field_validator

from shaperun.common.validation import STRICT, Integer, unknown_name_error
from shaperun.envs.base import MIN_PICTURE, ActionSpace, View
from shaperun.study.hyperparameters import (
    BOUNDS,
    Networks,
    PolicyKwargs,
    ScheduledFloat,
    hyperparameters_of,
)

Policy = Literal["auto", "MlpPolicy", "CnnPolicy", "MultiInputPolicy"]
Engine = Literal["auto", "sb3", "lockstep", "episodic"]
Device = Literal["cpu", "cuda"]


class EpisodicHyperparameters(BaseModel):
    """Hyperparameters that learners from whole episodes share."""

    model_config = STRICT

    learning_rate: ScheduledFloat = 1e-3
    gamma: Annotated[FiniteFloat, BOUNDS["gamma"]] = 0.99
    group_size: Annotated[Integer, Field(ge=2)] = Field(
        8, description="Episodes per group, which begin in the same state; divides n_envs."
    )
    policy_kwargs: PolicyKwargs = PolicyKwargs()

    @field_validator("policy_kwargs")
    @classmethod
    def _check_without_critic(cls, value: PolicyKwargs) -> PolicyKwargs:
        if isinstance(value.net_arch, Networks) and (value.net_arch.vf or value.net_arch.qf):
            raise ValueError("net_arch takes only pi, as there is no critic; remove vf and qf")
        return value

    @property
    def episodes_per_start(self) -> int:
        """Number of episodes of an update that begin in the same state."""
        return self.group_size


class ReinforceHyperparameters(EpisodicHyperparameters):
    """Hyperparameters of REINFORCE."""

    baseline: Literal["moving", "group"] = Field(
        "moving",
        description="Baseline of the returns: a moving average over past updates, or the other "
        "episodes of the group.",
    )

    @property
    def episodes_per_start(self) -> int:
        """Number of episodes of an update that begin in the same state."""
        return self.group_size if self.baseline == "group" else 1


class GrpoHyperparameters(EpisodicHyperparameters):
    """Hyperparameters of GRPO."""

    n_epochs: Annotated[Integer, BOUNDS["n_epochs"]] = 4
    batch_size: Annotated[Integer, BOUNDS["batch_size"]] = Field(
        256, description="Transitions per minibatch."
    )
    clip_range: ScheduledFloat = 0.2
    kl_coef: Annotated[FiniteFloat, Field(ge=0)] = Field(
        0.01, description="Weight of the KL penalty towards the reference policy."
    )
    reference_updates: Annotated[Integer, Field(ge=1)] = Field(
        10, description="Updates between refreshes of the reference policy."
    )
    ent_coef: FiniteFloat = 0.0
    max_grad_norm: Annotated[FiniteFloat, BOUNDS["max_grad_norm"]] = 0.5


@dataclass(frozen=True)
class Learner:
    """Properties of a learner that the rest of the program depends on.

    Attributes:
        implementation: `module:class`; only training imports it. A class of stable-baselines3, or
            one with the methods of `training.engines.episodic.EpisodicLearner`.
        engines: the engines that can train it, the preferred one first.
        own_hyperparameters: their model; None for the keyword arguments of the class.
        has_critic: whether it learns a value function, with which it bootstraps at time limits.
        actions: the spaces of actions that it can learn.
        on_policy: whether each update learns from the rollout before it alone.
        exact_resume: whether a run resumes exactly from a checkpoint; otherwise it restarts.
        optimizer_kwargs: keyword arguments of its optimizer.
    """

    implementation: str
    engines: tuple[Engine, ...]
    own_hyperparameters: type[EpisodicHyperparameters] | None = None
    has_critic: bool = True
    actions: tuple[ActionSpace, ...] = ("Discrete", "Box", "MultiDiscrete", "MultiBinary")
    on_policy: bool = True
    exact_resume: bool = True
    # The actor-critic policies set this eps themselves, but only if they are given no options.
    optimizer_kwargs: Mapping[str, Any] = field(default_factory=lambda: {"eps": 1e-5})

    @property
    def hyperparameters(self) -> type[BaseModel]:
        """Strict model of the hyperparameters that a study may set."""
        return self.own_hyperparameters or hyperparameters_of(self.implementation)

    def episodes_per_start(self, hyperparameters: Mapping[str, Any]) -> int:
        """Return how many episodes of an update begin in the same state."""
        own = self.own_hyperparameters
        return own(**hyperparameters).episodes_per_start if own else 1


LEARNERS: dict[str, Learner] = {
    "PPO": Learner("stable_baselines3.ppo.ppo:PPO", ("lockstep", "sb3")),
    "A2C": Learner("stable_baselines3.a2c.a2c:A2C", ("sb3",)),
    "DQN": Learner(
        "stable_baselines3.dqn.dqn:DQN",
        ("sb3",),
        actions=("Discrete",),
        on_policy=False,
        exact_resume=False,
        optimizer_kwargs={},
    ),
    "TRPO": Learner("sb3_contrib.trpo.trpo:TRPO", ("sb3",)),
    "REINFORCE": Learner(
        "shaperun.training.algorithms.reinforce:Reinforce",
        ("episodic",),
        ReinforceHyperparameters,
        has_critic=False,
    ),
    "GRPO": Learner(
        "shaperun.training.algorithms.grpo:Grpo",
        ("episodic",),
        GrpoHyperparameters,
        has_critic=False,
    ),
}


def _check_algorithm(name: str) -> str:
    if name not in LEARNERS:
        raise unknown_name_error("algorithm", name, LEARNERS)
    return name


Algorithm = Annotated[
    str, AfterValidator(_check_algorithm), WithJsonSchema({"enum": [*LEARNERS], "type": "string"})
]


def choose_policy(algorithm: str, wanted: Policy, view: View | None) -> Policy:
    """Return the class of a learner's policy for what it sees: NatureCNN for pictures of its size.

    Raises:
        ValueError: the learner, or what it sees, does not allow that class.
    """
    has_cnn = "sb3" in LEARNERS[algorithm].engines
    if wanted not in ("auto", "MlpPolicy") and not has_cnn:
        learners = [name for name, learner in LEARNERS.items() if "sb3" in learner.engines]
        raise ValueError(
            f"{algorithm} has no {wanted}; choose MlpPolicy, or one of {', '.join(learners)}"
        )
    if view is None:
        return wanted
    fitting: Policy = "MlpPolicy"
    if has_cnn and any(picture.is_large for picture in view.pictures):
        fitting = "CnnPolicy" if view.is_picture else "MultiInputPolicy"
    if wanted in ("auto", fitting):
        return fitting
    if wanted != "MlpPolicy":
        scope = {"CnnPolicy": "pictures", "MultiInputPolicy": "a Dict or Tuple with pictures"}
        seen = " × ".join(map(str, view.shape))
        raise ValueError(
            f"{wanted} is for {scope[wanted]} of bytes, {MIN_PICTURE} × {MIN_PICTURE} or more, and "
            f"the learner sees {seen} numbers; choose {fitting}"
        )
    return wanted


def choose_engine(
    algorithm: str, hyperparameters: Mapping[str, Any], wanted: Engine, *, pictures: bool
) -> Engine:
    """Return the engine that trains runs of a learner, given what the study asks for.

    The lockstep engine supports neither state-dependent exploration nor pictures, of which it would
    hold the rollouts of many runs in floating point.

    Raises:
        ValueError: this engine cannot train them.
    """
    engines = LEARNERS[algorithm].engines
    obstacle = " with use_sde" if hyperparameters.get("use_sde") else ""
    obstacle = " on pictures" if pictures else obstacle
    if obstacle:
        engines = tuple(engine for engine in engines if engine != "lockstep")
    if wanted == "auto":
        return engines[0]
    if wanted not in engines:
        raise ValueError(
            f"{algorithm}{obstacle} is trained by {' or '.join(engines)}, not by {wanted}; "
            "leave engine out"
        )
    return wanted


def check_group_size(algorithm: str, hyperparameters: Mapping[str, Any], n_envs: int) -> None:
    """Check that the episodes of an update can be divided into groups.

    Raises:
        ValueError: they cannot.
    """
    group_size = LEARNERS[algorithm].episodes_per_start(hyperparameters)
    if n_envs % group_size:
        raise ValueError(
            f"n_envs is {n_envs}, not a multiple of group_size ({group_size}); "
            f"set training.n_envs: {group_size * max(1, round(n_envs / group_size))}"
        )
