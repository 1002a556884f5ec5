"""Measures of a whole learning curve, and not only of its end."""

from __future__ import annotations

import numpy as np
import polars as pl

from shaperun.envs.base import Bounds, Environment
from shaperun.envs.metrics import metric_bounds
from shaperun.stats import intervals
from shaperun.stats.sample import iqm

AUC = "auc"
STEPS_TO_SOLVED = "steps_to_solved"
SOLVED = "solved"


def learning_speed(curves: pl.DataFrame, solved: float | None) -> pl.DataFrame:
    """Return one row per run: arm, seed, auc, and with a `solved` return steps_to_solved, solved.

    - `auc`, the return over training: the area under the curve (trapezoidal rule) divided by the
      steps that it spans, in units of return.
    - `steps_to_solved`: environment steps until an evaluation first reached `solved`. A run that
      never did is censored: it counts with the time limit, and its `solved` is false. Means of
      such times are restricted means (Royston & Parmar 2013). The time limit is the last
      evaluation of the shortest run, the same for all, as some learners finish their last rollout.

    The curves have one row per evaluation of a finished run: arm, seed, timesteps, return.
    """
    curves = curves.sort("timesteps", maintain_order=True)
    speed = curves.group_by("arm", "seed", maintain_order=True).agg(
        pl.struct("timesteps", "return")
        .map_batches(_area_under_curve, pl.Float64, returns_scalar=True)
        .alias(AUC)
    )
    if solved is None:
        return speed
    reached = curves.filter(pl.col("return") >= solved)
    first = reached.group_by("arm", "seed").agg(pl.col("timesteps").min().alias(STEPS_TO_SOLVED))
    ends = curves.group_by("arm", "seed").agg(pl.col("timesteps").max())
    limit = pl.lit(ends["timesteps"].min(), pl.Int64)
    time = pl.col(STEPS_TO_SOLVED)
    return speed.join(first, on=["arm", "seed"], how="left", maintain_order="left").with_columns(
        time.is_not_null().alias(SOLVED),
        time.fill_null(limit).clip(upper_bound=limit).cast(pl.Float64),
    )


def solving_time_bounds(runs: pl.DataFrame, total_timesteps: int) -> tuple[float, float]:
    """Return the bounds of `steps_to_solved`: censored runs are at the upper one."""
    unsolved = runs.filter(~pl.col(SOLVED))[STEPS_TO_SOLVED].to_list()
    times = runs[STEPS_TO_SOLVED].to_list()
    return 0.0, float(max(unsolved or [total_timesteps, *times]))


def _area_under_curve(points: pl.Series) -> float:
    steps, returns = (points.struct.field(name).to_numpy() for name in ("timesteps", "return"))
    if not len(steps):  # polars calls this even without a group
        return 0.0
    span = float(steps[-1] - steps[0])
    return float(np.trapezoid(returns, steps)) / span if span else float(returns[-1])


def center_curves(curves: pl.DataFrame, environment: Environment) -> pl.DataFrame:
    """Return the interquartile mean return over runs per arm and evaluation, with its interval."""
    bounds = metric_bounds(environment).get("return")
    points = curves.group_by("arm", "timesteps", maintain_order=True).agg("return", runs=pl.len())
    # Points with the same number of runs at once: one by one they would take seconds.
    tables = [
        _center_points(same, bounds) for same in points.partition_by("runs", maintain_order=True)
    ]
    return pl.concat(tables).sort("arm", "timesteps")


def _center_points(points: pl.DataFrame, bounds: Bounds | None) -> pl.DataFrame:
    values = np.stack([returns.to_numpy() for returns in points["return"]])
    rng = np.random.default_rng(0)  # so that curves repeat
    result = intervals.intervals(values, statistic="iqm", bounds=bounds, rng=rng)
    result = result or intervals.intervals(values, statistic="median", rng=rng)
    low, high = (result.low, result.high) if result else [[None] * len(points)] * 2
    return points.select(
        "arm",
        "timesteps",
        pl.Series("return_center", [iqm(row) for row in values]),
        pl.Series("return_low", low, pl.Float64),
        pl.Series("return_high", high, pl.Float64),
        "runs",
    )
