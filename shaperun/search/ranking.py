"""What a sweep came to: a ranking by the environment's own reward, and figures of it."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from shaperun.analysis import results, summary
from shaperun.common.errors import UserError
from shaperun.runs.plan import planned_runs
from shaperun.runs.prepare import ensure_unchanged
from shaperun.runs.study_folder import StudyFolder
from shaperun.search.driver import fresh_seeds
from shaperun.search.trial_results import (
    TrialResult,
    best_trials,
    evaluate_trials,
    measure,
    objectives,
)
from shaperun.search.trials import arms_of, known_trials, runs_of
from shaperun.study.models import Study


@dataclass(frozen=True)
class SweepResults:
    """What became of a sweep's trials."""

    study: Study
    ranking: pl.DataFrame
    """The arms of the finished trials, the best first; one row each."""
    trials: list[TrialResult]
    """All trials, in order; those that were stopped on the way are in no ranking."""
    best: list[Confirmed]

    def count(self, state: str) -> int:
        """How many trials are in a state."""
        return sum(result.state == state for result in self.trials)


@dataclass(frozen=True)
class Confirmed:
    """A trial that a search found best, and what became of it with seeds that it had not seen."""

    result: TrialResult
    seeds: list[int]
    values: tuple[float, ...] | None
    """A value an objective over the fresh seeds; None as long as their runs are not finished."""


def rank(study: Study, folder: StudyFolder) -> SweepResults:
    """Rank the sweep's finished trials by its objective, or the first of two.

    The ranking has one row an arm: arm, a column a swept weight, runs, return, return_low,
    return_high, success_rate where there is such a thing, and a column an objective.

    Raises:
        UserError: there is no sweep, or none of it has been trained so.
    """
    trials = known_trials(study, folder)
    ensure_unchanged(folder, runs_of(study, trials, study.seeds))
    found = evaluate_trials(study, folder, trials)
    winners = best_trials(study, found)
    fresh = fresh_seeds(study)
    values = measure(study, folder, [winner.trial for winner in winners], fresh) if fresh else {}
    confirmed = [
        Confirmed(winner, fresh, objectives(study, values.get(winner.trial.number)))
        for winner in winners
    ]
    return SweepResults(study, _ranking(study, folder, found), found, confirmed)


def _ranking(study: Study, folder: StudyFolder, found: list[TrialResult]) -> pl.DataFrame:
    done = {result.trial.arm: result for result in found if result.state == "done"}
    if not done:
        raise UserError(f"no trial of the sweep of {study.study} is finished yet: shaperun sweep")
    environment = study.environment.describe()
    arms = arms_of(study, [result.trial for result in done.values()])
    runs = planned_runs(study, arms)
    final = results.final_episodes(results.evaluation_episodes(folder, runs))
    swept = study.model_copy(update={"arms": arms})
    per_run = results.run_metrics(final, environment)
    summaries = summary.summarize(swept, environment, per_run, "return").arms
    rows = pl.DataFrame([_row(arm, done[arm.arm], study) for arm in summaries])
    first = swept_objectives(study)[0]
    return rows.sort(first.removeprefix("-"), descending=first[0] != "-", maintain_order=True)


def swept_objectives(study: Study) -> list[str]:
    """What the sweep is for; a minus in front: less is better."""
    return list(study.sweep.objective) if study.sweep else []


def _row(arm: summary.ArmSummary, result: TrialResult, study: Study) -> dict[str, object]:
    own = arm.metrics["return"]
    success = arm.metrics.get("success_rate")
    names = [name.removeprefix("-") for name in swept_objectives(study)]
    return {
        "arm": arm.arm,
        **result.trial.weights,
        "runs": arm.runs,
        "return": own.iqm,
        "return_low": own.low,
        "return_high": own.high,
        **({"success_rate": success.iqm} if success else {}),
        **dict(zip(names, result.values or (), strict=True)),
    }
