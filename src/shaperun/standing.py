"""How a sweep stands: its best trials as arms, and what it has still to do."""

from __future__ import annotations

from collections.abc import Collection

from shaperun.arm import RewardConfig
from shaperun.batch import refuse_changed
from shaperun.errors import UserError
from shaperun.search import fresh_seeds
from shaperun.store import StudyFolder
from shaperun.study import SearchSweep, Study
from shaperun.trial_results import TrialResult, best, judge
from shaperun.trials import known_trials, rewards, runs_of


def best_arms(study: Study, folder: StudyFolder) -> dict[str, RewardConfig]:
    """The best finished trial, or of two objectives all that no other beats; none if none is.

    Raises:
        UserError: the folder holds another sweep.
    """
    if study.sweep is None:
        return {}
    return rewards(study, [result.trial for result in best(study, _judged(study, folder))])


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
    arms = rewards(study, [result.trial for result in chosen])
    return study.model_copy(update={"arms": study.arms | arms})


def remaining(study: Study, folder: StudyFolder) -> list[str]:
    """What is still to be done of a sweep, in words; nothing if it is finished."""
    sweep = study.sweep
    if sweep is None:
        return []
    found = _judged(study, folder)
    left = {state: sum(r.state == state for r in found) for state in ("unfinished", "failed")}
    if isinstance(sweep, SearchSweep):
        left["not drawn"] = sweep.samples - len(found)
    parts = [f"{count} of its trials {state}" for state, count in left.items() if count]
    fresh = fresh_seeds(study)
    confirming = runs_of(study, [result.trial for result in best(study, found)], fresh)
    done = [folder.run(run.arm, run.seed).is_done() for run in confirming]
    if fresh and not (done and all(done)):
        parts.append(f"the best not confirmed on {len(fresh)} fresh seeds")
    return parts


def _judged(study: Study, folder: StudyFolder) -> list[TrialResult]:
    trials = known_trials(study, folder)
    refuse_changed(folder, runs_of(study, trials, study.seeds))
    return judge(study, folder, trials)
