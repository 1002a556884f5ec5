"""All that a report is made of, read from a study's folder once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import polars as pl

from shaperun.analysis import results
from shaperun.analysis import updates as training_record
from shaperun.analysis.learning_speed import learning_speed
from shaperun.analysis.summary import ArmSummary, Summary, summarize
from shaperun.common.errors import UserError
from shaperun.report import sweep_files
from shaperun.report.plots import sweep
from shaperun.runs.plan import Run, planned_runs
from shaperun.runs.prepare import ensure_unchanged
from shaperun.runs.status import RunStatus, run_status
from shaperun.runs.study_folder import StudyFolder
from shaperun.search import ranking
from shaperun.search.ranking import SweepResults
from shaperun.search.trial_results import TrialResult, evaluate_trials
from shaperun.search.trials import arms_of, known_trials, runs_of
from shaperun.study.models import Arm, Study

MAX_ARMS = 8  # in figures and sentences; tables have all


@dataclass(frozen=True)
class ReportData:
    """What a report shows.

    The study's arms are those of which anything was trained, and behind them the trials of its
    sweep, but for those that were pruned: they learned for less long than all others.
    """

    study: Study
    episodes: pl.DataFrame
    """Every evaluation episode."""
    updates: pl.DataFrame
    summary: Summary
    states: list[RunStatus]
    records: Mapping[tuple[str, int], Mapping[str, Any]]
    """By arm and seed: what made the run, as `RunFolder.read_record` gives it."""
    gif: bytes | None
    """What the policies do, side by side."""
    resolved: str
    """The study file with every default spelled out."""
    trials: SweepData | None = None
    """What became of its sweep."""

    @property
    def shown(self) -> list[str]:
        """The arms for which figures have room: the baseline and the best ones, in their order.

        Trials come behind the study's own arms, as the sweep ranks them.
        """
        trials = self.trials.ranked if self.trials else []
        own = [arm.arm for arm in self.summary.arms if arm.arm not in trials]
        first = [*sorted(own, key=lambda arm: arm != self.study.baseline), *trials][:MAX_ARMS]
        return [arm for arm in self.study.arms if arm in first]

    @property
    def every_state(self) -> list[RunStatus]:
        """How far all runs are, those that are no arm's included."""
        return [*self.states, *(self.trials.beside if self.trials else ())]

    @property
    def final(self) -> pl.DataFrame:
        """The episodes of the last evaluation of every finished run."""
        return results.final_episodes(self.episodes)

    @property
    def curves(self) -> pl.DataFrame:
        """The means of every evaluation of every run."""
        return results.curves(self.episodes, self.study.evaluation.episodes)


def load_report_data(study: Study, folder: StudyFolder, log: Callable[[str], None]) -> ReportData:
    """Read what there is of a study, its sweep included, and film its policies.

    Args:
        study: the study.
        folder: its folder; the films are left in it as `record-gif` leaves them.
        tell: is told of what takes long, in sentences.

    Raises:
        UserError: nothing is finished yet, or it was trained differently.
    """
    trials = load_sweep_data(study, folder)
    study, runs = _trained(study, folder, trials)
    ensure_unchanged(folder, runs)
    episodes = results.evaluation_episodes(folder, runs)
    if episodes.is_empty() or not episodes["done"].any():
        verbs = "train or sweep" if study.sweep else "train"
        raise UserError(
            f"no run of {study.study} is finished in {folder.path}: shaperun {verbs} it"
        )
    states = [run_status(folder, run) for run in runs]
    every = [*states, *(trials.beside if trials else ())]
    material = ReportData(
        study,
        episodes,
        training_record.update_statistics(folder, runs),
        summarize_episodes(study, episodes),
        states,
        {(run.arm, run.seed): folder.run(run.arm, run.seed).read_record() for run in every},
        None,
        folder.read_study(),
        trials,
    )
    return replace(material, gif=_film(material, folder, log))


