"""Run folders -> tables of what happened in training: the updates, and what it cost."""

from __future__ import annotations

from collections.abc import Iterable

import polars as pl

from shaperun.batch import RunStatus
from shaperun.files import read_table
from shaperun.plan import Run
from shaperun.store import StudyFolder


def update_statistics(folder: StudyFolder, runs: Iterable[Run]) -> pl.DataFrame:
    """One row an update: arm, seed, timesteps, entropy, and what else the learner reported."""
    tables = []
    for run in runs:
        path = folder.run(run.arm, run.seed).updates
        rows = read_table(path) if path.exists() else b""
        if not rows:
            continue
        table = pl.read_csv(rows, infer_schema_length=None)
        numbers = pl.all().exclude("timesteps").cast(pl.Float64, strict=False)
        tables.append(
            table.with_columns(numbers).with_columns(
                pl.lit(run.arm).alias("arm"),
                pl.lit(run.seed, pl.Int64).alias("seed"),
                # stable-baselines3 reports the loss, the negative of the mean entropy.
                (-pl.col("entropy_loss").cast(pl.Float64, strict=False)).alias("entropy"),
            )
        )
    tables = [table for table in tables if len(table)]
    return pl.concat(tables, how="diagonal_relaxed") if tables else pl.DataFrame()


def cost(states: Iterable[RunStatus]) -> pl.DataFrame:
    """One row an arm: runs, timesteps and seconds of all its runs, and steps_per_second of one.

    The seconds are those of training and evaluation together, on one core each.
    """
    rows = [
        {"arm": s.arm, "timesteps": s.timesteps, "seconds": s.seconds}
        for s in states
        if s.timesteps
    ]
    schema = {"arm": pl.String, "timesteps": pl.Int64, "seconds": pl.Float64}
    return (
        pl.DataFrame(rows, schema)
        .group_by("arm", maintain_order=True)
        .agg(pl.len().alias("runs"), pl.col("timesteps", "seconds").sum())
        .with_columns((pl.col("timesteps") / pl.col("seconds")).alias("steps_per_second"))
    )
