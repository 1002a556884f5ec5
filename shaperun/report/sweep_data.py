"""The trials of a sweep as a report takes them up: which are its arms, and which stand beside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl

from shaperun.analysis import results
from shaperun.analysis.summary import ArmSummary, summarize
from shaperun.report.plots import sweep
from shaperun.runs.driver import RunStatus, refuse_changed, status
from shaperun.runs.plan import Run
from shaperun.runs.run_folder import StudyFolder
from shaperun.search import ranking
from shaperun.search.ranking import SweepResults
from shaperun.search.trial_results import TrialResult, judge
from shaperun.search.trials import known_trials, rewards, runs_of
from shaperun.study.models import Arm, Study


@dataclass(frozen=True)
class Trials:
    """What became of a sweep so far."""

    found: SweepResults
    """The ranking has no rows as long as no trial is finished."""
    arms: dict[str, Arm]
    """The trials that were begun and not pruned: first those that are finished, the best first."""
    beside: Sequence[RunStatus] = ()
    """The runs that are no arm's: of pruned trials, and of the best on fresh seeds."""
    fresh: Sequence[ArmSummary] = ()
    """The best on seeds that the search had not seen, as far as all of their runs are finished."""
    figures: Mapping[str, bytes] = field(default_factory=dict)
    """The figures of the sweep as SVG, by the names of their files."""

    @property
    def ranked(self) -> list[str]:
        """The arms of the finished trials, the best first."""
        return _ranked(self.found)

    def results(self, state: str) -> list[TrialResult]:
        """The trials that are in a state, in order."""
        return [result for result in self.found.trials if result.state == state]


def gather_trials(study: Study, folder: StudyFolder) -> Trials | None:
    """Read what became of the study's sweep; None without one.

    Raises:
        UserError: the folder holds another sweep.
    """
    if study.sweep is None:
        return None
    found = _found(study, folder)
    arms = _arms(found, folder)
    pruned = [result.trial for result in found.trials if result.trial.arm not in arms]
    runs = [*runs_of(study, pruned, study.seeds), *_confirming(found)]
    begun = [run for run in runs if folder.run(run.arm, run.seed).config.exists()]
    return Trials(
        found,
        arms,
        [status(folder, run) for run in begun],
        _fresh(found, folder),
        _figures(found, folder),
    )


def _found(study: Study, folder: StudyFolder) -> SweepResults:
    trials = known_trials(study, folder)
    refuse_changed(folder, runs_of(study, trials, study.seeds))
    found = judge(study, folder, trials)
    if any(result.state == "done" for result in found):
        return ranking.rank(study, folder)
    return SweepResults(study, pl.DataFrame(), found, [])


def _ranked(found: SweepResults) -> list[str]:
    return [] if found.ranking.is_empty() else list(found.ranking["arm"])


def _arms(found: SweepResults, folder: StudyFolder) -> dict[str, Arm]:
    ranked = _ranked(found)
    # Weights may have been drawn twice, and one of the two trials be finished.
    left = [r.trial for r in found.trials if r.state != "pruned" or r.trial.arm in ranked]
    arms = {arm: reward for arm, reward in rewards(found.study, left).items() if folder.has(arm)}
    return {arm: arms[arm] for arm in [*ranked, *arms]}


def _figures(found: SweepResults, folder: StudyFolder) -> dict[str, bytes]:
    if found.ranking.is_empty():
        return {}
    trials = ranking.trials_of(found, folder)
    with TemporaryDirectory() as target:  # what stands in the study's folder may be older
        paths = sweep.write(found.study, found.ranking, trials, Path(target))
        return {path.stem: path.read_bytes() for path in paths if path.suffix == ".svg"}


def _confirming(found: SweepResults) -> list[Run]:
    winners = [winner.result.trial for winner in found.best]
    return runs_of(found.study, winners, found.best[0].seeds) if winners else []


def _fresh(found: SweepResults, folder: StudyFolder) -> list[ArmSummary]:
    confirmed = {winner.result.trial.arm for winner in found.best if winner.values}
    runs = [run for run in _confirming(found) if run.arm in confirmed]
    if not runs:
        return []
    environment = found.study.environment.describe()
    final = results.final_episodes(results.evaluation_episodes(folder, runs))
    per_run = results.run_metrics(final, environment)
    trials = [winner.result.trial for winner in found.best]
    study = found.study.model_copy(update={"arms": rewards(found.study, trials)})
    return summarize(study, environment, per_run, "return").arms
