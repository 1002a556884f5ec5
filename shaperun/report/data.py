"""The data of a report. Every run is read once; everything after that is computed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import polars as pl

from shaperun.analysis import results
from shaperun.analysis.results import LoadedRuns
from shaperun.analysis.summary import ArmSummary, Summary, summarize
from shaperun.analysis.updates import update_statistics
from shaperun.check.check import Check, check_study
from shaperun.common.errors import UserError
from shaperun.report.plots import style, sweep
from shaperun.runs.code_files import code_notes
from shaperun.runs.plan import Run, plan_runs
from shaperun.runs.prepare import ensure_unchanged
from shaperun.runs.status import RunStatus, read_run_status
from shaperun.runs.study_folder import StudyFolder
from shaperun.search.ranking import SweepResults, rank_trials
from shaperun.search.trials import make_trial_arms, plan_trial_runs
from shaperun.study.models import Arm, Study

MAX_ARMS = 8  # in figures and sentences; tables have all


@dataclass(frozen=True)
class ReportData:
    """The content of a report.

    The study's arms are those with runs, followed by the trials of its sweep; pruned trials are
    left out, as they were trained for fewer steps than all others.
    """

    study: Study
    episodes: pl.DataFrame
    """Every evaluation episode."""
    updates: pl.DataFrame
    summary: Summary
    statuses: list[RunStatus]
    records: Mapping[tuple[str, int], Mapping[str, Any]]
    """Arm and seed -> provenance of the run, see `RunFolder.read_record`."""
    gif: bytes | None
    """The policies side by side."""
    resolved: str
    """The study file with all defaults."""
    file: str = ""
    """The name of the study file, if it was given."""
    sweep: SweepData | None = None
    check: Check | None = None
    """What the rewards of the drawn arms pay scripted behaviors; None if they cannot be played."""
    code: Sequence[str] = ()
    """Sentences on runs that were trained with other versions of their code."""

    @property
    def drawn_arms(self) -> list[str]:
        """The arms in figures: the baseline and the best others, at most MAX_ARMS, in study order.

        The study's arms come before the trials of its sweep, which keep the order of the ranking.
        """
        trials = self.sweep.ranked_arms if self.sweep else []
        arms = [arm.arm for arm in self.summary.arms if arm.arm not in trials]
        first = [*sorted(arms, key=lambda arm: arm != self.study.baseline), *trials][:MAX_ARMS]
        return [arm for arm in self.study.arms if arm in first]

    @property
    def all_statuses(self) -> list[RunStatus]:
        """The statuses of all runs, including pruned trials and confirmation runs."""
        return [*self.statuses, *(self.sweep.other_statuses if self.sweep else ())]

    @property
    def final(self) -> pl.DataFrame:
        """The episodes of the last evaluation of every finished run."""
        return results.final_episodes(self.episodes)

    @property
    def curves(self) -> pl.DataFrame:
        """The means of every evaluation of every run."""
        return results.learning_curves(self.episodes, self.study.evaluation.episodes)


@dataclass(frozen=True)
class SweepData:
    """The results of a sweep so far."""

    results: SweepResults
    arms: dict[str, Arm]
    """The trials with runs that were not pruned: finished ones first, best first."""
    other_statuses: Sequence[RunStatus] = ()
    """The statuses of the runs of pruned trials and of the best on fresh seeds."""
    fresh: Sequence[ArmSummary] = ()
    """The best trials on fresh seeds, once all of these runs are finished."""
    figures: Mapping[str, bytes] = field(default_factory=dict)
    """The figures of the sweep as SVG, by name."""

    @property
    def ranked_arms(self) -> list[str]:
        """The arms of the finished trials, best first."""
        return _ranked_arms(self.results)


def load_report_data(
    study: Study, folder: StudyFolder, log: Callable[[str], None], file: str = ""
) -> ReportData:
    """Load the runs of a study and of its sweep, and record GIFs of its policies.

    `file` is the name of the study file, if it is known.

    Raises:
        UserError: no run is finished, or the runs have another configuration.
    """
    loaded = LoadedRuns(folder)
    sweep_data = load_sweep_data(study, loaded)
    study, runs = _select_trained(study, folder, sweep_data)
    ensure_unchanged(folder, runs)
    episodes = loaded.episodes(runs)
    if episodes.is_empty() or not episodes["done"].any():
        verbs = "train or sweep" if study.sweep else "train"
        raise UserError(f"no run of {study.study} is finished in {folder.path}; {verbs} it first")
    data = ReportData(
        study,
        episodes,
        update_statistics(folder, runs),
        summarize_episodes(study, episodes),
        _run_statuses(loaded, runs),
        {},
        None,
        folder.read_study(),
        file,
        sweep_data,
        code=code_notes(folder, runs),
    )
    keys = [(status.arm, status.seed) for status in data.all_statuses]
    records = {key: folder.run(*key).read_record() for key in keys}
    return replace(
        data, records=records, gif=_record_gif(data, loaded, log), check=_check(data, log)
    )


def summarize_episodes(study: Study, episodes: pl.DataFrame) -> Summary:
    """Summarize the finished runs: their final policies and their learning speed."""
    environment = study.evaluated_environment.describe()
    curves = results.learning_curves(episodes, study.evaluation.episodes)
    per_run = results.measure_runs(curves, results.final_episodes(episodes), environment)
    return summarize(study, environment, per_run, "return")


def _check(data: ReportData, log: Callable[[str], None]) -> Check | None:
    try:
        return check_study(data.study, {arm: data.study.arms[arm] for arm in data.drawn_arms})
    except UserError as error:
        log(f"no predictions: {error}")
        return None


def _record_gif(data: ReportData, loaded: LoadedRuns, log: Callable[[str], None]) -> bytes | None:
    """Record the drawn arms side by side; None if the environment cannot be rendered."""
    from shaperun.report.record_gif import EpisodeChoice, record_gifs  # imports torch

    try:
        *_, last = record_gifs(
            data.study, loaded, arms=data.drawn_arms, choice=EpisodeChoice(), log=log
        )
    except UserError as error:
        log(f"no GIF: {error}")
        return None
    return last.read_bytes()


def _run_statuses(loaded: LoadedRuns, runs: Sequence[Run]) -> list[RunStatus]:
    return [read_run_status(loaded.folder, run, loaded.state(run.arm, run.seed)) for run in runs]


def _select_trained(
    study: Study, folder: StudyFolder, sweep_data: SweepData | None
) -> tuple[Study, list[Run]]:
    """Return the study with the arms and trials that have runs, and these runs."""
    # With trials the baseline stays even without runs, or the first trial would become it.
    baseline = study.baseline if sweep_data and sweep_data.arms else None
    arms = {
        arm: reward for arm, reward in study.arms.items() if arm == baseline or folder.has_runs(arm)
    } | (sweep_data.arms if sweep_data else {})
    study = study.model_copy(update={"arms": arms or study.arms})
    return study, plan_runs(study, study.arms)


def load_sweep_data(study: Study, loaded: LoadedRuns) -> SweepData | None:
    """Load the results of the study's sweep; None without one.

    Raises:
        UserError: the folder holds another sweep.
    """
    if study.sweep is None:
        return None
    ranked = rank_trials(study, loaded)
    arms = _unpruned_arms(ranked, loaded.folder)
    pruned = [result.trial for result in ranked.trials if result.trial.arm not in arms]
    runs = [*plan_trial_runs(study, pruned, study.seeds), *_confirmation_runs(ranked)]
    started = [run for run in runs if loaded.folder.run(run.arm, run.seed).config.exists()]
    figures = {}
    if not ranked.ranking.is_empty():
        figures = {
            name: style.render(figure, "svg")
            for name, figure in sweep.draw_figures(study, ranked.ranking, ranked.table)
        }
    return SweepData(
        ranked, arms, _run_statuses(loaded, started), _summarize_fresh(ranked, loaded), figures
    )


def _ranked_arms(ranked: SweepResults) -> list[str]:
    return [] if ranked.ranking.is_empty() else list(ranked.ranking["arm"])


def _unpruned_arms(ranked: SweepResults, folder: StudyFolder) -> dict[str, Arm]:
    best_first = _ranked_arms(ranked)
    # The same weights may have been drawn twice, with one of the two trials finished.
    trials = [r.trial for r in ranked.trials if r.state != "pruned" or r.trial.arm in best_first]
    arms = make_trial_arms(ranked.study, trials)
    names = dict.fromkeys([*best_first, *arms])
    return {name: arms[name] for name in names if folder.has_runs(name)}


def _confirmation_runs(ranked: SweepResults) -> list[Run]:
    trials = [winner.result.trial for winner in ranked.best]
    return plan_trial_runs(ranked.study, trials, ranked.best[0].seeds) if trials else []


def _summarize_fresh(ranked: SweepResults, loaded: LoadedRuns) -> list[ArmSummary]:
    confirmed = {winner.result.trial.arm for winner in ranked.best if winner.values}
    runs = [run for run in _confirmation_runs(ranked) if run.arm in confirmed]
    if not runs:
        return []
    environment = ranked.study.evaluated_environment.describe()
    per_run = results.run_metrics(results.final_episodes(loaded.episodes(runs)), environment)
    trials = [winner.result.trial for winner in ranked.best]
    study = ranked.study.model_copy(update={"arms": make_trial_arms(ranked.study, trials)})
    return summarize(study, environment, per_run, "return").arms
