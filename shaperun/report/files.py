"""The files that `compare` and `sweep` write: figures, tables and the best trials as a study."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from shaperun.analysis import learning_speed, results, tables, training_differences
from shaperun.analysis.comparison import StudyComparison, curve_episodes_note
from shaperun.analysis.term_history import schedule_notes
from shaperun.common.files import with_nulls, write_atomically, write_json
from shaperun.common.yaml import dump_yaml
from shaperun.report.plots import arms as plots
from shaperun.report.plots import style, sweep
from shaperun.runs.study_folder import StudyFolder
from shaperun.search.ranking import SweepResults
from shaperun.search.trials import make_trial_arms

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,63}")


def write_comparison(comparison: StudyComparison, target: Path) -> list[Path]:
    """Write figures (PNG and SVG), summary, runs and episodes to a folder; return the paths."""
    table, document = target / "summary.csv", target / "summary.json"
    paths = _write_figures(comparison, target)
    write_atomically(
        table, tables.escape_spreadsheet_formulas(comparison.summary.table()).write_csv().encode()
    )
    write_json(document, with_nulls(comparison.document()))
    return [
        *paths,
        table,
        document,
        *tables.write_table(comparison.runs, target / "runs"),
        *tables.write_table(comparison.episodes, target / "episodes"),
    ]


def _write_figures(comparison: StudyComparison, target: Path) -> list[Path]:
    study, final = comparison.study, comparison.final
    environment, arms = study.evaluated_environment.describe(), list(study.arms)
    algorithms = " and ".join(training_differences.algorithms(study))
    title = f"{study.study}: {algorithms} on {study.setting}"
    center = learning_speed.center_curves(comparison.curves, environment)
    lines = plots.describe_curves(center)
    figures = {
        "curves": plots.plot_learning_curves(
            comparison.curves,
            center,
            title=title,
            threshold=environment.solved,
            arms=arms,
            note="\n".join(filter(None, [lines, curve_episodes_note(study)])),
        ),
        "outcomes": plots.plot_outcomes(
            results.outcome_shares(final, study, environment), title=f"{title}: final outcomes"
        ),
        "terms": plots.plot_contributions(
            results.mean_contributions(final, study),
            title=f"{title}: contribution of each term",
            arms=arms,
            notes=schedule_notes(final, study),
        ),
    }
    return [p for name, figure in figures.items() for p in style.save(figure, target / name)]


def write_sweep(ranked: SweepResults, folder: StudyFolder) -> list[Path]:
    """Write the ranking as CSV and JSON, the trials as CSV, the figures, and the best as YAML."""
    written = []
    for name, figure in sweep.draw_figures(ranked.study, ranked.ranking, ranked.table):
        written += style.save(figure, folder.sweep / name)
    for name, rows in (("ranking", ranked.ranking), ("trials", ranked.table)):
        written.append(folder.sweep / f"{name}.csv")
        write_atomically(written[-1], tables.escape_spreadsheet_formulas(rows).write_csv().encode())
    document = folder.sweep / "ranking.json"
    write_json(document, with_nulls(sweep_document(ranked)))
    return [*written, document, *_write_best(ranked, folder)]


def sweep_document(ranked: SweepResults) -> dict[str, Any]:
    """Return the content of `ranking.json`."""
    study = ranked.study
    return {
        "study": study.study,
        "method": study.sweep.method if study.sweep else None,
        "objective": study.sweep.objective if study.sweep else [],
        "same_for_any_number_of_workers": True,
        "ranking": ranked.ranking.to_dicts(),
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
            for result in ranked.trials
        ],
        "best": [
            {
                "arm": winner.result.trial.arm,
                "search": {"seeds": study.seeds, "values": winner.result.values},
                "fresh": {"seeds": winner.seeds, "values": winner.values},
            }
            for winner in ranked.best
        ],
    }


def _write_best(ranked: SweepResults, folder: StudyFolder) -> list[Path]:
    """Write the best trials and the baseline as a study with the fresh seeds."""
    study = ranked.study
    if not study.sweep or not ranked.best or not ranked.best[0].seeds:
        return []
    trials = [winner.result.trial for winner in ranked.best]
    arms = {study.baseline: study.arms[study.baseline], **make_trial_arms(study, trials)}
    update = {
        "study": f"{study.study[:58]}-best",
        "seeds": ranked.best[0].seeds,
        "arms": {
            name if _NAME.fullmatch(name) else f"best-{n}": arm
            for n, (name, arm) in enumerate(arms.items())
        },
        "sweep": None,
    }
    document = study.model_copy(update=update).model_dump(mode="json", exclude={"sweep"})
    path = folder.sweep / "best.yaml"
    comment = (
        "# The best weights of a search and the baseline, on seeds that the search did not use."
    )
    write_atomically(path, f"{comment}\n{dump_yaml(document)}".encode())
    return [path]
