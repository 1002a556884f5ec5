"""The comparison of one study's arms, or of several studies'."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from shaperun.analysis import results, summary, tables, training_differences
from shaperun.analysis.pooling import OpenedStudy, Pool, pool_studies
from shaperun.common.errors import UserError
from shaperun.common.text import format_options, pluralize
from shaperun.envs.metrics import metric_names, recorded_metrics
from shaperun.runs.code_files import describe_versions
from shaperun.runs.plan import plan_runs
from shaperun.runs.prepare import ensure_unchanged
from shaperun.runs.status import RunStatus
from shaperun.runs.study_folder import StudyFolder
from shaperun.study.models import Study


@dataclass(frozen=True)
class StudyComparison:
    """A study's results, and its unfinished ones among all planned runs.

    Several studies are one with the arms of all. The tables are those of `results.learning_curves`,
    `results.final_episodes`, `tables.run_table` and `tables.episode_table`.
    """

    study: Study
    curves: pl.DataFrame
    final: pl.DataFrame
    runs: pl.DataFrame
    episodes: pl.DataFrame
    summary: summary.Summary
    planned: int
    unfinished: list[RunStatus]
    code: list[str]
    pool: Pool | None = None

    @property
    def notes(self) -> list[str]:
        """Sentences on options of the evaluation, other training, code, and pooled arms."""
        trained = self.pool.notes if self.pool else training_differences.training_notes(self.study)
        return [*evaluation_notes(self.study), *trained, *self.code]

    def document(self) -> dict[str, Any]:
        """Return the JSON document that `compare --json` prints."""
        document = self.summary.document()
        if self.pool:
            document["studies"] = self.pool.studies
        return document | ({"notes": self.notes} if self.notes or self.pool else {})


def compare_studies(opened: Sequence[OpenedStudy], by: str = "return") -> StudyComparison:
    """Compare the arms of one study, or of several with the first one's baseline; best first.

    Raises:
        UserError: nothing was trained, runs have another configuration, arms cannot be ranked by
            this metric, or the studies differ in environment or final episodes.
    """
    if len(opened) == 1:
        return compare_arms(*opened[0], by)
    pool = pool_studies(opened)
    summary.check_metric(by, metric_names(pool.study.evaluated_environment.describe()))
    comparison = _summarize_runs(pool.study, pool.runs, by, pool)
    if comparison is None:
        raise UserError(f"no run of {pool.study.study} has recorded an evaluation yet")
    return comparison


def compare_arms(study: Study, folder: StudyFolder, by: str = "return") -> StudyComparison:
    """Compare the arms of one study; errors as for `compare_studies`."""
    summary.check_metric(by, metric_names(study.evaluated_environment.describe()))
    runs = plan_runs(study, study.arms)
    ensure_unchanged(folder, runs)
    arms = list(study.arms)
    runs.sort(key=lambda run: arms.index(run.arm))
    recorded = results.recorded_runs(study.study, folder, runs)
    comparison = _summarize_runs(study, recorded, by)
    if comparison is None:
        hint = " (the trials of its sweep are ranked by the command report)" if study.sweep else ""
        raise UserError(results.explain_no_results(study.study, folder, recorded) + hint)
    return comparison


def _summarize_runs(
    study: Study, runs: list[results.RecordedRun], by: str, pool: Pool | None = None
) -> StudyComparison | None:
    environment = study.evaluated_environment.describe()
    curves, final, episodes = [], [], []
    for batch in results.iter_tables(runs):  # all episodes at once may not fit into memory
        curves.append(results.learning_curves(batch, study.evaluation.episodes))
        final.append(results.final_episodes(batch))
        episodes.append(tables.episode_table(batch, recorded_metrics(environment)))
    if not episodes:
        return None
    last = pl.concat(final, how="diagonal_relaxed")
    all_curves = pl.concat(curves).sort("arm", "seed", "timesteps")
    per_run = tables.run_table(results.measure_runs(all_curves, last, environment), last)
    return StudyComparison(
        study,
        all_curves,
        last,
        per_run,
        pl.concat(episodes, how="diagonal_relaxed"),
        summary.summarize(study, environment, per_run, by),
        len(runs),
        results.unfinished_runs(runs),
        describe_versions((r.arm, r.folder.run(r.run.arm, r.run.seed), r.run.config) for r in runs),
        pool,
    )


def evaluation_notes(study: Study) -> Iterator[str]:
    """Yield which options of the environment differ between evaluation and training, if any."""
    options = study.evaluation.options
    if not options:
        return
    given = {name: v for name, v in study.environment.options.items() if name in options}
    others = [name for name in options if name not in given]
    default = f"the default{'s' * (len(others) > 1)} for {', '.join(others)}" if others else ""
    trained = " and ".join(filter(None, [format_options(given), default]))
    yield f"Training used {trained}; evaluation used {format_options(options)}."


def curve_episodes_note(study: Study) -> str:
    """Return why curves end at other values than tables; empty if they have the same episodes."""
    per_point, final = study.evaluation.episodes, study.evaluation.final_episodes
    if per_point == final:
        return ""
    return (
        f"curves: {pluralize(per_point, 'episode')} per evaluation; "
        f"tables of final policies: {pluralize(final, 'episode')}"
    )


def comparison_folder(opened: Sequence[OpenedStudy]) -> Path:
    """Return the folder for the files of `compare`."""
    (_, folder), *others = opened
    return folder.comparison_folder([study.study for study, _ in others])
