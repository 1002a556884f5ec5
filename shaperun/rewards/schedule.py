"""Schedules for the factor on shaping over training."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal

import numpy as np
from pydantic import AfterValidator, Field, FiniteFloat

from shaperun.common.validation import Bounded, Model


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


Schedule = Annotated[LinearSchedule | PiecewiseSchedule, Field(discriminator="kind")]
