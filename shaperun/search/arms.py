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
    return round_to_range(value, range_)


def round_to_range(value: float, range_: Range) -> float:
    """Six digits are enough, and make a short name; they may round out of the range."""
    return min(max(float(f"{value:.6g}"), range_.low), range_.high)


MAX_CORNER_WEIGHTS = 3  # whose corners are all looked at: 8


def corner_arms(study: Study) -> dict[str, Arm]:
    """The corners of the searched ranges as arms, named after their weights.

    Of more than three weights there would be too many: then each is at its ends by itself, with
    the others in the middle of their ranges. None where nothing is searched.
    """
    sweep = study.sweep
    if not isinstance(sweep, SearchSweep):
        return {}
    base = study.arms[sweep.base]
    points = _corners if len(sweep.weights) <= MAX_CORNER_WEIGHTS else _one_at_a_time
    return {arm_name(point): with_weights(base, point) for point in points(sweep)}


def _corners(sweep: SearchSweep) -> Iterator[dict[str, float]]:
    for ends in itertools.product(*((r.low, r.high) for r in sweep.weights.values())):
        yield dict(zip(sweep.weights, ends, strict=True))


def _one_at_a_time(sweep: SearchSweep) -> Iterator[dict[str, float]]:
    middle = {term: _middle(range_) for term, range_ in sweep.weights.items()}
    for term, range_ in sweep.weights.items():
        for end in (range_.low, range_.high):
            yield middle | {term: end}


def _middle(range_: Range) -> float:
    """Where half of the draws lie below."""
    if range_.log:
        return round_to_range(math.sqrt(range_.low) * math.sqrt(range_.high), range_)
    return round_to_range(range_.low / 2 + range_.high / 2, range_)
