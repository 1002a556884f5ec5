"""Run folders -> tables of what happened in training: the updates, and what it cost."""

from __future__ import annotations

import re
from collections.abc import Iterable

import polars as pl

from shaperun.common.files import read_table
from shaperun.runs.plan import Run
from shaperun.runs.run_folder import RunFolder
from shaperun.runs.status import RunStatus
from shaperun.runs.study_folder import StudyFolder

_REPORTED = re.compile(r"(?!(arm|seed|entropy)$)[a-z][a-z_]{0,39}")
_MAX_NUMBER = 1e100  # the learners reckon in 32 bits


def update_statistics(folder: StudyFolder, runs: Iterable[Run]) -> pl.DataFrame:
    """One row an update: arm, seed, timesteps, entropy, and what else the learner reported.

    Raises:
        UserError: a file is not as a run writes it.
    """
    tables = []
    for run in runs:
        table = _updates(folder.run(run.arm, run.seed))
        if table is not None:
            own = (pl.lit(run.arm).alias("arm"), pl.lit(run.seed, pl.Int64).alias("seed"))
            # stable-baselines3 reports the loss, the negative of the mean entropy.
            tables.append(table.with_columns(*own, (-pl.col("entropy_loss")).alias("entropy")))
    return pl.concat(tables, how="diagonal_relaxed") if tables else pl.DataFrame()


def _updates(folder: RunFolder) -> pl.DataFrame | None:
    """What a run's learner reported, a row an update; None where there is none."""
    try:
        header, _, rows = read_table(folder.updates).partition(b"\n")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise folder.damaged(folder.updates, f"{error.strerror}") from None
    if not rows:
        return None
    names = header.decode("ascii", "replace").split(",")
    there = set(names)
    if len(there) < len(names) or not {"timesteps", "entropy_loss"} <= there:
        raise folder.damaged(folder.updates, "a column is missing, or there twice")
    if not (rows.isascii() and all(map(_REPORTED.fullmatch, names))):
        raise folder.damaged(folder.updates, "it is no table of updates")
    try:
        schema = dict.fromkeys(names, pl.Float64) | {"timesteps": pl.Int64}
        table = pl.read_csv(rows, has_header=False, schema=schema, quote_char=None)
    except pl.exceptions.PolarsError:
        raise folder.damaged(folder.updates, "a line does not fit the columns") from None
    if not _is_sound(table):
        raise folder.damaged(folder.updates, "a number is missing or beyond all measure")
    return table


def _is_sound(table: pl.DataFrame) -> bool:
    """Whether the figures can be reckoned with; a learner may well report NaN or infinity."""
    size = pl.exclude("timesteps").abs()
    usable = (~size.is_finite() | (size <= _MAX_NUMBER)).all()
    in_time = pl.col("timesteps").is_between(0, _MAX_NUMBER).all(ignore_nulls=False)
    return all(table.select(usable, in_time).row(0))


def training_cost(states: Iterable[RunStatus]) -> pl.DataFrame:
    """One row an arm: runs, timesteps and seconds of all its runs, and steps_per_second of one.

    The seconds are those of one core, for training and evaluation together.
    """
    rows = [
        {"arm": s.arm, "timesteps": s.timesteps, "seconds": s.core_seconds}
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
