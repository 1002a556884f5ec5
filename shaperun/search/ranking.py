"""What a sweep came to: a ranking by the environment's own reward, and figures of it."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl

from shaperun.analysis import results, summary, tables
from shaperun.common.errors import UserError
from shaperun.common.files import write_atomically, write_json
from shaperun.common.yaml import dump_yaml
from shaperun.report.plots import sweep
from shaperun.runs.driver import refuse_changed
from shaperun.runs.plan import planned_runs
from shaperun.runs.run_folder import StudyFolder
from shaperun.search.driver import fresh_seeds
from shaperun.search.trial_results import TrialResult, best, judge, measure, objectives
from shaperun.search.trial_table import trial_table
from shaperun.search.trials import known_trials, rewards, runs_of
from shaperun.study.models import Study

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,63}")


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
    refuse_changed(folder, runs_of(study, trials, study.seeds))
    found = judge(study, folder, trials)
    winners = best(study, found)
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
    arms = rewards(study, [result.trial for result in done.values()])
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


def write(found: SweepResults, folder: StudyFolder) -> list[Path]:
    """Write the ranking as CSV and JSON, the trials as CSV, and the figures."""
    study, ranking, trials = found.study, found.ranking, trials_of(found, folder)
    written = sweep.write(study, ranking, trials, folder.sweep)
    for name, rows in (("ranking", ranking), ("trials", trials)):
        written.append(folder.sweep / f"{name}.csv")
        write_atomically(written[-1], tables.harmless(rows).write_csv().encode())
    document = folder.sweep / "ranking.json"
    write_json(document, found_document(found))
    return [*written, document, *_write_best(found, folder)]


def trials_of(found: SweepResults, folder: StudyFolder) -> pl.DataFrame:
    """All trials, and the best once more with their fresh seeds, as `search_plots` takes them."""
    study = found.study
    again = [replace(one.result, values=one.values) for one in found.best if one.values]
    fresh = found.best[0].seeds if found.best else []
    parts = (("search", found.trials, study.seeds), ("fresh", again, fresh))
    winners = [one.result.trial.arm for one in found.best]
    return pl.concat(
        trial_table(study, folder, rows, seeds).with_columns(
            pl.lit(kind).alias("seeds"), pl.col("arm").is_in(winners).alias("best")
        )
        for kind, rows, seeds in parts
    )


def found_document(found: SweepResults) -> dict[str, Any]:
    """All that is known of the trials, as `ranking.json` holds it."""
    names = swept_objectives(found.study)
    return {
        "study": found.study.study,
        "method": found.study.sweep.method if found.study.sweep else None,
        "objective": names,
        "same_for_any_number_of_workers": True,
        "ranking": found.ranking.to_dicts(),
        "trials": [
            {
                "trial": result.trial.number,
                "generation": result.trial.generation,
                "arm": result.trial.arm,
                "weights": result.trial.weights,
                "state": result.state,
                "stopped_at": result.stopped_at,
                "values": result.values,
            }
            for result in found.trials
        ],
        "best": [
            {
                "arm": winner.result.trial.arm,
                "search": {"seeds": found.study.seeds, "values": winner.result.values},
                "fresh": {"seeds": winner.seeds, "values": winner.values},
            }
            for winner in found.best
        ],
    }


def _write_best(found: SweepResults, folder: StudyFolder) -> list[Path]:
    """The best as a study of its own, on the seeds that the search had not seen."""
    study = found.study
    if not study.sweep or not found.best or not found.best[0].seeds:
        return []
    trials = [winner.result.trial for winner in found.best]
    arms = {study.baseline: study.arms[study.baseline], **rewards(study, trials)}
    named = {
        name if _NAME.fullmatch(name) else f"best-{n}": arm
        for n, (name, arm) in enumerate(arms.items())
    }
    document = study.model_copy(
        update={
            "study": f"{study.study[:58]}-best",
            "seeds": found.best[0].seeds,
            "arms": named,
            "sweep": None,
        }
    ).model_dump(mode="json", exclude={"sweep"})
    path = folder.sweep / "best.yaml"
    comment = "# The best weights of a search beside the baseline, on seeds that it had not seen."
    write_atomically(
        path, f"{comment}\n# shaperun train {path.name}\n{dump_yaml(document)}".encode()
    )
    return [path]
