"""What a sweep came to: a ranking by the environment's own reward, and figures of it."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from shaperun import canvas, results, summary, sweep_plots
from shaperun.arm import RewardConfig
from shaperun.batch import refuse_changed
from shaperun.errors import UserError
from shaperun.files import write_atomically, write_json
from shaperun.plan import planned_runs
from shaperun.store import StudyFolder
from shaperun.study import Study
from shaperun.sweep import sweep_arms


@dataclass(frozen=True)
class SweepResults:
    """The ranking of a sweep's arms, the best first, and how many runs were planned."""

    study: Study
    ranking: pl.DataFrame
    planned: int
    finished: int


def rank(study: Study, folder: StudyFolder) -> SweepResults:
    """Rank the sweep's arms by the interquartile mean return of their finished runs.

    The ranking has one row an arm: arm, a column a swept weight, runs, return, return_low,
    return_high and success_rate.

    Raises:
        UserError: there is no sweep, or none of it has been trained so.
    """
    environment = study.environment.describe()
    arms = sweep_arms(study)
    runs = planned_runs(study, arms)
    refuse_changed(folder, runs)
    episodes = results.evaluation_episodes(folder, runs)
    final = results.final_episodes(episodes) if len(episodes) else episodes
    if final.is_empty():
        raise UserError(f"no run of the sweep of {study.study} is finished yet: shaperun sweep")
    per_run = results.run_metrics(final, environment)
    swept = study.model_copy(update={"arms": arms})
    found = summary.summarize(swept, environment, per_run, "return")
    rows = [_row(arm, arms[arm.arm], study) for arm in found.arms]
    return SweepResults(study, pl.DataFrame(rows), len(runs), len(per_run))


def _row(arm: summary.ArmSummary, reward: RewardConfig, study: Study) -> dict[str, object]:
    own = arm.metrics["return"]
    return {
        "arm": arm.arm,
        **{name: reward.weights[name] for name in _swept(study)},
        "runs": arm.runs,
        "return": own.iqm,
        "return_low": own.low,
        "return_high": own.high,
        "success_rate": arm.metrics["success_rate"].iqm,
    }


def write(found: SweepResults, folder: StudyFolder) -> list[Path]:
    """Write the ranking as CSV and JSON, a response curve a weight, and a heatmap a pair."""
    study, ranking = found.study, found.ranking
    title = f"{study.study}: sweep on {study.environment.id}"
    written = []
    for name in _swept(study):
        others = "" if len(_swept(study)) == 1 else ", over all values of the others"
        figure = sweep_plots.response_curve(
            _marginal(ranking, [name]).rename({name: "value"}),
            weight=name,
            title=f"{title}: weight of {name}{others}",
        )
        written += canvas.save(figure, folder.sweep / f"response-{name}")
    for x, y in itertools.combinations(_swept(study), 2):
        others = ", over all values of the others" if len(_swept(study)) > 2 else ""
        pairs = _marginal(ranking, [x, y])
        figure = sweep_plots.heatmap(pairs, x=x, y=y, title=f"{title}: {x} and {y}{others}")
        written += canvas.save(figure, folder.sweep / f"heatmap-{x}-{y}")
    table, document = folder.sweep / "ranking.csv", folder.sweep / "ranking.json"
    write_atomically(table, ranking.write_csv().encode())
    write_json(document, {"study": study.study, "ranking": ranking.to_dicts()})
    return [*written, table, document]


def _marginal(ranking: pl.DataFrame, names: list[str]) -> pl.DataFrame:
    """Means over the arms that share these weights; an interval only where it is a single arm's."""
    alone = pl.len() == 1
    return ranking.group_by(names).agg(
        pl.col("return", "success_rate").mean(),
        *(
            pl.when(alone).then(pl.col(end).first()).alias(end)
            for end in ("return_low", "return_high")
        ),
    )


def _swept(study: Study) -> list[str]:
    return list(study.sweep.weights) if study.sweep else []