def summarize_episodes(study: Study, episodes: pl.DataFrame) -> Summary:
    """What the finished runs come to, at the end and over training."""
    environment = study.environment.describe()
    curves = results.curves(episodes.filter("done"), study.evaluation.episodes)
    per_run = results.run_metrics(results.final_episodes(episodes), environment)
    learning = learning_speed(curves, environment.solved)
    per_run = per_run.join(learning, on=["arm", "seed"], maintain_order="left")
    return summarize(study, environment, per_run, "return")


def _film(material: ReportData, folder: StudyFolder, tell: Callable[[str], None]) -> bytes | None:
    """The shown arms side by side; None where the environment cannot be drawn."""
    from shaperun.report.record_gif import EpisodeChoice, record_gifs  # which imports torch

    try:
        *_, last = record_gifs(
            material.study, folder, arms=material.shown, choice=EpisodeChoice(), log=tell
        )
    except UserError as error:
        tell(f"no film: {error}")
        return None
    return last.read_bytes()


def _trained(
    study: Study, folder: StudyFolder, trials: SweepData | None
) -> tuple[Study, list[Run]]:
    """The study with its arms and those of its sweep of which there is a run, and these runs."""
    # Beside trials the baseline stays, or whichever of them is the first would be taken for it.
    kept = study.baseline if trials and trials.arms else None
    own = {arm: reward for arm, reward in study.arms.items() if arm == kept or folder.has_runs(arm)}
    there = own | (trials.arms if trials else {})
    study = study.model_copy(update={"arms": there or study.arms})
    return study, planned_runs(study, study.arms)


@dataclass(frozen=True)
class SweepData:
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


def load_sweep_data(study: Study, folder: StudyFolder) -> SweepData | None:
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
    return SweepData(
        found,
        arms,
        [run_status(folder, run) for run in begun],
        _fresh_summaries(found, folder),
        _figures(found, folder),
    )


def _found(study: Study, folder: StudyFolder) -> SweepResults:
    trials = known_trials(study, folder)
    ensure_unchanged(folder, runs_of(study, trials, study.seeds))
    found = evaluate_trials(study, folder, trials)
    if any(result.state == "done" for result in found):
        return ranking.rank(study, folder)
    return SweepResults(study, pl.DataFrame(), found, [])


def _ranked(found: SweepResults) -> list[str]:
    return [] if found.ranking.is_empty() else list(found.ranking["arm"])


def _arms(found: SweepResults, folder: StudyFolder) -> dict[str, Arm]:
    ranked = _ranked(found)
    # Weights may have been drawn twice, and one of the two trials be finished.
    left = [r.trial for r in found.trials if r.state != "pruned" or r.trial.arm in ranked]
    arms = {
        arm: reward for arm, reward in arms_of(found.study, left).items() if folder.has_runs(arm)
    }
    return {arm: arms[arm] for arm in [*ranked, *arms]}


def _figures(found: SweepResults, folder: StudyFolder) -> dict[str, bytes]:
    if found.ranking.is_empty():
        return {}
    trials = sweep_files.trial_rows(found, folder)
    with TemporaryDirectory() as target:  # what stands in the study's folder may be older
        paths = sweep.write_figures(found.study, found.ranking, trials, Path(target))
        return {path.stem: path.read_bytes() for path in paths if path.suffix == ".svg"}


def _confirming(found: SweepResults) -> list[Run]:
    winners = [winner.result.trial for winner in found.best]
    return runs_of(found.study, winners, found.best[0].seeds) if winners else []


def _fresh_summaries(found: SweepResults, folder: StudyFolder) -> list[ArmSummary]:
    confirmed = {winner.result.trial.arm for winner in found.best if winner.values}
    runs = [run for run in _confirming(found) if run.arm in confirmed]
    if not runs:
        return []
    environment = found.study.environment.describe()
    final = results.final_episodes(results.evaluation_episodes(folder, runs))
    per_run = results.run_metrics(final, environment)
    trials = [winner.result.trial for winner in found.best]
    study = found.study.model_copy(update={"arms": arms_of(found.study, trials)})
    return summarize(study, environment, per_run, "return").arms
