"""The whole life of a sweep: generations of trials, the worse half stopped, the best confirmed."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from dataclasses import replace
from functools import partial
from operator import attrgetter

from shaperun.common.errors import UserError
from shaperun.common.files import Lease
from shaperun.runs import driver
from shaperun.runs.driver import Executor, RunStatus
from shaperun.runs.plan import Run
from shaperun.runs.run_folder import StudyFolder
from shaperun.search.halving import rungs
from shaperun.search.sampler import Tried, suggest
from shaperun.search.trial_results import (
    Rivals,
    TrialResult,
    best,
    judge,
    judge_generation,
    not_there_yet,
)
from shaperun.search.trials import Trial, known_trials, runs_of, write_down
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


def standing(study: Study, folder: StudyFolder) -> list[RunStatus]:
    """How far the runs of a sweep are, those that were stopped and those that confirm included."""
    if study.sweep is None:
        return []
    trials = known_trials(study, folder)
    found = judge(study, folder, trials) if study.sweep.pruning else []
    stopped = {result.trial.arm for result in found if result.state == "pruned"}
    runs = runs_of(study, trials, study.seeds)
    states = [driver.status(folder, run, by_size=True) for run in runs]
    fresh = runs_of(study, trials, fresh_seeds(study))
    begun = [run for run in fresh if folder.run(run.arm, run.seed).config.exists()]
    return [
        *(_pruned(s) if s.arm in stopped and s.state != "done" else s for s in states),
        *(driver.status(folder, run, by_size=True) for run in begun),
    ]


def refuse_another(folder: StudyFolder) -> None:
    """Make sure that nobody else is searching.

    Raises:
        UserError: another command is.
    """
    if Lease.held(folder.search_lease):
        raise _occupied(folder)


def _occupied(folder: StudyFolder) -> UserError:
    return UserError(f"{folder.path}: another command is at this sweep; wait for it or stop it")


def drive(
    study: Study,
    folder: StudyFolder,
    execute_jobs: Executor,
    *,
    workers: int = 1,
    fresh: bool = False,
    tensorboard: bool = False,
) -> States:
    """Train a sweep to its end; yields how far every run is, again and again.

    Which trials there are, and which of them stop, depends on the study alone: not on the number
    of workers, and not on how often this was killed and begun again. With `fresh`, the trials that
    are known are forgotten, and what the folder holds of a run is deleted before it is trained.

    Raises:
        UserError: another command is searching, or the folder holds other runs.
    """
    folder.search_lease.parent.mkdir(parents=True, exist_ok=True)
    lease = Lease(folder.search_lease)
    if not lease.take():
        raise _occupied(folder)
    board: dict[tuple[str, int], RunStatus] = {}
    train_runs = partial(
        driver.drive, folder, execute_jobs=execute_jobs, workers=workers, tensorboard=tensorboard
    )
    train = partial(_train, train_runs, board)
    make_room = partial(driver.discard if fresh else driver.refuse_changed, folder)
    try:
        if fresh:
            folder.forget_search()
        found: list[TrialResult] = []
        rivals: Rivals = {}
        for generation in _generations(study, folder, found):
            make_room(runs_of(study, generation, study.seeds))
            yield from _compete(study, folder, generation, rivals, train)
            found += judge_generation(study, folder, generation, rivals)
        winners = [result.trial for result in best(study, found)]
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
            [Tried(r.trial.weights, r.values, r.stopped_at) for r in generation]
            for _, generation in itertools.groupby(found, lambda r: r.trial.generation)
        ]
        drawn = suggest(sweep, history, min(sweep.population, sweep.samples - len(known)))
        new = write_down(study, folder, known, drawn)
        known += new
        yield new


def _compete(
    study: Study,
    folder: StudyFolder,
    generation: Sequence[Trial],
    rivals: Rivals,
    train: Callable[..., States],
) -> States:
    """Train a generation; at each rung those stop that are not among the better half so far."""
    going: tuple[str, ...] = ("unfinished", "failed")  # what failed before is tried again, once
    for until in (*rungs(study), None):
        found = judge_generation(study, folder, generation, rivals)
        stopped = {result.trial.arm for result in found if result.state == "pruned"}
        trials = [result.trial for result in found if result.state in going]
        runs = runs_of(study, trials, study.seeds)
        yield from train(not_there_yet(study, folder, runs, until), until, stopped)
        going = ("unfinished",)


def _train(
    train_runs: Callable[..., States],
    board: dict[tuple[str, int], RunStatus],
    runs: Sequence[Run],
    until: int | None,
    stopped: Collection[str] = (),
) -> States:
    """Train runs so far, and keep the board on which all runs of the sweep stand."""
    board |= {place: _pruned(run) for place, run in board.items() if run.arm in stopped}
    for known in train_runs(runs, until=until):
        board |= {(run.arm, run.seed): run for run in known}
        yield list(board.values())


def _pruned(state: RunStatus) -> RunStatus:
    return replace(state, state="pruned")
