"""Schedules of the weight of shaping over training."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal

import numpy as np
from pydantic import AfterValidator, Field, FiniteFloat

from shaperun.common.validation import Model


class LinearSchedule(Model):
    """From one factor to another in a straight line, and constant from there on."""

    kind: Literal["linear"]
    start: FiniteFloat = Field(1.0, alias="from", description="The factor when training starts.")
    to: FiniteFloat = Field(0.0, description="The factor that is reached.")
    until: Annotated[FiniteFloat, Field(gt=0, le=1)] = Field(
        1.0, description="The share of training after which it is reached."
    )

    def __call__(self, progress: float) -> float:
        """The factor when this share of training is done."""
        return self.start + (self.to - self.start) * min(1.0, progress / self.until)


def _check_ascending(points: list[list[float]]) -> list[list[float]]:
    shares = [point[0] for point in points]
    if any(a >= b for a, b in pairwise(shares)):
        raise ValueError("the points are in the order of training, each [share of it, factor]")
    if not all(0 <= share <= 1 for share in shares):
        raise ValueError("a point is [share of training from 0 to 1, factor]")
    return points


class PiecewiseSchedule(Model):
    """Straight lines between points, constant before the first and after the last."""

    kind: Literal["piecewise"]
    points: Annotated[
        list[Annotated[list[FiniteFloat], Field(min_length=2, max_length=2)]],
        Field(min_length=1, max_length=100),
        AfterValidator(_check_ascending),
    ] = Field(description="[share of training, factor] each.")

    def __call__(self, progress: float) -> float:
        """The factor when this share of training is done."""
        shares, factors = zip(*self.points, strict=True)
        return float(np.interp(progress, shares, factors))


Schedule = Annotated[LinearSchedule | PiecewiseSchedule, Field(discriminator="kind")]
