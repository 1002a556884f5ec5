"""Arms made from one base arm by varying its weights and the parameters of its terms."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator

from shaperun.common.errors import UserError
from shaperun.rewards.config import FormulaTerm
from shaperun.study.models import Arm, Study
from shaperun.study.sweep import GridSweep, RandomSweep, Range, SearchSweep, split_parameter

MAX_CORNER_WEIGHTS = 3  # with more weights, fewer than all 2**n corners are made


def make_sweep_arms(study: Study) -> dict[str, Arm]:
    """Return the arms that a sweep has from the start, in order, named by their weights.

    Raises:
        UserError: the study has no sweep.
    """
    return {name: make_trial_arm(study, point) for name, point in fixed_points(study).items()}


def fixed_points(study: Study) -> dict[str, dict[str, float]]:
    """Return the weights and parameters that a sweep tries from the start, by name of their arm.

    Raises:
        UserError: the study has no sweep.
    """
    sweep = study.sweep
    if sweep is None:
        raise UserError(f"the study {study.study} has no sweep")
    if isinstance(sweep, SearchSweep):
        return {}  # its trials depend on results
    points = _grid(sweep) if sweep.method == "grid" else _draws(sweep)
    return {format_arm_name(point): point for point in points}


def make_trial_arm(study: Study, values: dict[str, float]) -> Arm:
    """Return the base arm of the sweep with other weights, and other parameters of its terms."""
    assert study.sweep  # noqa: S101 (only sweeps have trials)
    base = study.arms[study.sweep.base]
    weights, terms = dict(base.weights), dict(base.terms)
    for name, value in values.items():
        if parameter := split_parameter(name):
            term, key = parameter
            definition = terms.get(term) or study.terms[term]
            assert isinstance(definition, FormulaTerm)  # noqa: S101 (as the sweep has checked)
            terms[term] = definition.with_parameter(key, value)
        else:
            weights[name] = value
    return base.model_copy(update={"weights": weights, "terms": terms})


def format_arm_name(weights: dict[str, float]) -> str:
    """Return a name that lists weights and parameters: `distance=50_near.k=10`."""
    return "_".join(f"{term}={_format_exactly(weight)}" for term, weight in weights.items())


def _format_exactly(weight: float) -> str:
    text = f"{weight + 0.0:.6g}"
    return text if float(text) == weight else repr(weight)


def _grid(sweep: GridSweep) -> Iterator[dict[str, float]]:
    for values in itertools.product(*sweep.weights.values()):
        yield dict(zip(sweep.weights, values, strict=True))


def _draws(sweep: RandomSweep) -> Iterator[dict[str, float]]:
    rng = random.Random(sweep.seed)  # noqa: S311 (not for security)
    for _ in range(sweep.samples):
        yield {term: _draw(range_, rng) for term, range_ in sweep.weights.items()}


def _draw(range_: Range, rng: random.Random) -> float:
    if range_.log:
        value = math.exp(rng.uniform(math.log(range_.low), math.log(range_.high)))
    else:
        value = rng.uniform(range_.low, range_.high)
    return round_to_range(value, range_)


def round_to_range(value: float, range_: Range) -> float:
    """Round a value to six digits, for a short name, and clip it to the range."""
    return min(max(float(f"{value:.6g}"), range_.low), range_.high)


def make_corner_arms(study: Study) -> dict[str, Arm]:
    """Return the corners of the ranges of a searching sweep as arms, named by their weights.

    With more than `MAX_CORNER_WEIGHTS` weights, each is at the ends of its range in turn, and the
    others are at the middle of theirs. Other sweeps have no corners.
    """
    sweep = study.sweep
    if not isinstance(sweep, SearchSweep):
        return {}
    points = _corners if len(sweep.weights) <= MAX_CORNER_WEIGHTS else _one_at_a_time
    return {format_arm_name(point): make_trial_arm(study, point) for point in points(sweep)}


def _corners(sweep: SearchSweep) -> Iterator[dict[str, float]]:
    for ends in itertools.product(*((r.low, r.high) for r in sweep.weights.values())):
        yield dict(zip(sweep.weights, ends, strict=True))


def _one_at_a_time(sweep: SearchSweep) -> Iterator[dict[str, float]]:
    middle = {term: _median(range_) for term, range_ in sweep.weights.items()}
    for term, range_ in sweep.weights.items():
        for end in (range_.low, range_.high):
            yield middle | {term: end}


def _median(range_: Range) -> float:
    if range_.log:
        return round_to_range(math.sqrt(range_.low) * math.sqrt(range_.high), range_)
    return round_to_range(range_.low / 2 + range_.high / 2, range_)
