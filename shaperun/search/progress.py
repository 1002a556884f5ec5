"""How a sweep stands: its best trials as arms, and what it has still to do."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from shaperun.common.errors import UserError
from shaperun.runs.prepare import ensure_unchanged
from shaperun.runs.status import RunStatus
from shaperun.runs.study_folder import StudyFolder
from shaperun.search.driver import fresh_seeds
from shaperun.search.trial_results import TrialResult, best_trials, evaluate_trials
from shaperun.search.trials import arms_of, known_trials, runs_of
from shaperun.study.models import Arm, Study
from shaperun.study.sweep import SearchSweep


def best_arms(study: Study, folder: StudyFolder) -> dict[str, Arm]:
    """The best finished trial, or of two objectives all that no other beats; none if none is.

    Raises:
        UserError: the folder holds another sweep.
    """
    if study.sweep is None:
        return {}
    return arms_of(study, [result.trial for result in best_trials(study, _judged(study, folder))])


def with_trials(study: Study, folder: StudyFolder, named: Collection[str]) -> Study:
    """The study with trials of its sweep as arms: those that are named, or else the best.

    Raises:
        UserError: one that is named was pruned; or the folder holds another sweep.
    """
    if study.sweep is None:
        return study
    if not named:
        return study.model_copy(update={"arms": study.arms | best_arms(study, folder)})
    chosen = [result for result in _judged(study, folder) if result.trial.arm in named]
    finished = {result.trial.arm for result in chosen if result.state == "done"}
    for result in chosen:
        if result.state == "pruned" and result.trial.arm not in finished:
            raise UserError(
                f"the trial {result.trial.arm} was pruned after {result.stopped_at:,} of "
                f"{study.training.total_timesteps:,} steps: there is no final policy of it to show"
            )
    arms = arms_of(study, [result.trial for result in chosen])
    return study.model_copy(update={"arms": study.arms | arms})


def remaining(study: Study, folder: StudyFolder, states: Iterable[RunStatus]) -> list[str]:
    """What is still to be done of a sweep, in words; nothing if it is finished.

    Args:
        study: the study, whose sweep it is.
        folder: of whose runs the best is only sought once every trial has come to its end.
        states: of the sweep's runs, as `search.run_statuses` tells them.
    """
    if study.sweep is None:
        return []
    runs = [run for run in states if run.seed in study.seeds]
    failed = {run.arm for run in runs if run.state == "failed"}
    unfinished = {run.arm for run in runs if run.state not in ("done", "pruned")} - failed
    left = {"unfinished": len(unfinished), "failed": len(failed)}
    if isinstance(study.sweep, SearchSweep):
        left["not drawn"] = study.sweep.samples - len(known_trials(study, folder))
    parts = [f"{count} of its trials {state}" for state, count in left.items() if count]
    return parts or _to_confirm(study, folder)


def _to_confirm(study: Study, folder: StudyFolder) -> list[str]:
    fresh = fresh_seeds(study)
    winners = (
        [result.trial for result in best_trials(study, _judged(study, folder))] if fresh else []
    )
    if all(folder.run(run.arm, run.seed).is_done() for run in runs_of(study, winners, fresh)):
        return []
    return [f"the best not confirmed on {len(fresh)} fresh seeds"]


def _judged(study: Study, folder: StudyFolder) -> list[TrialResult]:
    trials = known_trials(study, folder)
    ensure_unchanged(folder, runs_of(study, trials, study.seeds))
    return evaluate_trials(study, folder, trials)
