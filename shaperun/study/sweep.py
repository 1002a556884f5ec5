"""The `sweep` section of a study file: what to vary, the method and the objective."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from shaperun.common.text import humanize
from shaperun.common.validation import (
    Bounded,
    Integer,
    Model,
    Name,
    Seed,
    unknown_name_error,
    validation_context,
)
from shaperun.envs.base import Environment
from shaperun.envs.metrics import metric_direction, metric_names, recorded_metrics
from shaperun.rewards.config import check_weighable


class Range(Model):
    """Interval from which a search draws a weight."""

    low: Bounded
    high: Bounded
    log: bool = Field(
        False,
        validate_default=True,
        description="Draw uniformly on a logarithmic scale; low must be positive.",
    )

    @field_validator("log")
    @classmethod
    def _check_order(cls, value: bool, info: ValidationInfo) -> bool:
        if not {"low", "high"} <= info.data.keys():  # reported already
            return value
        low, high = info.data["low"], info.data["high"]
        if low > high or (value and low <= 0):
            raise ValueError("low must not exceed high, and must be positive if log is true")
        return value


def _check_arm(name: str, info: ValidationInfo) -> str:
    arms = validation_context(info, "arms")
    if arms is not None and name not in arms:
        raise unknown_name_error("arm", name, arms)
    return name


ArmName = Annotated[Name, AfterValidator(_check_arm)]


def _check_swept(name: str, info: ValidationInfo) -> str:
    base = (validation_context(info, "arms") or {}).get(info.data.get("base"))
    terms = base.get("terms") if isinstance(base, dict) else None
    shared = validation_context(info, "terms") or {}
    terms = {**shared, **terms} if isinstance(terms, dict) else shared
    if split_parameter(name):
        if name not in (known := list(_parameters(shared, terms))):
            raise unknown_name_error("parameter", name, known)
        return name
    check_weighable(name, validation_context(info, "environment"), terms)
    return name


def _parameters(shared: Mapping[str, object], defined: Mapping[str, object]) -> Iterator[str]:
    """Yield all parameters of terms, which an arm may have changed, as `term.parameter`."""
    for term, own in defined.items():
        changed = isinstance(own, dict) and "formula" not in own
        definition = shared.get(term) if changed else own
        if isinstance(definition, dict) and "formula" in definition:
            yield from (f"{term}.{key}" for key in definition if key != "formula")


def split_parameter(name: str) -> tuple[str, str] | None:
    """Return the term and the parameter that a swept name `term.parameter` is; None for a term."""
    term, dot, parameter = name.partition(".")
    return (term, parameter) if dot else None


def describe_swept(name: str) -> str:
    """Return a swept name in words: "weight of near", or "k of near" for a parameter."""
    parameter = split_parameter(name)
    return f"{parameter[1]} of {parameter[0]}" if parameter else f"weight of {name}"


def describe_kinds(names: Iterable[str]) -> str:
    """Return what swept names are, in the plural: weights, parameters, or both."""
    kinds = {bool(split_parameter(name)): None for name in names}
    return " and ".join("parameters" if kind else "weights" for kind in sorted(kinds))


def swept_column(name: str) -> str:
    """Return the column of a swept name in tables of trials."""
    return name if split_parameter(name) else f"weight_{name}"


def ends_of(values: Range | list[float]) -> list[float]:
    """Return the ends of a range, or the values of a grid."""
    return [values.low, values.high] if isinstance(values, Range) else values


SweptTerm = Annotated[str, AfterValidator(_check_swept)]


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _check_objective(name: str, info: ValidationInfo) -> str:
    """Check that an objective is a metric, with a leading minus unless larger is better."""
    environment: Environment | None = validation_context(info, "environment")
    metric = name.removeprefix("-")
    if environment is None or not metric:
        return name
    known = metric_names(environment)
    if metric not in known and metric in {"shaped", "shaped_return", "shaping", *environment.terms}:
        raise ValueError(
            f"{metric} is part of the shaped reward, by which arms cannot be compared; choose from "
            f"{', '.join(known)}"
        )
    if metric not in known:
        raise unknown_name_error("metric", metric, known)
    direction = metric_direction(metric, environment)
    if name == metric and not direction and metric in recorded_metrics(environment):
        raise ValueError(
            f"environment.metrics.{metric} does not say which values are better; add better: higher"
        )
    if name == metric and direction < 1:
        raise ValueError(f"larger {metric} is not better; write -{metric} to minimize it")
    return name


Objective = Annotated[str, AfterValidator(_check_objective)]


MAX_TRIALS = 10_000
SWEPT = "Term -> its weights, or term.parameter -> its values."


class SweepModel(Model):
    """Settings of all sweep methods: the objective, pruning and confirmation."""

    objective: Annotated[list[Objective], BeforeValidator(_as_list), Field(min_length=1)] = Field(
        ["return"],
        max_length=2,
        description="One or two metrics of the environment to maximize; a leading minus minimizes.",
    )
    aggregate: Literal["iqm", "mean", "median", "worst"] = Field(
        "iqm", description="Statistic over the runs of a trial."
    )
    pruning: Literal["halving"] | None = Field(
        None,
        description="halving: stop the half of the trials with the lower environment return after "
        "a quarter of training, and half of the rest after half of training.",
    )
    confirm: Annotated[Integer, Field(ge=0, le=1000)] | None = Field(
        None,
        description="Number of new seeds that confirm the best trials (default: as many as seeds).",
    )

    @property
    def metrics(self) -> list[str]:
        """The metrics of the objectives, without the sign that minimizes."""
        return [name.removeprefix("-") for name in self.objective]

    def describe_objectives(self) -> str:
        """Return the objectives in words, such as "higher return and lower length"."""
        return " and ".join(
            f"{'lower' if name[0] == '-' else 'higher'} {humanize(name.removeprefix('-'))}"
            for name in self.objective
        )

    @field_validator("pruning")
    @classmethod
    def _check_objectives(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value and len(info.data.get("objective", [])) > 1:
            raise ValueError("pruning needs a single objective; remove one objective or pruning")
        return value


class GridSweep(SweepModel):
    """Every combination of the listed weights, on top of the base arm."""

    method: Literal["grid"]
    base: ArmName
    weights: dict[SweptTerm, Annotated[list[Bounded], Field(min_length=1)]] = Field(
        min_length=1, description=SWEPT
    )

    @field_validator("weights")
    @classmethod
    def _check_size(cls, value: dict[str, list[float]]) -> dict[str, list[float]]:
        count = math.prod(map(len, value.values()))
        if count > MAX_TRIALS:
            raise ValueError(f"{count:,} combinations, above the limit of {MAX_TRIALS:,}")
        return value


class RandomSweep(SweepModel):
    """Independent random draws of the weights, on top of the base arm."""

    method: Literal["random"]
    base: ArmName
    weights: dict[SweptTerm, Range] = Field(min_length=1, description=SWEPT)
    samples: Annotated[Integer, Field(ge=1, le=MAX_TRIALS)]
    seed: Seed = 0


class SearchSweep(SweepModel):
    """Draws that learn from earlier trials, one population at a time, on top of the base arm."""

    method: Literal["tpe", "nsga2", "cmaes"]
    base: ArmName
    weights: dict[SweptTerm, Range] = Field(min_length=1, description=SWEPT)
    samples: Annotated[Integer, Field(ge=1, le=1000)]
    population: Annotated[Integer, Field(ge=2, le=100)] = Field(
        8, description="Number of trials that are drawn together, given all earlier trials."
    )
    seed: Seed = 0

    @model_validator(mode="after")
    def _check_method(self) -> Self:
        if self.method == "cmaes" and len(self.objective) > 1:
            raise ValueError("cmaes supports a single objective; use nsga2 or tpe for two")
        if self.method == "cmaes" and len(self.weights) < 2:
            raise ValueError("cmaes needs at least two weights; use tpe for one")
        if self.method != "tpe" and self.pruning:
            raise ValueError(f"{self.method} learns only from finished trials; remove pruning")
        return self


Sweep = Annotated[GridSweep | RandomSweep | SearchSweep, Field(discriminator="method")]
