"""Write the ranking, the trials and the figures of a sweep."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl

from shaperun.analysis import tables
from shaperun.common.files import write_atomically, write_json
from shaperun.common.yaml import dump_yaml
from shaperun.report.plots import sweep
from shaperun.runs.study_folder import StudyFolder
from shaperun.search.ranking import SweepResults, swept_objectives
from shaperun.search.trial_results import trial_table
from shaperun.search.trials import arms_of

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,63}")


def write_sweep(found: SweepResults, folder: StudyFolder) -> list[Path]:
    """Write the ranking as CSV and JSON, the trials as CSV, and the figures."""
    study, ranking, trials = found.study, found.ranking, trial_rows(found, folder)
    written = sweep.write_figures(study, ranking, trials, folder.sweep)
    for name, rows in (("ranking", ranking), ("trials", trials)):
        written.append(folder.sweep / f"{name}.csv")
        write_atomically(written[-1], tables.escape_spreadsheet_formulas(rows).write_csv().encode())
    document = folder.sweep / "ranking.json"
    write_json(document, sweep_document(found))
    return [*written, document, *_write_best(found, folder)]


def trial_rows(found: SweepResults, folder: StudyFolder) -> pl.DataFrame:
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


def sweep_document(found: SweepResults) -> dict[str, Any]:
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
    arms = {study.baseline: study.arms[study.baseline], **arms_of(study, trials)}
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
