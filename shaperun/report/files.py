"""The files that `compare` writes: figures and tables."""

from __future__ import annotations

from pathlib import Path

from shaperun.analysis import results, summary, tables, training_differences
from shaperun.analysis.comparison import StudyComparison
from shaperun.common.files import write_atomically, write_json
from shaperun.report.plots import arms as plots
from shaperun.report.plots import style


def write_comparison(comparison: StudyComparison, target: Path) -> list[Path]:
    """Write figures (PNG and SVG), summary, runs and episodes to a folder; return the paths."""
    table, document = target / "summary.csv", target / "summary.json"
    paths = _write_figures(comparison, target)
    write_atomically(
        table, tables.escape_spreadsheet_formulas(comparison.summary.table()).write_csv().encode()
    )
    write_json(document, comparison.document())
    return [
        *paths,
        table,
        document,
        *tables.write_table(comparison.runs, target / "runs"),
        *tables.write_table(comparison.episodes, target / "episodes"),
    ]


def _write_figures(comparison: StudyComparison, target: Path) -> list[Path]:
    study, final = comparison.study, comparison.final
    environment, arms = study.environment.describe(), list(study.arms)
    algorithms = " and ".join(training_differences.algorithms(study))
    title = f"{study.study}: {algorithms} on {study.environment.id}"
    few = min((arm.runs for arm in comparison.summary.arms if arm.runs > 1), default=3) < 3
    band = "range of the two runs" if few else "95% interval"
    figures = {
        "curves": plots.plot_learning_curves(
            comparison.curves,
            summary.center_curves(comparison.curves),
            title=title,
            threshold=environment.solved,
            arms=arms,
            note=f"thin: single runs; thick: interquartile mean over runs; band: {band}",
        ),
        "outcomes": plots.plot_outcomes(
            results.outcome_shares(final, study, environment), title=f"{title}: final outcomes"
        ),
        "terms": plots.plot_contributions(
            results.mean_contributions(final, study, environment),
            title=f"{title}: contribution of each term",
            arms=arms,
        ),
    }
    return [p for name, figure in figures.items() for p in style.save(figure, target / name)]
