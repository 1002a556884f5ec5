"""Tidy tables of results as CSV and Parquet, for pandas, polars, R or a spreadsheet."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import polars as pl
import polars.selectors as cs

from shaperun.common.files import atomic_replace

# Spreadsheets execute cells that begin so; a quote in front makes them text.
_FORMULA_STARTS = r"^[=+\-@\t\r\n＝＋－＠]"


def run_table(per_run: pl.DataFrame, final: pl.DataFrame) -> pl.DataFrame:
    """Return one row per finished run: study, arm, seed, and metrics over its final episodes."""
    studies = final.select("study", "arm", "seed").unique()
    return per_run.join(studies, on=["arm", "seed"], how="left", maintain_order="left").select(
        "study", "arm", "seed", pl.exclude("study", "arm", "seed")
    )


def episode_table(batch: pl.DataFrame, metrics: Iterable[str] = ()) -> pl.DataFrame:
    """Return one row per evaluation episode, of finished and unfinished runs.

    `metrics` are those that evaluations record in columns of their own.
    The values of terms at the first and last state are left out: half of all columns, and useful
    for recomputing rewards only. Each run's evaluations.csv has them.
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
        *metrics,
        cs.starts_with("sum_"),
    )


def write_table(table: pl.DataFrame, path: Path) -> list[Path]:
    """Write `path`.csv and `path`.parquet; equal tables give equal bytes."""
    table = escape_spreadsheet_formulas(table)
    text, columnar = (path.with_name(f"{path.name}.{kind}") for kind in ("csv", "parquet"))
    with atomic_replace(text) as file:
        table.write_csv(file)
    with atomic_replace(columnar) as file:
        table.write_parquet(file, compression="zstd")
    return [text, columnar]


def escape_spreadsheet_formulas(table: pl.DataFrame) -> pl.DataFrame:
    """Return the table with a quote before each text that a spreadsheet would execute."""
    return table.with_columns(
        pl.when(pl.col(name).str.contains(_FORMULA_STARTS))
        .then("'" + pl.col(name))
        .otherwise(pl.col(name))
        .alias(name)
        for name in table.select(cs.string()).columns
    )
