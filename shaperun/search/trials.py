"""The trials of a sweep: those that are known from the beginning, and those found on the way.

What a search has found is written down as it goes, a line a trial. All else about a trial is in
the folders of its runs.
"""

from __future__ import annotations

import csv
import io
import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from shaperun.common.diff import differences
from shaperun.common.errors import UserError
from shaperun.common.files import AppendOnlyCsv, read_json, read_table, write_json
from shaperun.runs.plan import Run
from shaperun.runs.study_folder import StudyFolder
from shaperun.search.arms import arm_name, sweep_arms, with_weights
from shaperun.study.models import Arm, Study
from shaperun.study.sweep import SearchSweep


@dataclass(frozen=True)
class Trial:
    """One choice of the swept weights."""

    number: int
    generation: int
    """Trials of a generation are drawn together and compete with each other."""
    arm: str
    weights: dict[str, float]
    """Of the swept terms."""


def known_trials(study: Study, folder: StudyFolder) -> list[Trial]:
    """Every trial that is decided upon.

    Raises:
        UserError: there is no sweep, or what was written down is of another one.
    """
    sweep = study.sweep
    if not isinstance(sweep, SearchSweep):
        arms = sweep_arms(study)
        swept = list(sweep.weights) if sweep else []
        return [
            Trial(number, 0, arm, {term: reward.weights[term] for term in swept})
            for number, (arm, reward) in enumerate(arms.items())
        ]
    if not folder.trials.exists():
        return []
    _ensure_same_search(study, sweep, folder)
    return _read(sweep, folder)[: sweep.samples]


def trial_arms(study: Study, folder: StudyFolder) -> dict[str, Arm]:
    """The arms of all trials that are decided upon; none without a sweep."""
    if study.sweep is None:
        return {}
    return arms_of(study, known_trials(study, folder))


def arms_of(study: Study, trials: Iterable[Trial]) -> dict[str, Arm]:
    """The arms of trials, by name."""
    assert study.sweep  # noqa: S101 (there are no trials without one)
    base = study.arms[study.sweep.base]
    return {trial.arm: with_weights(base, trial.weights) for trial in trials}


def runs_of(study: Study, trials: Iterable[Trial], seeds: Iterable[int]) -> list[Run]:
    """The runs of trials, seed by seed; weights that were drawn twice are trained once."""
    arms = arms_of(study, trials)
    return [
        Run(arm, study.run_config(reward, seed)) for seed in seeds for arm, reward in arms.items()
    ]


def append_generation(
    study: Study, folder: StudyFolder, known: list[Trial], drawn: list[dict[str, float]]
) -> list[Trial]:
    """Decide upon a generation: from now on it is known, whatever happens."""
    sweep = study.sweep
    assert isinstance(sweep, SearchSweep)  # noqa: S101 (others know their trials)
    if not folder.search.exists():
        write_json(folder.search, _search(study, sweep))
    generation = known[-1].generation + 1 if known else 0
    new = [
        Trial(number, generation, arm_name(weights), weights)
        for number, weights in enumerate(drawn, start=len(known))
    ]
    columns = ["trial", "generation", *sweep.weights]
    # A torn last line is cut off: it was never read.
    keep = len(read_table(folder.trials)) if folder.trials.exists() else 0
    table = AppendOnlyCsv(folder.trials, columns, keep or None)
    try:
        table.append({"trial": t.number, "generation": t.generation, **t.weights} for t in new)
        table.fsync()
    finally:
        table.close()
    return new


def _search(study: Study, sweep: SearchSweep) -> dict[str, Any]:
    """What decides upon the trials; more of them may be asked for later."""
    base = study.run_config(study.arms[sweep.base], study.seeds[0])
    return {
        "sweep": sweep.model_dump(mode="json", exclude={"samples", "confirm"}),
        "seeds": study.seeds,
        "run": base.model_dump(mode="json", exclude={"seed"}),
    }


def _ensure_same_search(study: Study, sweep: SearchSweep, folder: StudyFolder) -> None:
    changes = [
        f"  {key}: {was} there, {now} here"
        for key, was, now in differences(read_json(folder.search), _search(study, sweep))
    ]
    if changes:
        raise UserError(
            "\n".join(
                [
                    f"{folder.trials} was searched in another way:",
                    *changes,
                    "Give the study another name, undo the change, or search again from the start "
                    "with --fresh, which deletes the old trials. "
                    "sweep.samples and sweep.confirm may change.",
                ]
            )
        )


def _read(sweep: SearchSweep, folder: StudyFolder) -> list[Trial]:
    rows = csv.DictReader(io.StringIO(read_table(folder.trials).decode(errors="replace")))
    try:
        trials = [_trial(sweep, number, row) for number, row in enumerate(rows)]
    except (ValueError, KeyError, TypeError, csv.Error):
        raise UserError(f"{folder.trials} is damaged; search again with --fresh") from None
    generations = [trial.generation for trial in trials]
    if any(b - a not in (0, 1) for a, b in itertools.pairwise([0, *generations])):
        raise UserError(f"{folder.trials} is damaged; search again with --fresh")
    return trials


def _trial(sweep: SearchSweep, number: int, row: dict[str, str]) -> Trial:
    weights = {term: float(row[term]) for term in sweep.weights}
    inside = all(
        range_.low <= weights[term] <= range_.high and math.isfinite(weights[term])
        for term, range_ in sweep.weights.items()
    )
    if not inside or int(row["trial"]) != number:
        raise ValueError(row)
    return Trial(number, int(row["generation"]), arm_name(weights), weights)
