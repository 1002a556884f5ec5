"""Arms made from one base arm by varying its weights."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator

from shaperun.common.errors import UserError
from shaperun.study.models import Arm, Study
from shaperun.study.sweep import GridSweep, RandomSweep, Range, SearchSweep


def sweep_arms(study: Study) -> dict[str, Arm]:
    """The arms that the study's sweep is known to have, in order, named after their weights.

    Raises:
        UserError: the study has no sweep.
    """
    if study.sweep is None:
        raise UserError(f"the study {study.study} has no sweep")
    base = study.arms[study.sweep.base]
    if isinstance(study.sweep, SearchSweep):
        return {}  # they are found on the way
    points = _grid(study.sweep) if study.sweep.method == "grid" else _draws(study.sweep)
    return {arm_name(point): with_weights(base, point) for point in points}


def with_weights(base: Arm, weights: dict[str, float]) -> Arm:
    """An arm with some of its weights replaced."""
    return base.model_copy(update={"weights": {**base.weights, **weights}})


def arm_name(weights: dict[str, float]) -> str:
    """A name that says what was varied: `distance=50_legs=10`."""
    return "_".join(f"{term}={_short(weight)}" for term, weight in weights.items())


def _short(weight: float) -> str:
    """As few digits as say exactly this number."""
    text = f"{weight + 0.0:.6g}"
    return text if float(text) == weight else repr(weight)


def _grid(sweep: GridSweep) -> Iterator[dict[str, float]]:
    for values in itertools.product(*sweep.weights.values()):
        yield dict(zip(sweep.weights, values, strict=True))


def _draws(sweep: RandomSweep) -> Iterator[dict[str, float]]:
    generator = random.Random(sweep.seed)  # noqa: S311 (a search, not a secret)
    for _ in range(sweep.samples):
        yield {term: _draw(range_, generator) for term, range_ in sweep.weights.items()}


def _draw(range_: Range, generator: random.Random) -> float:
    if range_.log:
        value = math.exp(generator.uniform(math.log(range_.low), math.log(range_.high)))
    else:
        value = generator.uniform(range_.low, range_.high)
    return rounded(value, range_)


def rounded(value: float, range_: Range) -> float:
    """Six digits are enough, and make a short name; they may round out of the range."""
    return min(max(float(f"{value:.6g}"), range_.low), range_.high)
