"""Results of trials: finished, pruned, failed or unfinished, and their objectives."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Literal

import numpy as np
import polars as pl

from shaperun.analysis import results
from shaperun.analysis.results import LoadedRuns
from shaperun.runs.plan import Run
from shaperun.search.halving import rung_timesteps, select_better_half
from shaperun.search.trials import Trial, plan_trial_runs
from shaperun.stats import sample
from shaperun.study.models import Study
from shaperun.study.sweep import Sweep, swept_column

RungReturns = dict[int, dict[int, float]]
"""Timesteps of a rung -> number of a trial -> return of the environment."""

_AGGREGATES: dict[str, Callable[[np.ndarray], float]] = {
    "iqm": sample.iqm,
    "mean": lambda x: float(np.mean(x)),
    "median": lambda x: float(np.median(x)),
    "worst": lambda x: float(np.min(x)),
}


@dataclass(frozen=True)
class TrialResult:
    """A trial, its state, and one value per objective, in its unit.

    The values of a pruned trial are those at `stopped_at`, in timesteps.
    """

    trial: Trial
    state: Literal["done", "pruned", "failed", "unfinished"]
    values: tuple[float, ...] | None = None
    stopped_at: int | None = None


def evaluate_trials(study: Study, loaded: LoadedRuns, trials: Sequence[Trial]) -> list[TrialResult]:
    """Return the results of all trials, in order."""
    rung_returns: RungReturns = {}
    return [
        result
        for _, generation in itertools.groupby(trials, attrgetter("generation"))
        for result in evaluate_generation(study, loaded, list(generation), rung_returns)
    ]


def evaluate_generation(
    study: Study, loaded: LoadedRuns, trials: Sequence[Trial], rung_returns: RungReturns
) -> list[TrialResult]:
    """Return the results of one generation, in order; add its returns to `rung_returns`."""
    left = {trial.number: trial for trial in trials}
    evaluated: dict[int, TrialResult] = {}
    failed = {
        trial.number
        for trial in trials
        if any(loaded.state(trial.arm, seed) == "failed" for seed in study.seeds)
    }
    for at in (*rung_timesteps(study), None):
        measured = measure_trials(study, loaded, left.values(), study.seeds, at)
        for number in failed & left.keys() - measured.keys():
            evaluated[number] = TrialResult(left.pop(number), "failed")
        values = {number: objective_values(study, metrics) for number, metrics in measured.items()}
        if at is None:
            for number in measured:
                evaluated[number] = TrialResult(left.pop(number), "done", values[number])
        elif left.keys() <= measured.keys():
            returns = rung_returns.setdefault(at, {})
            returns.update({number: metrics["return"] for number, metrics in measured.items()})
            for number in left.keys() - select_better_half(left, returns):
                evaluated[number] = TrialResult(left.pop(number), "pruned", values[number], at)
        else:  # the rung is decided once all trials have reached it
            break
    return [evaluated.get(t.number) or TrialResult(t, "unfinished") for t in trials]


def select_best_trials(study: Study, evaluated: Sequence[TrialResult]) -> list[TrialResult]:
    """Return the best finished trial; with two objectives, the Pareto front of finished trials."""
    signs = _signs(sweep_of(study))
    done = {result.trial.arm: result for result in evaluated if result.state == "done"}
    scores = {arm: signs * np.array(result.values) for arm, result in done.items()}
    if len(signs) == 1:
        return [max(done.values(), key=lambda r: scores[r.trial.arm][0])] if done else []
    return [
        result
        for arm, result in done.items()
        if not any((s >= scores[arm]).all() and (s > scores[arm]).any() for s in scores.values())
    ]


def measure_trials(
    study: Study,
    loaded: LoadedRuns,
    trials: Iterable[Trial],
    seeds: Sequence[int],
    at: int | None = None,
) -> dict[int, dict[str, float]]:
    """Return objectives and return by number of trial, aggregated over the runs with these seeds.

    Uses the first evaluation after `at` timesteps, or the final one of finished runs if None.
    Trials are left out if the evaluation of a run is missing.
    """
    trials = list(trials)
    episodes = loaded.episodes(plan_trial_runs(study, trials, seeds))
    if episodes.is_empty():
        return {}
    chosen = results.final_episodes(episodes) if at is None else _select_at(episodes, at, study)
    metrics = results.run_metrics(chosen, study.evaluated_environment.describe())
    runs = {trial.number: metrics.filter(arm=trial.arm) for trial in trials}
    return {
        number: _aggregate(sweep_of(study), table)
        for number, table in runs.items()
        if len(table) == len(seeds)
    }


def objective_values(study: Study, metrics: dict[str, float]) -> tuple[float, ...]:
    """Return the values of the objectives among the metrics of a trial."""
    return tuple(metrics[name] for name in sweep_of(study).metrics)


def select_unevaluated_runs(
    study: Study, loaded: LoadedRuns, runs: Sequence[Run], at: int | None
) -> list[Run]:
    """Return the runs without an evaluation after so many timesteps; None returns all runs."""
    if at is None:
        return list(runs)
    episodes = loaded.episodes(runs)
    if episodes.is_empty():
        return list(runs)
    evaluated = set(_select_at(episodes, at, study)["arm", "seed"].rows())
    return [run for run in runs if (run.arm, run.seed) not in evaluated]


def _select_at(episodes: pl.DataFrame, timesteps: int, study: Study) -> pl.DataFrame:
    """Return the first evaluation after so many timesteps, of runs where it is complete."""
    later = episodes.filter(pl.col("timesteps") >= timesteps)
    first = later.filter(pl.col("timesteps") == pl.col("timesteps").min().over("arm", "seed"))
    return first.filter(pl.len().over("arm", "seed") >= study.evaluation.episodes)


def _aggregate(sweep: Sweep, runs: pl.DataFrame) -> dict[str, float]:
    aggregate = _AGGREGATES[sweep.aggregate]
    signs = {"return": 1.0} | dict(zip(sweep.metrics, map(float, _signs(sweep)), strict=True))
    return {
        name: sign * aggregate(sign * runs[name].to_numpy().astype(float))
        for name, sign in signs.items()
    }


def _signs(sweep: Sweep) -> np.ndarray:
    return np.array([-1.0 if name[0] == "-" else 1.0 for name in sweep.objective])


def sweep_of(study: Study) -> Sweep:
    """Return the sweep of a study that has one."""
    assert study.sweep  # noqa: S101 (trials are of a sweep)
    return study.sweep


def make_trial_table(
    study: Study, loaded: LoadedRuns, evaluated: Sequence[TrialResult], seeds: Sequence[int]
) -> pl.DataFrame:
    """Return a table with one row per trial.

    The columns are trial, generation, arm, state, stopped_at (timesteps), the
    `swept_column` of each weight and parameter, runs (the number of seeds), and for each objective
    the value, `_low` and `_high`: the trial's lowest and highest seed, null with one seed or if
    the trial is not done.
    """
    sweep = sweep_of(study)
    names = sweep.metrics
    columns = [
        pl.Series("trial", [r.trial.number for r in evaluated], pl.Int64),
        pl.Series("generation", [r.trial.generation for r in evaluated], pl.Int64),
        pl.Series("arm", [r.trial.arm for r in evaluated], pl.String),
        pl.Series("state", [r.state for r in evaluated], pl.String),
        pl.Series("stopped_at", [r.stopped_at for r in evaluated], pl.Int64),
        *(
            pl.Series(swept_column(term), [r.trial.weights[term] for r in evaluated], pl.Float64)
            for term in sweep.weights
        ),
        pl.Series("runs", [len(seeds)] * len(evaluated), pl.Int64),
        *(
            pl.Series(name, [r.values and r.values[i] for r in evaluated], pl.Float64)
            for i, name in enumerate(names)
        ),
    ]
    done = [result.trial for result in evaluated if result.state == "done"]
    extremes = _seed_extremes(study, loaded, done, seeds, names)
    table = pl.DataFrame(columns).join(extremes, on="arm", how="left", maintain_order="left")
    return table.with_columns(
        pl.when(state="done").then(pl.col(f"{name}{end}")).alias(f"{name}{end}")
        for name in names
        for end in ("_low", "_high")
    )


def _seed_extremes(
    study: Study,
    loaded: LoadedRuns,
    trials: Sequence[Trial],
    seeds: Sequence[int],
    names: Sequence[str],
) -> pl.DataFrame:
    """Return the lowest and highest seed per arm; empty with fewer than two seeds."""
    ends = {f"{name}_{end}": pl.Float64 for name in names for end in ("low", "high")}
    if len(seeds) < 2 or not trials:
        return pl.DataFrame(schema={"arm": pl.String, **ends})
    episodes = results.final_episodes(loaded.episodes(plan_trial_runs(study, trials, seeds)))
    metrics = results.run_metrics(episodes, study.evaluated_environment.describe())
    columns = pl.col(*names)
    low, high = columns.min().name.suffix("_low"), columns.max().name.suffix("_high")
    return metrics.group_by("arm").agg(low, high).select("arm", pl.col(*ends).cast(pl.Float64))
