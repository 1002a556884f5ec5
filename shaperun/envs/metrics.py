"""Metrics that policies are compared by, all of them independent of reward shaping."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import isfinite
from statistics import fmean
from typing import Any

from shaperun.common.errors import ContractError, describe_exception
from shaperun.envs.base import Bounds, Environment, Transition
from shaperun.envs.info import InfoError


def metric_names(environment: Environment) -> list[str]:
    """Return the names of all metrics: return, outcome rates, length, and the environment's."""
    rates = [f"{name}_rate" for name in counted_outcomes(environment)]
    if any(environment.outcomes.values()):
        rates = ["success_rate", *rates]
    return ["return", *rates, "length", *environment.metrics]


def recorded_metrics(environment: Environment) -> dict[str, Callable[[Transition], float]]:
    """Return the metrics that evaluations record: functions of whole episodes, by name."""
    metrics = environment.metrics.items()
    return {name: metric.function for name, metric in metrics if metric.function}


def measure_episode(environment: Environment, transition: Transition) -> dict[str, float]:
    """Return the recorded metrics of an episode of T steps.

    Raises:
        InfoError: an entry of info is missing or is not a number; the message names the metric.
        ContractError: a function raised, or a value is not finite; the message names the metric.
    """
    values = {}
    for name, function in recorded_metrics(environment).items():
        try:
            values[name] = function(transition)
        except ContractError:
            raise
        except InfoError as error:
            raise InfoError(f"the metric {name} failed: {error}") from None
        except Exception as error:  # a function of the user may raise anything
            why = describe_exception(error)
            raise ContractError(f"the metric {name} failed: {why}") from error
        if not isfinite(values[name]):
            raise ContractError(f"the metric {name} is {values[name]} in an episode")
    return values


def environment_metrics(environment: Environment, transition: Transition) -> dict[str, float]:
    """Return all metrics that the environment adds, of an episode of T steps."""
    terms = environment.built_in
    return {
        name: metric.function(transition)
        if metric.function
        else sum(w * float(terms[term](transition).sum()) for term, w in metric.terms.items())
        for name, metric in environment.metrics.items()
    }


def mean_metric(
    metric: str, environment: Environment, episodes: Sequence[Mapping[str, Any]]
) -> float:
    """Return the mean of a metric over recorded evaluation episodes."""
    if metric in environment.metrics:
        terms = environment.metrics[metric].terms
        values = [
            sum(weight * row[f"sum_{name}"] for name, weight in terms.items())
            if terms
            else row[metric]
            for row in episodes
        ]
    elif metric == "success_rate":
        values = [environment.outcomes.get(row["outcome"]) is True for row in episodes]
    elif metric in ("return", "length"):
        values = [row[metric] for row in episodes]
    else:
        values = [f"{row['outcome']}_rate" == metric for row in episodes]
    return fmean(values)


def counted_outcomes(environment: Environment) -> list[str]:
    """Return the outcomes that have a rate: failures, or all if none is a success or failure."""
    known = any(success is not None for success in environment.outcomes.values())
    return [name for name, success in environment.outcomes.items() if success is False or not known]


def metric_direction(metric: str, environment: Environment) -> int:
    """Return 1 if more of a metric is better, −1 if less is, 0 if neither is."""
    if metric in ("return", "success_rate"):
        return 1
    if metric in environment.metrics:
        return environment.metrics[metric].better
    failures = any(success is False for success in environment.outcomes.values())
    return -1 if metric.endswith("_rate") and failures else 0


def metric_bounds(environment: Environment) -> dict[str, Bounds]:
    """Return the smallest and largest value of every metric that is known to be bounded.

    They hold for an episode, and so for the mean over the episodes of a run.
    """
    bounds = {name: (0.0, 1.0) for name in metric_names(environment) if name.endswith("_rate")}
    bounds |= {name: m.bounds for name, m in environment.metrics.items() if m.bounds}
    limit, episode_bounds = environment.time_limit, environment.episode_bounds
    if limit is not None:
        bounds["length"] = (1.0, float(limit))
        bounds |= episode_bounds(limit) if episode_bounds else {}
    return bounds
