"""Outcomes and metrics that a study gives its environment, as formulas over episodes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import AfterValidator, Field, FiniteFloat, ValidationInfo

from shaperun.common.errors import ContractError
from shaperun.common.validation import Model, located_error, validation_context
from shaperun.envs.base import Array, Bounds, Environment, Metric, Term, Transition
from shaperun.envs.contract import find_clash
from shaperun.envs.generic import get_environment
from shaperun.envs.info import InfoError
from shaperun.envs.memory import EpisodeMemory, Recall
from shaperun.rewards.compiler import compile_formula
from shaperun.rewards.config import TermName, check_formula, check_name_is_free
from shaperun.rewards.expression import expression_term
from shaperun.study.formula_bounds import bound_metric

OTHER = "other"
"""Outcome of episodes that no outcome of the study matches."""

# Further columns of tables that have one per metric.
_COLUMNS = {
    *("study", "runs", "trial", "generation", "state", "stopped_at", "seeds", "best"),
    *("auc", "steps_to_solved", "solved", "solved_runs"),
}
_PREFIXES, _SUFFIX = ("sum_", "first_", "last_", "weight_", "return_", "shaped", "shaping"), "_rate"

_REDUCTIONS: dict[str, Callable[[Array], Any]] = {
    "last": lambda values: values[-1],
    "sum": np.sum,
    "mean": np.mean,
    "max": np.max,
    "min": np.min,
}


def _check_formula(value: str, info: ValidationInfo) -> str:
    environment: Environment | None = validation_context(info, "environment")
    if environment:
        check_formula(environment, value, {})
    return value


Formula = Annotated[str, AfterValidator(_check_formula)]


class Outcome(Model):
    """A way in which episodes end, and whether it is a success."""

    when: Formula = Field(
        description="Formula over the last step of an episode; true unless it is 0. The first "
        "outcome that is true counts."
    )
    success: bool | None = Field(
        None, description="true for a success, false for a failure; by default neither."
    )


def _check_order(bounds: list[float]) -> list[float]:
    if bounds[0] >= bounds[1]:
        raise ValueError("the first bound must be smaller than the second")
    return bounds


class EpisodeMetric(Model):
    """A number per episode that policies are compared by."""

    added_later = frozenset({"bounds"})

    value: Formula = Field(description="Formula over every step of an episode.")
    of: Literal["last", "sum", "mean", "max", "min"] = Field(
        description="How the values of the steps become one."
    )
    better: Literal["higher", "lower"] | None = Field(
        None, description="Whether more is better or less; by default neither."
    )
    bounds: (
        Annotated[
            list[FiniteFloat], Field(min_length=2, max_length=2), AfterValidator(_check_order)
        ]
        | None
    ) = Field(
        None,
        description="Smallest and largest possible value, which intervals then respect; by default "
        "what follows from the formula. An episode beyond them stops its run.",
    )


def _check_outcome_name(name: str, info: ValidationInfo) -> str:
    environment = _without_own(info)
    if name == OTHER:
        raise ValueError(f"{OTHER} is how episodes end that match no outcome; choose another name")
    # Outcomes of the environment are replaced.
    check_name_is_free(name, environment and replace(environment, outcomes={}))
    return name


def _check_metric_name(name: str, info: ValidationInfo) -> str:
    environment = _without_own(info)
    check_name_is_free(name, environment, environment.metrics if environment else ())
    others = ((_COLUMNS, "a column of the results"), (info.data.get("outcomes", {}), "an outcome"))
    for names, user in others:
        if name in names:
            raise ValueError(f"the name {name} is already in use by {user}; choose another one")
    if name.startswith(_PREFIXES) or name.endswith(_SUFFIX):
        raise ValueError(
            f"{name} starts with {', '.join(_PREFIXES)} or ends with {_SUFFIX}, as the names of "
            "other columns do; choose another name"
        )
    return name


def _without_own(info: ValidationInfo) -> Environment | None:
    """Return the environment of the section without the study's outcomes; None if not known."""
    known = validation_context(info, "environment") and {"id", "options"} <= info.data.keys()
    return get_environment(info.data["id"], info.data["options"]) if known else None


def _check_success(outcomes: dict[str, Outcome]) -> dict[str, Outcome]:
    why = find_clash({name: outcome.success for name, outcome in outcomes.items()})
    if why:
        raise located_error(f"the outcome success {why}", "success")
    return outcomes


