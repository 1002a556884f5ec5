"""The arms at the ends of a search's ranges, which stand for it before its weights are known."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

from shaperun.search.arms import arm_name, rounded, with_weights
from shaperun.study.models import Arm, Study
from shaperun.study.sweep import Range, SearchSweep

MOST_WEIGHTS = 3  # whose corners are all looked at: 8


def corner_arms(study: Study) -> dict[str, Arm]:
    """The corners of the searched ranges as arms, named after their weights.

    Of more than three weights there would be too many: then each is at its ends by itself, with
    the others in the middle of their ranges. None where nothing is searched.
    """
    sweep = study.sweep
    if not isinstance(sweep, SearchSweep):
        return {}
    base = study.arms[sweep.base]
    points = _corners if len(sweep.weights) <= MOST_WEIGHTS else _one_at_a_time
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
        return rounded(math.sqrt(range_.low) * math.sqrt(range_.high), range_)
    return rounded(range_.low / 2 + range_.high / 2, range_)
