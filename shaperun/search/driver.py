"""The whole life of a sweep: generations of trials, the worse half stopped, the best confirmed."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from dataclasses import replace
from functools import partial
from operator import attrgetter

from shaperun.common.errors import UserError
from shaperun.common.files import Lock
from shaperun.runs import driver, prepare, status
from shaperun.runs.driver import Executor
from shaperun.runs.plan import Run
from shaperun.runs.status import RunStatus
from shaperun.runs.study_folder import StudyFolder
from shaperun.runs.train_options import TrainOptions
from shaperun.search.halving import rungs
from shaperun.search.sampler import PastTrial, suggest_weights
from shaperun.search.trial_results import (
    RungReturns,
    TrialResult,
    best_trials,
    evaluate_generation,
    evaluate_trials,
    runs_behind,
)
from shaperun.search.trials import Trial, append_generation, known_trials, runs_of
from shaperun.study.models import Study
from shaperun.study.sweep import SearchSweep

States = Generator[list[RunStatus]]


def fresh_seeds(study: Study) -> list[int]:
    """The seeds with which the best of a sweep is confirmed: none that the search has seen."""
    count = len(study.seeds)
    if study.sweep and study.sweep.confirm is not None:
        count = study.sweep.confirm
    first = max(study.seeds) + 1
    return list(range(first, first + count))


def known_runs(study: Study, folder: StudyFolder) -> list[Run]:
    """The runs of all trials that are decided upon so far."""
    return runs_of(study, known_trials(study, folder), study.seeds) if study.sweep else []


def run_statuses(study: Study, folder: StudyFolder) -> list[RunStatus]:
    """How far the runs of a sweep are, those that were stopped and those that confirm included."""
    if study.sweep is None:
        return []
    trials = known_trials(study, folder)
    found = evaluate_trials(study, folder, trials) if study.sweep.pruning else []
    stopped = {result.trial.arm for result in found if result.state == "pruned"}
    runs = runs_of(study, trials, study.seeds)
    states = [status.run_status(folder, run, by_size=True) for run in runs]
    fresh = runs_of(study, trials, fresh_seeds(study))
    begun = [run for run in fresh if folder.run(run.arm, run.seed).config.exists()]
    return [
        *(_pruned(s) if s.arm in stopped and s.state != "done" else s for s in states),
        *(status.run_status(folder, run, by_size=True) for run in begun),
    ]


def ensure_not_running(folder: StudyFolder) -> None:
    """Make sure that nobody else is searching.

    Raises:
        UserError: another command is.
    """
    if Lock.is_held(folder.search_lock):
        raise _already_running(folder)


def _already_running(folder: StudyFolder) -> UserError:
    return UserError(f"{folder.path}: another command is at this sweep; wait for it or stop it")


def drive(
    study: Study,
    folder: StudyFolder,
    execute_jobs: Executor,
    *,
    workers: int = 1,
    options: TrainOptions = TrainOptions(),  # noqa: B008 (it is immutable)
    fresh: bool = False,
) -> States:
    """Train a sweep to its end; yields how far every run is, again and again.

    Which trials there are, and which of them stop, depends on the study alone: not on the number
    of workers, and not on how often this was killed and begun again. With `fresh`, the trials that
    are known are forgotten, and what the folder holds of a run is deleted before it is trained.

    Raises:
        UserError: another command is searching, or the folder holds other runs.
    """
    folder.search_lock.parent.mkdir(parents=True, exist_ok=True)
    lease = Lock(folder.search_lock)
    if not lease.acquire():
        raise _already_running(folder)
    board: dict[tuple[str, int], RunStatus] = {}
    train_runs = partial(driver.drive, folder, execute_jobs=execute_jobs, workers=workers)
    train = partial(_train, train_runs, options, board)
    make_room = partial(prepare.delete_runs if fresh else prepare.ensure_unchanged, folder)
    try:
        if fresh:
            folder.delete_trials()
        found: list[TrialResult] = []
        rivals: RungReturns = {}
        for generation in _generations(study, folder, found):
            make_room(runs_of(study, generation, study.seeds))
            yield from _train_generation(study, folder, generation, rivals, train)
            found += evaluate_generation(study, folder, generation, rivals)
        winners = [result.trial for result in best_trials(study, found)]
        confirming = runs_of(study, winners, fresh_seeds(study))
        make_room(confirming)
        yield from train(confirming, None)
    finally:
        lease.release()


def _generations(
    study: Study, folder: StudyFolder, found: list[TrialResult]
) -> Iterator[list[Trial]]:
    """The generations that are known, and then new ones, drawn from what was `found` until then."""
    known = known_trials(study, folder)
    for _, generation in itertools.groupby(known, attrgetter("generation")):
        yield list(generation)
    sweep = study.sweep
    while isinstance(sweep, SearchSweep) and len(known) < sweep.samples:
        history = [
            [PastTrial(r.trial.weights, r.values, r.stopped_at) for r in generation]
            for _, generation in itertools.groupby(found, lambda r: r.trial.generation)
        ]
        drawn = suggest_weights(sweep, history, min(sweep.population, sweep.samples - len(known)))
        new = append_generation(study, folder, known, drawn)
        known += new
        yield new


def _train_generation(
    study: Study,
    folder: StudyFolder,
    generation: Sequence[Trial],
    rivals: RungReturns,
    train: Callable[..., States],
) -> States:
    """Train a generation; at each rung those stop that are not among the better half so far."""
    going: tuple[str, ...] = ("unfinished", "failed")  # what failed before is tried again, once
    for until in (*rungs(study), None):
        found = evaluate_generation(study, folder, generation, rivals)
        stopped = {result.trial.arm for result in found if result.state == "pruned"}
        trials = [result.trial for result in found if result.state in going]
        runs = runs_of(study, trials, study.seeds)
        yield from train(runs_behind(study, folder, runs, until), until, stopped)
        going = ("unfinished",)


def _train(
    train_runs: Callable[..., States],
    options: TrainOptions,
    board: dict[tuple[str, int], RunStatus],
    runs: Sequence[Run],
    until: int | None,
    stopped: Collection[str] = (),
) -> States:
    """Train runs so far, and keep the board on which all runs of the sweep stand."""
    board |= {place: _pruned(run) for place, run in board.items() if run.arm in stopped}
    for known in train_runs(runs, options=replace(options, until=until)):
        board |= {(run.arm, run.seed): run for run in known}
        yield list(board.values())


def _pruned(state: RunStatus) -> RunStatus:
    return replace(state, state="pruned")