Outcomes = Annotated[
    dict[Annotated[TermName, AfterValidator(_check_outcome_name)], Outcome],
    Field(max_length=20),
    AfterValidator(_check_success),
]
"""Name -> outcome; the first one that is true counts."""

Metrics = Annotated[
    dict[Annotated[TermName, AfterValidator(_check_metric_name)], EpisodeMetric],
    Field(max_length=20),
]
"""Name -> metric, in addition to those of the environment."""


def with_outcome_names(environment: Environment, section: Mapping[str, Any]) -> Environment:
    """Return an environment with the outcomes and metrics of a section, but not their formulas.

    The names are known to the validation of everything else, even if the section is invalid.
    """
    outcomes, metrics = (section.get(key) for key in ("outcomes", "metrics"))
    if isinstance(outcomes, dict) and outcomes:
        flags = {n: o.get("success") if isinstance(o, dict) else None for n, o in outcomes.items()}
        environment = replace(environment, outcomes={**flags, OTHER: None})
    if isinstance(metrics, dict):
        known = {
            name: Metric(function=len, better=_direction(m.get("better")))
            for name, m in metrics.items()
            if isinstance(m, dict)
        }
        environment = replace(environment, metrics={**known, **environment.metrics})
    return environment


def declare(
    environment: Environment, outcomes: Mapping[str, Outcome], metrics: Mapping[str, EpisodeMetric]
) -> Environment:
    """Return an environment with these outcomes, if any, instead of its own, and further metrics.

    Raises:
        ExpressionError: a formula is invalid.
    """
    if outcomes:
        ends = [expression_term(environment, name, o.when) for name, o in outcomes.items()]
        name_ends = partial(_name_ends, ends)
        environment = replace(
            environment,
            outcomes={**{name: outcome.success for name, outcome in outcomes.items()}, OTHER: None},
            outcome=lambda end: name_ends(end, EpisodeMemory().recall(end.ended)),
            remembering_outcome=name_ends if any(end.may_need("memory") for end in ends) else None,
            reads_info=environment.reads_info or any(end.may_need("info") for end in ends),
        )
    own = {
        name: Metric(
            function=partial(_measure, expression_term(environment, name, metric.value), metric),
            better=_direction(metric.better),
            bounds=_find_bounds(environment, metric),
        )
        for name, metric in metrics.items()
    }
    return replace(environment, metrics={**environment.metrics, **own}) if own else environment


def _direction(better: object) -> int:
    return {"higher": 1, "lower": -1}.get(str(better), 0)


def _find_bounds(environment: Environment, metric: EpisodeMetric) -> Bounds | None:
    if metric.bounds:
        return metric.bounds[0], metric.bounds[1]
    formula = compile_formula(environment, metric.value)
    return bound_metric(formula, metric.of, environment.time_limit)


def _measure(term: Term, metric: EpisodeMetric, transition: Transition) -> float:
    with np.errstate(all="ignore"):  # what is not finite is refused
        value = float(_REDUCTIONS[metric.of](term(transition)))
    if metric.bounds:
        low, high = metric.bounds
        slack = 1e-9 * (high - low)
        if value < low - slack or value > high + slack:
            raise ContractError(
                f"the metric {term.name} is {value:g} in an episode, outside of its bounds "
                f"[{low:g}, {high:g}]; correct environment.metrics.{term.name}.bounds"
            )
    return value


def _name_ends(
    outcomes: list[Term], transition: Transition, recall: Recall
) -> npt.NDArray[np.str_]:
    """Return the names (M,) of the first outcomes that are true where M episodes end."""
    ended = np.flatnonzero(transition.ended)
    ends = transition.take(ended)
    conditions = []
    for outcome in outcomes:
        try:
            with np.errstate(all="ignore"):
                # Only memory needs the steps before, whose info may lack entries.
                remembers = outcome.may_need("memory")
                values = outcome(transition, recall)[ended] if remembers else outcome(ends)
        except InfoError as error:
            raise InfoError(f"the outcome {outcome.name} failed: {error}") from None
        if np.isnan(values).any():
            raise ContractError(f"the outcome {outcome.name} is nan at the end of an episode")
        conditions.append(values != 0)
    return np.select(conditions, [outcome.name for outcome in outcomes], OTHER)
