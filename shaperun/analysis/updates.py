"""Tables of training from run folders: update statistics, and cost."""

from __future__ import annotations

import re
from collections.abc import Iterable

import polars as pl

from shaperun.analysis.evaluations import read_header_and_rows
from shaperun.runs.plan import Run
from shaperun.runs.run_folder import RunFolder
from shaperun.runs.status import RunStatus
from shaperun.runs.study_folder import StudyFolder

_STATISTIC = re.compile(r"(?!(arm|seed|entropy)$)[a-z][a-z_]{0,39}")
_MAX_NUMBER = 1e100  # beyond the 32-bit numbers of learners
_MAX_BYTES = 10_000_000  # 1,000 updates take a fiftieth


def update_statistics(folder: StudyFolder, runs: Iterable[Run]) -> pl.DataFrame:
    """Return one row per update: arm, seed, timesteps, entropy, and the learner's statistics.

    Raises:
        UserError: a file is damaged.
    """
    tables = []
    for run in runs:
        table = _read_updates(folder.run(run.arm, run.seed))
        if table is not None:
            key = (pl.lit(run.arm).alias("arm"), pl.lit(run.seed, pl.Int64).alias("seed"))
            # stable-baselines3 reports the loss, which is the negative mean entropy.
            tables.append(table.with_columns(*key, (-pl.col("entropy_loss")).alias("entropy")))
    return pl.concat(tables, how="diagonal_relaxed") if tables else pl.DataFrame()


def _read_updates(folder: RunFolder) -> pl.DataFrame | None:
    """Return one row per update of a run; None without any."""
    header, rows = read_header_and_rows(folder, folder.updates, _MAX_BYTES)
    if not rows:
        return None
    names = header.decode("ascii", "replace").split(",")
    if len(set(names)) < len(names) or not {"timesteps", "entropy_loss"} <= set(names):
        raise folder.damage_error(folder.updates, "a column is missing or duplicated")
    if not (rows.isascii() and all(map(_STATISTIC.fullmatch, names))):
        raise folder.damage_error(folder.updates, "not a table of updates")
    try:
        schema = dict.fromkeys(names, pl.Float64) | {"timesteps": pl.Int64}
        table = pl.read_csv(rows, has_header=False, schema=schema, quote_char=None)
    except pl.exceptions.PolarsError:
        raise folder.damage_error(folder.updates, "a line does not match the columns") from None
    if not _in_range(table):
        raise folder.damage_error(folder.updates, "a value is missing or out of range")
    return table


def _in_range(table: pl.DataFrame) -> bool:
    """Return whether all values have a reasonable size; statistics may be NaN or infinite."""
    size = pl.exclude("timesteps").abs()
    values = (~size.is_finite() | (size <= _MAX_NUMBER)).all()
    steps = pl.col("timesteps").is_between(0, _MAX_NUMBER).all(ignore_nulls=False)
    return all(table.select(values, steps).row(0))


def training_cost(states: Iterable[RunStatus]) -> pl.DataFrame:
    """Return one row per arm: runs, their total timesteps and seconds, and steps_per_second.

    Seconds are core-seconds of training and evaluation together; steps_per_second is the mean speed
    of one run in training, as `RunStatus` defines it.
    """
    rows = [
        {
            "arm": s.arm,
            "timesteps": s.timesteps,
            "seconds": s.core_seconds,
            "training_seconds": s.training_seconds,
        }
        for s in states
        if s.timesteps
    ]
    numbers = dict.fromkeys(["seconds", "training_seconds"], pl.Float64)
    speed = pl.col("timesteps") / pl.col("training_seconds")
    return (
        pl.DataFrame(rows, {"arm": pl.String, "timesteps": pl.Int64, **numbers})
        .group_by("arm", maintain_order=True)
        .agg(pl.len().alias("runs"), pl.col("timesteps", *numbers).sum())
        .with_columns(speed.alias("steps_per_second"))
        .drop("training_seconds")
    )
