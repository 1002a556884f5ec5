"""How quickly runs learned, over the whole learning curve and not only at its end."""

from __future__ import annotations

import numpy as np
import polars as pl

AUC = "auc"
STEPS_TO_SOLVED = "steps_to_solved"
SOLVED = "solved"


def learning_speed(curves: pl.DataFrame, solved: float | None) -> pl.DataFrame:
    """One row a run: arm, seed and how quickly it learned.

    - `auc`: the area under its curve of environment returns over the steps that it spans
      (trapezia), which is its mean return over training, in units of return.
    - `steps_to_solved`: environment steps until an evaluation first reached the return that counts
      as solved. A run that never did is censored at its last evaluation: that is its value, and
      `solved` is false. Means of such times are restricted means (Royston & Parmar 2013): they
      count what was needed within a time that is the same for all. That is the shortest run's,
      since some learners go on to the end of a rollout, and others do not.

    Args:
        curves: one row an evaluation of a finished run: arm, seed, timesteps, return.
        solved: the return that counts as solved; without one the last two columns are absent.
    """
    curves = curves.sort("timesteps", maintain_order=True)
    found = curves.group_by("arm", "seed", maintain_order=True).agg(
        pl.struct("timesteps", "return").map_batches(
            _area_under_curve, pl.Float64, returns_scalar=True
        )
    )
    found = found.rename({"timesteps": AUC})
    if solved is None:
        return found
    reached = curves.filter(pl.col("return") >= solved)
    first = reached.group_by("arm", "seed").agg(pl.col("timesteps").min().alias(STEPS_TO_SOLVED))
    ends = curves.group_by("arm", "seed").agg(pl.col("timesteps").max())
    end = pl.lit(ends.select(pl.col("timesteps").min()).item(), pl.Int64)
    time = pl.col(STEPS_TO_SOLVED)
    return found.join(first, on=["arm", "seed"], how="left", maintain_order="left").with_columns(
        time.is_not_null().alias(SOLVED),
        time.fill_null(end).clip(upper_bound=end).cast(pl.Float64),
    )


def _area_under_curve(points: pl.Series) -> float:
    steps, returns = (points.struct.field(name).to_numpy() for name in ("timesteps", "return"))
    if not len(steps):  # polars asks even where there is no run
        return 0.0
    span = float(steps[-1] - steps[0])
    return float(np.trapezoid(returns, steps)) / span if span else float(returns[-1])
