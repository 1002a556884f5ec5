"""The trials of a sweep as one tidy table, with how far the seeds of each lie apart."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import polars as pl

from shaperun.analysis import results
from shaperun.runs.run_folder import StudyFolder
from shaperun.search.trial_results import TrialResult
from shaperun.search.trials import runs_of
from shaperun.study.models import Study


def trial_table(
    study: Study, folder: StudyFolder, found: Sequence[TrialResult], seeds: Sequence[int]
) -> pl.DataFrame:
    """One row a trial.

    The columns are trial, generation, arm, state, stopped_at (steps), `weight_` and the name of
    each swept term, runs (how many seeds), and of each objective the value, `_low` and `_high`: the
    trial's lowest and highest seed, null where there is one seed only or the trial did not finish.

    Args:
        study: names the swept terms and the objectives.
        folder: where the runs are.
        found: the trials, and what they came to over these seeds.
        seeds: of their runs.
    """
    names = [name.removeprefix("-") for name in study.sweep.objective] if study.sweep else []
    terms = list(study.sweep.weights) if study.sweep else []
    rows = [
        (
            *(one.trial.number, one.trial.generation, one.trial.arm, one.state, one.stopped_at),
            *(one.trial.weights[term] for term in terms),
            len(seeds),
            *(one.values or [None] * len(names)),
        )
        for one in found
    ]
    schema = {
        "trial": pl.Int64,
        "generation": pl.Int64,
        "arm": pl.String,
        "state": pl.String,
        "stopped_at": pl.Int64,
        **{f"weight_{term}": pl.Float64 for term in terms},
        "runs": pl.Int64,
        **dict.fromkeys(names, pl.Float64),
    }
    done = [one for one in found if one.state == "done"]
    ends = _ends(study, folder, done, seeds, names)
    table = pl.DataFrame(rows, schema=schema, orient="row")
    return table.join(ends, on="arm", how="left", maintain_order="left").with_columns(
        pl.when(state="done").then(pl.col(f"{name}{end}")).alias(f"{name}{end}")
        for name in names
        for end in ("_low", "_high")
    )


def _ends(
    study: Study,
    folder: StudyFolder,
    done: Iterable[TrialResult],
    seeds: Sequence[int],
    names: Sequence[str],
) -> pl.DataFrame:
    """The lowest and the highest seed of every arm; nothing is between the ends of one seed."""
    ends = {f"{name}_{end}": pl.Float64 for name in names for end in ("low", "high")}
    runs = runs_of(study, [one.trial for one in done], seeds)
    if len(seeds) < 2 or not runs:
        return pl.DataFrame(schema={"arm": pl.String, **ends})
    episodes = results.final_episodes(results.evaluation_episodes(folder, runs))
    return (
        results.run_metrics(episodes, study.environment.describe())
        .group_by("arm")
        .agg(
            *(pl.col(name).min().cast(pl.Float64).alias(f"{name}_low") for name in names),
            *(pl.col(name).max().cast(pl.Float64).alias(f"{name}_high") for name in names),
        )
        .select("arm", *ends)
    )
