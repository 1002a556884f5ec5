"""Metrics that policies are compared by, all of them independent of reward shaping."""

from __future__ import annotations

from shaperun.envs.base import Environment


def metric_names(environment: Environment) -> list[str]:
    """Return the names of all metrics: return, outcome rates, length, and the environment's."""
    rates = [f"{name}_rate" for name in counted_outcomes(environment)]
    if any(environment.outcomes.values()):
        rates = ["success_rate", *rates]
    return ["return", *rates, "length", *environment.metrics]


def counted_outcomes(environment: Environment) -> list[str]:
    """Return the outcomes that have a rate: failures, or all if none is a success or failure."""
    known = any(success is not None for success in environment.outcomes.values())
    return [name for name, success in environment.outcomes.items() if success is False or not known]


def metric_direction(metric: str, environment: Environment) -> int:
    """Return 1 if more of a metric is better, −1 if less is, 0 if neither is."""
    if metric in ("return", "success_rate"):
        return 1
    failures = any(success is False for success in environment.outcomes.values())
    return -1 if metric.endswith("_rate") and failures else 0
