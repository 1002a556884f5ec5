"""Progress of a sweep: its best trials as arms, and the work that remains."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from shaperun.analysis.results import LoadedRuns
from shaperun.common.errors import UserError
from shaperun.common.text import pluralize
from shaperun.runs.prepare import ensure_unchanged
from shaperun.runs.status import RunStatus
from shaperun.runs.study_folder import StudyFolder
from shaperun.search.driver import confirmation_seeds
from shaperun.search.trial_results import TrialResult, evaluate_trials, select_best_trials
from shaperun.search.trials import Trial, load_trials, make_trial_arms, plan_trial_runs
from shaperun.study.models import Arm, Study
from shaperun.study.sweep import SearchSweep


def load_best_arms(study: Study, loaded: LoadedRuns) -> dict[str, Arm]:
    """Return the best finished trials of a sweep as arms, see `select_best_trials`.

    Raises:
        UserError: the folder holds another sweep.
    """
    return make_trial_arms(study, _load_best_trials(study, loaded)) if study.sweep else {}


def add_trial_arms(study: Study, loaded: LoadedRuns, names: Collection[str]) -> Study:
    """Return a study with trials of its sweep as arms: the named ones, or by default the best.

    Raises:
        UserError: a named trial was pruned, or the folder holds another sweep.
    """
    if study.sweep is None:
        return study
    if not names:
        return study.model_copy(update={"arms": study.arms | load_best_arms(study, loaded)})
    chosen = [result for result in _evaluate(study, loaded) if result.trial.arm in names]
    finished = {result.trial.arm for result in chosen if result.state == "done"}
    for result in chosen:
        if result.state == "pruned" and result.trial.arm not in finished:
            raise UserError(
                f"the trial {result.trial.arm} was pruned after {result.stopped_at:,} of "
                f"{study.training.total_timesteps:,} steps and has no final policy; choose a "
                "finished trial"
            )
    arms = make_trial_arms(study, [result.trial for result in chosen])
    return study.model_copy(update={"arms": study.arms | arms})


def describe_remaining_work(
    study: Study, folder: StudyFolder, statuses: Iterable[RunStatus]
) -> list[str]:
    """Return the work that remains of a sweep, as phrases; empty if it is finished.

    The `statuses` are those of `read_run_statuses`; runs are read once no trial remains.
    """
    if study.sweep is None:
        return []
    runs = [run for run in statuses if run.seed in study.seeds]
    failed = {run.arm for run in runs if run.state == "failed"}
    unfinished = {run.arm for run in runs if run.state not in ("done", "pruned")} - failed
    counts = {"unfinished": len(unfinished), "failed": len(failed)}
    if isinstance(study.sweep, SearchSweep):
        counts["not drawn"] = study.sweep.samples - len(load_trials(study, folder))
    parts = [f"{pluralize(n, 'trial')} {state}" for state, n in counts.items() if n]
    fresh = confirmation_seeds(study)
    if parts or not fresh:
        return parts
    best = plan_trial_runs(study, _load_best_trials(study, LoadedRuns(folder)), fresh)
    if all(folder.run(run.arm, run.seed).is_done() for run in best):
        return []
    return [f"confirmation of the best on {pluralize(len(fresh), 'fresh seed')}"]


def _load_best_trials(study: Study, loaded: LoadedRuns) -> list[Trial]:
    return [result.trial for result in select_best_trials(study, _evaluate(study, loaded))]


def _evaluate(study: Study, loaded: LoadedRuns) -> list[TrialResult]:
    trials = load_trials(study, loaded.folder)
    ensure_unchanged(loaded.folder, plan_trial_runs(study, trials, study.seeds))
    return evaluate_trials(study, loaded, trials)
