"""What `compare` says of a study, and the figures and tables that it leaves behind."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from shaperun import canvas, plots, results, summary
from shaperun.batch import RunStatus, refuse_changed
from shaperun.errors import UserError
from shaperun.files import write_atomically, write_json
from shaperun.plan import planned_runs
from shaperun.store import StudyFolder
from shaperun.study import Study


@dataclass(frozen=True)
class StudyResults:
    """A study's evaluation episodes, what they come to, and the runs that are not finished."""

    study: Study
    episodes: pl.DataFrame
    final: pl.DataFrame
    summary: summary.Summary
    missing: list[RunStatus]


def compare_arms(study: Study, folder: StudyFolder, by: str = "return") -> StudyResults:
    """Gather and summarise what there is of a study's arms, the best by one metric first.

    Raises:
        UserError: nothing was trained, it was trained differently, or arms cannot be ranked so.
    """
    environment = study.environment.describe()
    summary.check_ranking(by, results.metrics(environment))
    runs = planned_runs(study, study.arms)
    refuse_changed(folder, runs)
    episodes = results.evaluation_episodes(folder, runs)
    if episodes.is_empty():
        raise UserError(f"nothing of {study.study} has been trained into {folder.path} yet")
    final = results.final_episodes(episodes)
    per_run = results.run_metrics(final, environment)
    return StudyResults(
        study,
        episodes,
        final,
        summary.summarize(study, environment, per_run, by),
        results.unfinished(folder, runs),
    )


def write(found: StudyResults, folder: StudyFolder) -> list[Path]:
    """Write the figures (PNG and SVG), `summary.csv` and `summary.json`; returns their paths."""
    study, target = found.study, folder.compare
    environment = study.environment.describe()
    curves = results.curves(found.episodes, study.evaluation.episodes)
    title = f"{study.study}: {study.training.algorithm} on {study.environment.id}"
    shares = results.outcome_shares(found.final, study, environment)
    paid = results.contributions(found.final, study, environment)
    arms = list(study.arms)
    figures = {
        "curves": plots.learning_curves(
            curves,
            summary.centre(curves),
            title=title,
            threshold=environment.solved,
            arms=arms,
            note=_note(found.summary),
        ),
        "outcomes": plots.outcomes(shares, title=f"{title}: how the final episodes ended"),
        "terms": plots.contributions(paid, title=f"{title}: what each term paid", arms=arms),
    }
    paths = [p for name, figure in figures.items() for p in canvas.save(figure, target / name)]
    table, document = target / "summary.csv", target / "summary.json"
    write_atomically(table, found.summary.table().write_csv().encode())
    write_json(document, found.summary.document())
    return [*paths, table, document]


def _note(found: summary.Summary) -> str:
    """What the lines and bands of the curves are."""
    several = [arm.runs for arm in found.arms if arm.runs > 1]
    few = several and min(several) < 3
    band = "from the lower to the higher of two runs" if few else "its 95% interval"
    return f"thin: single runs; thick: their interquartile mean; band: {band}"
