"""Run a sweep: train generations of trials, prune the worse half, confirm the best."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from operator import attrgetter

from shaperun.analysis.results import LoadedRuns
from shaperun.common.errors import UserError
from shaperun.common.files import Lock
from shaperun.runs import driver, prepare, status
from shaperun.runs.driver import Executor
from shaperun.runs.plan import Run
from shaperun.runs.status import RunStatus
from shaperun.runs.study_folder import StudyFolder, writing
from shaperun.runs.train_options import TrainOptions
from shaperun.search.halving import rung_timesteps
from shaperun.search.sampler import PastTrial, suggest_weights
from shaperun.search.trial_results import (
    RungReturns,
    TrialResult,
    evaluate_generation,
    evaluate_trials,
    select_best_trials,
    select_unevaluated_runs,
)
from shaperun.search.trials import Trial, append_generation, load_trials, plan_trial_runs
from shaperun.study.models import Study
from shaperun.study.sweep import SearchSweep

StatusUpdates = Generator[list[RunStatus]]


def confirmation_seeds(study: Study) -> list[int]:
    """Return the seeds that confirm the best trials; the sweep's trials do not use them."""
    count = len(study.seeds)
    if study.sweep and study.sweep.confirm is not None:
        count = study.sweep.confirm
    first = max(study.seeds) + 1
    return list(range(first, first + count))


def load_sweep_runs(study: Study, folder: StudyFolder) -> list[Run]:
    """Return the runs of all trials drawn so far."""
    return plan_trial_runs(study, load_trials(study, folder), study.seeds) if study.sweep else []


def read_run_statuses(study: Study, folder: StudyFolder) -> list[RunStatus]:
    """Return the status of a sweep's runs, including pruned and confirming ones."""
    if study.sweep is None:
        return []
    trials = load_trials(study, folder)
    pruned = set()
    if study.sweep.pruning:
        pruned = _pruned_arms(evaluate_trials(study, LoadedRuns(folder), trials))
    runs = plan_trial_runs(study, trials, study.seeds)
    fresh = plan_trial_runs(study, trials, confirmation_seeds(study))
    runs += [run for run in fresh if folder.run(run.arm, run.seed).config.exists()]
    statuses = [status.read_run_status(folder, run, by_size=True) for run in runs]
    return [
        replace(s, state="pruned")
        if s.arm in pruned and s.seed in study.seeds and s.state != "done"
        else s
        for s in statuses
    ]


def _pruned_arms(evaluated: Iterable[TrialResult]) -> set[str]:
    return {result.trial.arm for result in evaluated if result.state == "pruned"}


def ensure_not_running(folder: StudyFolder) -> None:
    """Check that no other command is running the sweep.

    Raises:
        UserError: another command is.
    """
    if Lock.is_held(folder.sweep_lock):
        raise _already_running(folder)


def _already_running(folder: StudyFolder) -> UserError:
    return UserError(
        f"{folder.path}: another command is running this sweep; wait for it or stop it"
    )


def run_sweep(
    study: Study,
    folder: StudyFolder,
    execute_jobs: Executor,
    *,
    workers: int = 1,
    options: TrainOptions = TrainOptions(),  # noqa: B008 (it is immutable)
    fresh: bool = False,
) -> StatusUpdates:
    """Train a sweep to its end; yield the status of every run repeatedly.

    The trials, and which of them are pruned, depend only on the study: not on the number of workers
    or on interruptions. With `fresh`, existing trials are deleted, and existing runs before they
    are trained.

    Raises:
        UserError: another command is running the sweep, the folder holds other runs, or it cannot
            be written.
    """
    with writing(folder.sweep_lock.parent):
        folder.sweep_lock.parent.mkdir(parents=True, exist_ok=True)
        lock = Lock(folder.sweep_lock)
        acquired = lock.acquire()
    if not acquired:
        raise _already_running(folder)

    def train_runs(runs: list[Run], until: int | None) -> StatusUpdates:
        until_rung = replace(options, until=until)
        return driver.execute_runs(folder, runs, execute_jobs, workers=workers, options=until_rung)

    prepare_runs = partial(prepare.delete_runs if fresh else prepare.ensure_unchanged, folder)
    try:
        if fresh:
            folder.delete_trials()
        yield from _SweepTraining(study, folder, train_runs, prepare_runs).run()
    finally:
        lock.release()


@dataclass
class _SweepTraining:
    """A sweep being trained: generation after generation, then the best with fresh seeds."""

    study: Study
    folder: StudyFolder
    train_runs: Callable[[list[Run], int | None], StatusUpdates]
    prepare_runs: Callable[[list[Run]], None]
    results: list[TrialResult] = field(default_factory=list)
    rung_returns: RungReturns = field(default_factory=dict)
    statuses: dict[tuple[str, int], RunStatus] = field(default_factory=dict)

    def run(self) -> StatusUpdates:
        for generation in self._generations():
            self.prepare_runs(plan_trial_runs(self.study, generation, self.study.seeds))
            yield from self._train_generation(generation)
            self.results += self._evaluate(generation)
        best = [result.trial for result in select_best_trials(self.study, self.results)]
        confirmation = plan_trial_runs(self.study, best, confirmation_seeds(self.study))
        self.prepare_runs(confirmation)
        yield from self._train(confirmation, None)

    def _generations(self) -> Iterator[list[Trial]]:
        """Yield the generations drawn so far, then new ones drawn from the results until then."""
        trials = load_trials(self.study, self.folder)
        for _, drawn in itertools.groupby(trials, attrgetter("generation")):
            yield list(drawn)
        sweep = self.study.sweep
        while isinstance(sweep, SearchSweep) and len(trials) < sweep.samples:
            history = [
                [PastTrial(r.trial.weights, r.values, r.stopped_at) for r in results]
                for _, results in itertools.groupby(self.results, lambda r: r.trial.generation)
            ]
            count = min(sweep.population, sweep.samples - len(trials))
            weights = suggest_weights(sweep, history, count)
            with writing(self.folder.trials):
                generation = append_generation(self.study, self.folder, trials, weights)
            trials += generation
            yield generation

    def _train_generation(self, generation: list[Trial]) -> StatusUpdates:
        """Train a generation; at each rung, continue only the better half of all trials so far."""
        continued: tuple[str, ...] = ("unfinished", "failed")  # earlier failures are retried once
        for until in (*rung_timesteps(self.study), None):
            results = self._evaluate(generation)
            pruned = _pruned_arms(results)
            self.statuses |= {
                key: replace(run, state="pruned")
                for key, run in self.statuses.items()
                if run.arm in pruned
            }
            trials = [result.trial for result in results if result.state in continued]
            runs = plan_trial_runs(self.study, trials, self.study.seeds)
            runs = select_unevaluated_runs(self.study, LoadedRuns(self.folder), runs, until)
            yield from self._train(runs, until)
            continued = ("unfinished",)

    def _evaluate(self, generation: list[Trial]) -> list[TrialResult]:
        loaded = LoadedRuns(self.folder)  # read again after each training
        return evaluate_generation(self.study, loaded, generation, self.rung_returns)

    def _train(self, runs: list[Run], until: int | None) -> StatusUpdates:
        for statuses in self.train_runs(runs, until):
            self.statuses |= {(run.arm, run.seed): run for run in statuses}
            yield list(self.statuses.values())
