"""The figures and tables that `compare` leaves behind: the answer need not wait for them."""

from __future__ import annotations

from pathlib import Path

from shaperun.analysis import results, summary, tables, training_differences
from shaperun.analysis.comparison import StudyComparison
from shaperun.common.files import write_atomically, write_json
from shaperun.report.plots import arms as plots
from shaperun.report.plots import style


def write_comparison(found: StudyComparison, target: Path) -> list[Path]:
    """Write the figures (PNG and SVG), summary, runs and episodes; returns the paths."""
    table, document = target / "summary.csv", target / "summary.json"
    paths = _draw(found, target)
    write_atomically(
        table, tables.escape_spreadsheet_formulas(found.summary.table()).write_csv().encode()
    )
    write_json(document, found.document())
    return [
        *paths,
        table,
        document,
        *tables.write_table(found.runs, target / "runs"),
        *tables.write_table(found.episodes, target / "episodes"),
    ]


def _draw(found: StudyComparison, target: Path) -> list[Path]:
    study = found.study
    environment, arms = study.environment.describe(), list(study.arms)
    algorithms = " and ".join(training_differences.algorithms(study))
    title = f"{study.study}: {algorithms} on {study.environment.id}"
    shares = results.outcome_shares(found.final, study, environment)
    paid = results.contributions(found.final, study, environment)
    figures = {
        "curves": plots.learning_curves(
            found.curves,
            summary.center_curves(found.curves),
            title=title,
            threshold=environment.solved,
            arms=arms,
            note=_note(found.summary),
        ),
        "outcomes": plots.outcomes(shares, title=f"{title}: how the final episodes ended"),
        "terms": plots.contributions(paid, title=f"{title}: what each term paid", arms=arms),
    }
    return [p for name, figure in figures.items() for p in style.save(figure, target / name)]


def _note(found: summary.Summary) -> str:
    """What the lines and bands of the curves are."""
    several = [arm.runs for arm in found.arms if arm.runs > 1]
    few = several and min(several) < 3
    band = "from the lower to the higher of two runs" if few else "its 95% interval"
    return f"thin: single runs; thick: their interquartile mean; band: {band}"
