"""Trials of a sweep.

A searching sweep writes its trials as it draws them, one line per trial; their results are in the
folders of their runs.
"""

from __future__ import annotations

import csv
import io
import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from shaperun.common.diff import iter_differences
from shaperun.common.errors import UserError
from shaperun.common.files import AppendOnlyCsv, read_json, read_table, write_json
from shaperun.runs.plan import Run
from shaperun.runs.start import find_start
from shaperun.runs.study_folder import StudyFolder
from shaperun.search.arms import fixed_points, format_arm_name, make_trial_arm
from shaperun.study.models import Arm, Study
from shaperun.study.sweep import SearchSweep


@dataclass(frozen=True)
class Trial:
    """One choice of the swept weights and parameters; trials of a generation are drawn together."""

    number: int
    generation: int
    arm: str
    weights: dict[str, float]


def load_trials(study: Study, folder: StudyFolder) -> list[Trial]:
    """Return every trial that has been drawn.

    Raises:
        UserError: the study has no sweep, or the folder's trials are damaged or of another sweep.
    """
    sweep = study.sweep
    if not isinstance(sweep, SearchSweep):
        points = fixed_points(study)
        return [Trial(number, 0, arm, point) for number, (arm, point) in enumerate(points.items())]
    if not folder.trials.exists():
        return []
    _ensure_same_settings(study, sweep, folder)
    return _read_trials(sweep, folder)[: sweep.samples]


def make_trial_arms(study: Study, trials: Iterable[Trial]) -> dict[str, Arm]:
    """Return the arms of trials by name."""
    return {trial.arm: make_trial_arm(study, trial.weights) for trial in trials}


def plan_trial_runs(study: Study, trials: Iterable[Trial], seeds: Iterable[int]) -> list[Run]:
    """Return the runs of trials, seed by seed; weights drawn twice are trained once."""
    arms = make_trial_arms(study, trials)
    return [
        Run(arm, find_start(study, arm, study.run_config(reward, seed)))
        for seed in seeds
        for arm, reward in arms.items()
    ]


def append_generation(
    study: Study, folder: StudyFolder, known: list[Trial], drawn: list[dict[str, float]]
) -> list[Trial]:
    """Write a generation with these weights durably; return its trials."""
    sweep = study.sweep
    assert isinstance(sweep, SearchSweep)  # noqa: S101 (others draw all trials at once)
    if not folder.sweep_record.exists():
        write_json(folder.sweep_record, _record_settings(study, sweep))
    if known and not folder.trials.exists():
        raise UserError(
            f"{folder.path} was removed during the sweep; run the same command again to start it "
            "from scratch"
        )
    generation = known[-1].generation + 1 if known else 0
    new = [
        Trial(number, generation, format_arm_name(weights), weights)
        for number, weights in enumerate(drawn, start=len(known))
    ]
    columns = ["trial", "generation", *sweep.weights]
    # A torn last line was never read; cut it off.
    keep = len(read_table(folder.trials)) if folder.trials.exists() else None
    table = AppendOnlyCsv(folder.trials, columns, keep)
    try:
        table.append({"trial": t.number, "generation": t.generation, **t.weights} for t in new)
        table.fsync()
    finally:
        table.close()
    return new


def _record_settings(study: Study, sweep: SearchSweep) -> dict[str, Any]:
    """Return the settings that determine the trials, except how many there are."""
    base = study.run_config(study.arms[sweep.base], study.seeds[0])
    return {
        "sweep": sweep.model_dump(mode="json", exclude={"samples", "confirm"}),
        "seeds": study.seeds,
        "run": base.model_dump(mode="json", exclude={"seed"}),
    }


def _ensure_same_settings(study: Study, sweep: SearchSweep, folder: StudyFolder) -> None:
    old, new = read_json(folder.sweep_record), _record_settings(study, sweep)
    changes = [
        f"  {key}: {was} there, {now} here\n" for key, was, now in iter_differences(old, new)
    ]
    if changes:
        raise UserError(
            f"{folder.trials} was drawn with other settings:\n{''.join(changes)}Rename the study, "
            "undo the change, or restart the sweep with --fresh, which deletes the old trials. "
            "Only sweep.samples and sweep.confirm may change."
        )


def _read_trials(sweep: SearchSweep, folder: StudyFolder) -> list[Trial]:
    try:
        rows = csv.DictReader(io.StringIO(read_table(folder.trials).decode(errors="replace")))
        trials = [_parse_trial(sweep, number, row) for number, row in enumerate(rows)]
        generations = [trial.generation for trial in trials]
        if any(b - a not in (0, 1) for a, b in itertools.pairwise([0, *generations])):
            raise ValueError(generations)
    except (OSError, ValueError, KeyError, TypeError, csv.Error):
        raise UserError(f"{folder.trials} is damaged; restart the sweep with --fresh") from None
    return trials


def _parse_trial(sweep: SearchSweep, number: int, row: dict[str, str]) -> Trial:
    weights = {term: float(row[term]) for term in sweep.weights}
    inside = all(
        range_.low <= weights[term] <= range_.high and math.isfinite(weights[term])
        for term, range_ in sweep.weights.items()
    )
    if not inside or int(row["trial"]) != number:
        raise ValueError(row)
    return Trial(number, int(row["generation"]), format_arm_name(weights), weights)
