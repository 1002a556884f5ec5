"""Ranking of a sweep's trials by its objective, and confirmation of the best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import polars as pl

from shaperun.analysis import results, summary
from shaperun.analysis.results import LoadedRuns
from shaperun.common.text import humanize
from shaperun.runs.plan import plan_runs
from shaperun.runs.prepare import ensure_unchanged
from shaperun.search.driver import confirmation_seeds
from shaperun.search.trial_results import (
    TrialResult,
    evaluate_trials,
    make_trial_table,
    measure_trials,
    objective_values,
    select_best_trials,
    sweep_of,
)
from shaperun.search.trials import load_trials, make_trial_arms, plan_trial_runs
from shaperun.study.models import Study
from shaperun.study.sweep import Sweep


@dataclass(frozen=True)
class SweepResults:
    """Results of a sweep."""

    study: Study
    ranking: pl.DataFrame
    """Finished trials, the best first; see `rank_trials`."""
    trials: list[TrialResult]
    """All trials, in order."""
    best: list[ConfirmedTrial]
    table: pl.DataFrame
    """All trials, and the best again with fresh seeds: the columns of `make_trial_table`, plus
    `seeds` (`search` or `fresh`) and `best` (whether the trial is the best or on the front)."""

    def count(self, state: str) -> int:
        """Return the number of trials in a state."""
        return sum(result.state == state for result in self.trials)


@dataclass(frozen=True)
class ConfirmedTrial:
    """A best trial of a sweep, with seeds that the sweep has not used."""

    result: TrialResult
    seeds: list[int]
    values: tuple[float, ...] | None
    """One value per objective over the fresh seeds; None until their runs are finished."""

    @property
    def known_values(self) -> list[tuple[float, ...]]:
        """The values on the seeds of the search and, once they are known, on the fresh ones."""
        return [values for values in (self.result.values, self.values) if values]


def rank_trials(study: Study, loaded: LoadedRuns) -> SweepResults:
    """Rank the sweep's finished trials by its objective, or the first of two.

    The ranking has one row per arm: arm, a column per swept weight, runs, return, return_low,
    return_high, success_rate if the environment has one, and for each objective the value with the
    interval of the same statistic, `_low` and `_high`. It is empty until a trial is finished.

    Raises:
        UserError: the study has no sweep, or the folder holds another one.
    """
    folder = loaded.folder
    trials = load_trials(study, folder)
    ensure_unchanged(folder, plan_trial_runs(study, trials, study.seeds))
    evaluated = evaluate_trials(study, loaded, trials)
    winners = select_best_trials(study, evaluated)
    fresh = confirmation_seeds(study)
    measured = measure_trials(study, loaded, [w.trial for w in winners], fresh) if fresh else {}
    values = {number: objective_values(study, metrics) for number, metrics in measured.items()}
    best = [ConfirmedTrial(w, fresh, values.get(w.trial.number)) for w in winners]
    ranking = _make_ranking(study, loaded, evaluated)
    table = _make_table(study, loaded, evaluated, best)
    return SweepResults(study, ranking, evaluated, best, table)


def _make_table(
    study: Study,
    loaded: LoadedRuns,
    trials: Sequence[TrialResult],
    best: Sequence[ConfirmedTrial],
) -> pl.DataFrame:
    confirmed = [replace(one.result, values=one.values) for one in best if one.values]
    fresh = best[0].seeds if best else []
    parts = (("search", trials, study.seeds), ("fresh", confirmed, fresh))
    winners = [one.result.trial.arm for one in best]
    return pl.concat(
        make_trial_table(study, loaded, rows, seeds).with_columns(
            pl.lit(kind).alias("seeds"), pl.col("arm").is_in(winners).alias("best")
        )
        for kind, rows, seeds in parts
    )


def _make_ranking(
    study: Study, loaded: LoadedRuns, evaluated: Sequence[TrialResult]
) -> pl.DataFrame:
    done = {result.trial.arm: result for result in evaluated if result.state == "done"}
    if not done:
        return pl.DataFrame()
    environment = study.evaluated_environment.describe()
    arms = make_trial_arms(study, [result.trial for result in done.values()])
    runs = plan_runs(study, arms)
    final = results.final_episodes(loaded.episodes(runs))
    swept = study.model_copy(update={"arms": arms})
    per_run = results.run_metrics(final, environment)
    summaries = summary.summarize(swept, environment, per_run, "return").arms
    rows = pl.DataFrame([_ranking_row(arm, done[arm.arm], study) for arm in summaries])
    sweep = sweep_of(study)
    descending = sweep.objective[0][0] != "-"
    return rows.sort(sweep.metrics[0], descending=descending, maintain_order=True)


def _ranking_row(arm: summary.ArmSummary, result: TrialResult, study: Study) -> dict[str, object]:
    returns, sweep = arm.metrics["return"], sweep_of(study)
    success = arm.metrics.get("success_rate")
    row: dict[str, object] = {
        "arm": arm.arm,
        **result.trial.weights,
        "runs": arm.runs,
        "return": returns.iqm,
        "return_low": returns.low,
        "return_high": returns.high,
        **({"success_rate": success.iqm} if success else {}),
    }
    for name, value in zip(sweep.metrics, result.values or (), strict=True):
        low, high = arm.metrics[name].interval_of(sweep.aggregate)
        row |= {name: value, f"{name}_low": low, f"{name}_high": high}
    return row


def format_objectives(sweep: Sweep, *trials: Sequence[float]) -> list[str]:
    """Return the values of the objectives of trials, with their names and decimals that differ."""
    columns = [
        [f"{humanize(name)} {text}" for text in summary.format_metrics(name, values, apart=True)]
        for name, *values in zip(sweep.metrics, *trials, strict=True)
    ]
    return [" and ".join(parts) for parts in zip(*columns, strict=True)]
