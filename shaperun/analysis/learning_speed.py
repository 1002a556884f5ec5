"""Measures of a whole learning curve, and not only of its end."""

from __future__ import annotations

import numpy as np
import polars as pl

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
