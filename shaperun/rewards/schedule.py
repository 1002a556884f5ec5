"""Schedules for the factor on shaping over training."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal

import numpy as np
from pydantic import AfterValidator, Field, FiniteFloat, ValidationInfo, field_validator

from shaperun.common.validation import Bounded, Model, unknown_name_error, validation_context
from shaperun.envs.base import Environment
from shaperun.envs.metrics import metric_names


class LinearSchedule(Model):
    """Linear change from one factor to another, constant afterwards."""

    kind: Literal["linear"]
    start: Bounded = Field(1.0, alias="from", description="Factor at the start of training.")
    to: Bounded = Field(0.0, description="Final factor.")
    until: Annotated[FiniteFloat, Field(gt=0, le=1)] = Field(
        1.0, description="Share of training after which the final factor is reached."
    )

    def __call__(self, progress: float) -> float:
        """Return the factor after a share of training, from 0 to 1."""
        return self.start + (self.to - self.start) * min(1.0, progress / self.until)


def _check_points(points: list[list[float]]) -> list[list[float]]:
    shares = [point[0] for point in points]
    if any(a >= b for a, b in pairwise(shares)):
        raise ValueError("points must be sorted by share of training, [share, factor] each")
    if not all(0 <= share <= 1 for share in shares):
        raise ValueError("a point must be [share of training from 0 to 1, factor]")
    return points


class PiecewiseSchedule(Model):
    """Linear interpolation between points, constant before the first and after the last."""

    kind: Literal["piecewise"]
    points: Annotated[
        list[Annotated[list[Bounded], Field(min_length=2, max_length=2)]],
        Field(min_length=1, max_length=100),
        AfterValidator(_check_points),
    ] = Field(description="[share of training, factor] each.")

    def __call__(self, progress: float) -> float:
        """Return the factor after a share of training, from 0 to 1."""
        shares, factors = zip(*self.points, strict=True)
        return float(np.interp(progress, shares, factors))


def _check_range(between: list[float]) -> list[float]:
    if between[0] == between[1]:
        raise ValueError("the two values must differ")
    return between


class EarnedSchedule(Model):
    """Change from one factor to another by performance in the latest evaluation, either way."""

    kind: Literal["earned"]
    metric: str = Field(description="Metric of the evaluations, as in compare --by.")
    start: Bounded = Field(1.0, alias="from", description="Factor at the first value and beyond.")
    to: Bounded = Field(0.0, description="Factor at the second value and beyond.")
    between: Annotated[
        list[FiniteFloat], Field(min_length=2, max_length=2), AfterValidator(_check_range)
    ] = Field(description="Two values of the metric.")

    @field_validator("metric")
    @classmethod
    def _check_metric(cls, value: str, info: ValidationInfo) -> str:
        environment: Environment | None = validation_context(info, "environment")
        if environment and value not in metric_names(environment):
            raise unknown_name_error("metric", value, metric_names(environment))
        return value

    def share(self, value: float) -> float:
        """Return how far the metric has come from the first value to the second, from 0 to 1."""
        first, second = self.between
        return min(1.0, max(0.0, (value - first) / (second - first)))

    def __call__(self, share: float) -> float:
        """Return the factor after a share of the way between the two values."""
        return self.start + (self.to - self.start) * share


Schedule = Annotated[
    LinearSchedule | PiecewiseSchedule | EarnedSchedule, Field(discriminator="kind")
]
