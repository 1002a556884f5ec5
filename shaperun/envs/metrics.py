"""The figures that policies are compared by, all on the environment's own terms."""

from __future__ import annotations

from shaperun.envs.base import Environment


def metric_names(environment: Environment) -> list[str]:
    """Return, shares of outcomes, length, and the environment's own, means over episodes."""
    rates = [f"{name}_rate" for name in counted_outcomes(environment)]
    if any(environment.outcomes.values()):
        rates = ["success_rate", *rates]
    return ["return", *rates, "length", *environment.metrics]


def counted_outcomes(environment: Environment) -> list[str]:
    """The outcomes to count: the failures, or all where nothing is said about good and bad."""
    known = any(good is not None for good in environment.outcomes.values())
    return [name for name, good in environment.outcomes.items() if good is False or not known]


def direction(metric: str, environment: Environment) -> int:
    """1 where more of a metric is better, −1 where less is, 0 where neither."""
    if metric in ("return", "success_rate"):
        return 1
    failed = any(good is False for good in environment.outcomes.values())
    return -1 if metric.endswith("_rate") and failed else 0
