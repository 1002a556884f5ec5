"""Tidy tables of what was measured, for pandas, polars, R or a spreadsheet: CSV, and Parquet."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import polars.selectors as cs

from shaperun.common.files import atomic_replace

# A spreadsheet runs a cell that begins so; a quote in front makes it text.
_FORMULA_STARTS = r"^[=+\-@\t\r\n＝＋－＠]"


def run_table(per_run: pl.DataFrame, final: pl.DataFrame) -> pl.DataFrame:
    """One row a finished run: study, arm, seed, and its metrics over the final episodes.

    Args:
        per_run: as `results.run_metrics` makes it.
        final: the runs' final episodes, which say what study a run is of.
    """
    of_study = final.select("study", "arm", "seed").unique()
    return per_run.join(of_study, on=["arm", "seed"], how="left", maintain_order="left").select(
        "study", "arm", "seed", pl.exclude("study", "arm", "seed")
    )


def episode_table(batch: pl.DataFrame) -> pl.DataFrame:
    """One row an evaluation episode, those of unfinished runs included (`finished` says which).

    The values of terms at the first and the last state are left out, which are half of all the
    columns and of use for recomputing rewards only; every run's evaluations.csv has them.
    """
    return batch.select(
        "study",
        "arm",
        "seed",
        pl.col("done").alias("finished"),
        "timesteps",
        "episode",
        "episode_seed",
        "length",
        "outcome",
        pl.col("terminated").cast(pl.Boolean),
        "return",
        "shaping",
        "shaped_return",
        cs.by_name("schedule", require_all=False),
        cs.starts_with("sum_"),
    )


def write_table(table: pl.DataFrame, path: Path) -> list[Path]:
    """Write `path`.csv and `path`.parquet; the same table gives the same bytes."""
    table = escape_spreadsheet_formulas(table)
    text, columnar = (path.with_name(f"{path.name}.{kind}") for kind in ("csv", "parquet"))
    with atomic_replace(text) as file:
        table.write_csv(file)
    with atomic_replace(columnar) as file:
        table.write_parquet(file, compression="zstd")
    return [text, columnar]


def escape_spreadsheet_formulas(table: pl.DataFrame) -> pl.DataFrame:
    """The table without a cell that a spreadsheet would run."""
    return table.with_columns(
        pl.when(pl.col(name).str.contains(_FORMULA_STARTS))
        .then("'" + pl.col(name))
        .otherwise(pl.col(name))
        .alias(name)
        for name in table.select(cs.string()).columns
    )
