"""The sweep of a study as models: which weights are sought, how, and for what."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    FiniteFloat,
    ValidationInfo,
    field_validator,
    model_validator,
)

from shaperun.common.validation import (
    Integer,
    Model,
    Name,
    Seed,
    unknown_name_error,
    validation_context,
)
from shaperun.envs.base import Environment
from shaperun.envs.metrics import direction, metric_names
from shaperun.rewards.config import check_weighable


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
    def _check_order(cls, value: bool, info: ValidationInfo) -> bool:
        if not {"low", "high"} <= info.data.keys():  # their own errors are reported already
            return value
        low, high = info.data["low"], info.data["high"]
        if low > high or (value and low <= 0):
            raise ValueError("low must not exceed high, and must be positive where log is true")
        return value


def _check_arm(name: str, info: ValidationInfo) -> str:
    arms = validation_context(info, "arms")
    if arms is not None and name not in arms:
        raise unknown_name_error("arm", name, arms)
    return name


ArmName = Annotated[Name, AfterValidator(_check_arm)]


def _check_swept(name: str, info: ValidationInfo) -> str:
    base = (validation_context(info, "arms") or {}).get(info.data.get("base"))
    own = base.get("terms") if isinstance(base, dict) else None
    terms = {**(validation_context(info, "terms") or {}), **(own if isinstance(own, dict) else {})}
    check_weighable(name, validation_context(info, "environment"), terms)
    return name


SweptTerm = Annotated[str, AfterValidator(_check_swept)]


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _check_objective(name: str, info: ValidationInfo) -> str:
    """A metric of the environment's, with a minus in front where less of it is to be had."""
    environment: Environment | None = validation_context(info, "environment")
    metric = name.removeprefix("-")
    if environment is None or not metric:
        return name
    known = metric_names(environment)
    own = {"shaped", "shaped_return", "shaping", *environment.terms}
    if metric not in known and metric in own:
        raise ValueError(
            f"{metric} is part of the shaped reward, and arms that are paid differently cannot be "
            f"compared by what they are paid; choose among {', '.join(known)}"
        )
    if metric not in known:
        raise unknown_name_error("metric", metric, known)
    if name == metric and direction(metric, environment) < 1:
        raise ValueError(f"write -{metric} if less is better")
    return name


Objective = Annotated[str, AfterValidator(_check_objective)]


class SweepModel(Model):
    """What all sweeps have in common: what is sought, and how it is believed."""

    objective: Annotated[list[Objective], BeforeValidator(_as_list), Field(min_length=1)] = Field(
        ["return"],
        max_length=2,
        description="One or two of the environment's metrics; a minus in front: less is better.",
    )
    aggregate: Literal["iqm", "mean", "median", "worst"] = Field(
        "iqm", description="What the runs of a trial come to together."
    )
    pruning: Literal["halving"] | None = Field(
        None,
        description="halving: the half of the trials with the lower environment return stops at a "
        "quarter of the training, and half of the rest at half of it.",
    )
    confirm: Annotated[Integer, Field(ge=0, le=1000)] | None = Field(
        None, description="Fresh seeds to confirm the best with; as many as seeds unless said."
    )

    @field_validator("pruning")
    @classmethod
    def _check_objectives(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value and len(info.data.get("objective", [])) > 1:
            raise ValueError("two objectives have no worse half: prune a sweep for one")
        return value


class GridSweep(SweepModel):
    """Every combination of the weights listed, on top of the base arm."""

    method: Literal["grid"]
    base: ArmName
    weights: dict[SweptTerm, Annotated[list[FiniteFloat], Field(min_length=1)]] = Field(
        min_length=1
    )


class RandomSweep(SweepModel):
    """A number of draws of the weights, on top of the base arm."""

    method: Literal["random"]
    base: ArmName
    weights: dict[SweptTerm, Range] = Field(min_length=1)
    samples: Annotated[Integer, Field(ge=1, le=10_000)]
    seed: Seed = 0


class SearchSweep(SweepModel):
    """Draws that learn from those before, a population at a time, on top of the base arm."""

    method: Literal["tpe", "nsga2", "cmaes"]
    base: ArmName
    weights: dict[SweptTerm, Range] = Field(min_length=1)
    samples: Annotated[Integer, Field(ge=1, le=1000)]
    population: Annotated[Integer, Field(ge=2, le=100)] = Field(
        8, description="Trials that are drawn together, knowing all that came before them."
    )
    seed: Seed = 0

    @model_validator(mode="after")
    def _check_method(self) -> Self:
        if self.method == "cmaes" and len(self.objective) > 1:
            raise ValueError("cmaes seeks one objective; take nsga2 or tpe for two")
        if self.method == "cmaes" and len(self.weights) < 2:
            raise ValueError("cmaes needs two weights or more; take tpe for one")
        if self.method != "tpe" and self.pruning:
            raise ValueError(f"{self.method} learns from finished trials only: no pruning")
        return self


Sweep = Annotated[GridSweep | RandomSweep | SearchSweep, Field(discriminator="method")]
