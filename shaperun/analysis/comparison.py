"""What `compare` says of studies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from shaperun.analysis import results, summary, tables, training_differences
from shaperun.analysis.learning_speed import learning_speed
from shaperun.analysis.pooling import Opened, Pool, pool_studies
from shaperun.common.errors import UserError
from shaperun.envs.metrics import metric_names
from shaperun.runs.plan import planned_runs
from shaperun.runs.prepare import ensure_unchanged
from shaperun.runs.status import RunStatus
from shaperun.runs.study_folder import StudyFolder
from shaperun.study.models import Study


@dataclass(frozen=True)
class StudyComparison:
    """What a study's evaluations come to, and the runs that are not finished.

    Of several studies, `study` has the arms of all and `pool` says how they came together.

    Attributes:
        curves: as `results.curves` makes them.
        final: the episodes of the last evaluations, with all that was recorded.
        runs: as `exports.run_table` makes it.
        episodes: as `exports.episode_table` makes it.
        planned: how many runs there are to be.
    """

    study: Study
    curves: pl.DataFrame
    final: pl.DataFrame
    runs: pl.DataFrame
    episodes: pl.DataFrame
    summary: summary.Summary
    planned: int
    unfinished: list[RunStatus]
    pool: Pool | None = None

    @property
    def notes(self) -> list[str]:
        """Sentences on arms that differ in more than their reward, or that two studies share."""
        return (
            self.pool.notes if self.pool else list(training_differences.training_notes(self.study))
        )

    def document(self) -> dict[str, Any]:
        """As `compare --json` prints it."""
        document = self.summary.document()
        if self.pool:
            document["studies"] = self.pool.studies
        return document | ({"notes": self.notes} if self.notes or self.pool else {})


def compare_arms(study: Study, folder: StudyFolder, by: str = "return") -> StudyComparison:
    """Gather and summarise what there is of a study's arms, the best by one metric first.

    Raises:
        UserError: nothing was trained, it was trained differently, or arms cannot be ranked so.
    """
    summary.check_ranking(by, metric_names(study.environment.describe()))
    runs = planned_runs(study, study.arms)
    ensure_unchanged(folder, runs)
    arms = list(study.arms)
    runs.sort(key=lambda run: arms.index(run.arm))
    found = _summarized(study, results.recorded_runs(study.study, folder, runs), by)
    if found is None:
        raise UserError(_empty(study, folder))
    return found


def _empty(study: Study, folder: StudyFolder) -> str:
    if study.sweep is None:
        return f"nothing of {study.study} has been trained into {folder.path} yet"
    return (
        f"no arm of {study.study} has been trained into {folder.path} yet: shaperun train it. "
        "The trials of a sweep are no arms; shaperun report ranks them"
    )


def compare_studies(opened: Sequence[Opened], by: str = "return") -> StudyComparison:
    """The same of one study, or of several: their arms are compared with the first's baseline.

    Raises:
        UserError: as for one; and they are not on the same environment and final episodes.
    """
    if len(opened) == 1:
        return compare_arms(*opened[0], by)
    pooled = pool_studies(opened)
    summary.check_ranking(by, metric_names(pooled.study.environment.describe()))
    found = _summarized(pooled.study, pooled.runs, by, pooled)
    if found is None:
        raise UserError(f"nothing of {pooled.study.study} has been trained yet")
    return found


def _summarized(
    study: Study, runs: list[results.RecordedRun], by: str, pooled: Pool | None = None
) -> StudyComparison | None:
    environment = study.environment.describe()
    curves, final, episodes = [], [], []
    for batch in results.iter_tables(runs):  # all columns of all episodes would not fit into 1 GB
        curves.append(results.curves(batch, study.evaluation.episodes))
        final.append(results.final_episodes(batch))
        episodes.append(tables.episode_table(batch))
    if not episodes:
        return None
    last = pl.concat(final, how="diagonal_relaxed")
    learned = pl.concat(curves).sort("arm", "seed", "timesteps")
    per_run = results.run_metrics(last, environment)
    finished = learned.join(per_run, on=["arm", "seed"], how="semi", maintain_order="left")
    learning = learning_speed(finished, environment.solved)
    per_run = per_run.join(learning, on=["arm", "seed"], maintain_order="left")
    per_run = tables.run_table(per_run, last)
    return StudyComparison(
        study,
        learned,
        last,
        per_run,
        pl.concat(episodes, how="diagonal_relaxed"),
        summary.summarize(study, environment, per_run, by),
        len(runs),
        results.unfinished(runs),
        pooled,
    )


def comparison_folder(opened: Sequence[Opened]) -> Path:
    """The folder for what `compare` writes."""
    (_, folder), *others = opened
    return folder.compared_with([study.study for study, _ in others])
