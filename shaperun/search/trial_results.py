"""What the trials of a sweep came to: finished, stopped on the way, failed, or not yet there."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Literal

import numpy as np
import polars as pl

from shaperun.analysis import results
from shaperun.runs.plan import Run
from shaperun.runs.study_folder import StudyFolder
from shaperun.search.halving import better_half, rungs
from shaperun.search.trials import Trial, runs_of
from shaperun.stats import sample
from shaperun.study.models import Study
from shaperun.study.sweep import Sweep

RungReturns = dict[int, dict[int, float]]
"""Steps -> trial -> the environment's own return then."""

_AGGREGATES: dict[str, Callable[[np.ndarray], float]] = {
    "iqm": sample.iqm,
    "mean": lambda x: float(np.mean(x)),
    "median": lambda x: float(np.median(x)),
    "worst": lambda x: float(np.min(x)),
}


@dataclass(frozen=True)
class TrialResult:
    """One trial, and how far it came."""

    trial: Trial
    state: Literal["done", "pruned", "failed", "unfinished"]
    values: tuple[float, ...] | None = None
    """A value an objective, in its own unit: at the end, or where it was stopped."""
    stopped_at: int | None = None
    """After how many steps it was stopped."""


def evaluate_trials(
    study: Study, folder: StudyFolder, trials: Sequence[Trial]
) -> list[TrialResult]:
    """What all these trials came to, generation by generation, from the folders of their runs."""
    rivals: RungReturns = {}
    return [
        result
        for _, generation in itertools.groupby(trials, attrgetter("generation"))
        for result in evaluate_generation(study, folder, list(generation), rivals)
    ]


def evaluate_generation(
    study: Study, folder: StudyFolder, trials: Sequence[Trial], rivals: RungReturns
) -> list[TrialResult]:
    """What one generation came to.

    Args:
        study: the study, which says when the worse half stops.
        folder: where the runs are.
        trials: the generation.
        rivals: what the trials before returned on their way; those of this one are added.
    """
    sweep = _sweep(study)
    left = {trial.number: trial for trial in trials}
    found: dict[int, TrialResult] = {}
    failed = _failed(study, folder, trials)
    for rung in rungs(study):
        values = measure(study, folder, left.values(), study.seeds, rung)
        found |= {
            n: TrialResult(left.pop(n), "failed") for n in failed & left.keys() - values.keys()
        }
        if left.keys() - values.keys():  # not all of them are that far
            return _in_order(trials, found, left)
        rivals.setdefault(rung, {}).update({n: own["return"] for n, own in values.items()})
        for n in left.keys() - better_half(left, rivals[rung]):
            found[n] = TrialResult(left.pop(n), "pruned", _signed(sweep, values[n]), rung)
    values = measure(study, folder, left.values(), study.seeds)
    found |= {n: TrialResult(left.pop(n), "failed") for n in failed & left.keys()}
    found |= {
        n: TrialResult(left.pop(n), "done", _signed(sweep, own))
        for n, own in values.items()
        if n in left
    }
    return _in_order(trials, found, left)


def best_trials(study: Study, found: Sequence[TrialResult]) -> list[TrialResult]:
    """The best finished trial; of two objectives all that no other is better than in both."""
    sweep = _sweep(study)
    done = {result.trial.arm: result for result in found if result.state == "done"}
    worth = {arm: _signs(sweep) * np.array(result.values) for arm, result in done.items()}
    if len(sweep.objective) == 1:
        return [max(done.values(), key=lambda r: worth[r.trial.arm][0])] if done else []
    return [
        result
        for arm, result in done.items()
        if not any((w >= worth[arm]).all() and (w > worth[arm]).any() for w in worth.values())
    ]


def measure(
    study: Study,
    folder: StudyFolder,
    trials: Iterable[Trial],
    seeds: Sequence[int],
    at: int | None = None,
) -> dict[int, dict[str, float]]:
    """The objectives and the return of every trial whose runs are all there, over its seeds.

    Args:
        study: names the objectives, and says how runs are put together.
        folder: where the runs are.
        trials: which trials.
        seeds: which of their runs.
        at: after so many steps; at the end of finished runs if absent.
    """
    wanted = list(trials)
    episodes = results.evaluation_episodes(folder, runs_of(study, wanted, seeds))
    if episodes.is_empty():
        return {}
    chosen = results.final_episodes(episodes) if at is None else _at(episodes, at, study)
    per_run = results.run_metrics(chosen, study.environment.describe())
    found = {}
    for trial in wanted:
        runs = per_run.filter(arm=trial.arm)
        if len(runs) == len(seeds):
            found[trial.number] = _aggregated(_sweep(study), runs)
    return found


def objectives(study: Study, measured: dict[str, float] | None) -> tuple[float, ...] | None:
    """The values of the objectives among what was measured of a trial."""
    return None if measured is None else _signed(_sweep(study), measured)


def runs_behind(
    study: Study, folder: StudyFolder, runs: Sequence[Run], at: int | None
) -> list[Run]:
    """The runs that have not been evaluated after so many steps; at the end if that is absent."""
    if at is None:
        return list(runs)
    episodes = results.evaluation_episodes(folder, runs)
    there = set() if episodes.is_empty() else set(_at(episodes, at, study)["arm", "seed"].rows())
    return [run for run in runs if (run.arm, run.seed) not in there]


def _at(episodes: pl.DataFrame, steps: int, study: Study) -> pl.DataFrame:
    """The first whole evaluation after so many steps."""
    later = episodes.filter(pl.col("timesteps") >= steps)
    first = later.filter(pl.col("timesteps") == pl.col("timesteps").min().over("arm", "seed"))
    return first.filter(pl.len().over("arm", "seed") >= study.evaluation.episodes)


def _aggregated(sweep: Sweep, runs: pl.DataFrame) -> dict[str, float]:
    aggregate = _AGGREGATES[sweep.aggregate]
    signs = {"return": 1.0} | {
        name.removeprefix("-"): float(sign)
        for name, sign in zip(sweep.objective, _signs(sweep), strict=True)
    }
    return {
        name: sign * aggregate(sign * runs[name].to_numpy().astype(float))
        for name, sign in signs.items()
    }


def _signs(sweep: Sweep) -> np.ndarray:
    return np.array([-1.0 if name[0] == "-" else 1.0 for name in sweep.objective])


def _signed(sweep: Sweep, values: dict[str, float]) -> tuple[float, ...]:
    return tuple(values[name.removeprefix("-")] for name in sweep.objective)


def _failed(study: Study, folder: StudyFolder, trials: Sequence[Trial]) -> set[int]:
    """The trials of which a run failed."""
    return {
        trial.number
        for trial in trials
        if any(folder.run(trial.arm, seed).state() == "failed" for seed in study.seeds)
    }


def _in_order(
    trials: Sequence[Trial], found: dict[int, TrialResult], left: dict[int, Trial]
) -> list[TrialResult]:
    rest = {number: TrialResult(trial, "unfinished") for number, trial in left.items()}
    return [(found | rest)[trial.number] for trial in trials]


def _sweep(study: Study) -> Sweep:
    assert study.sweep  # noqa: S101 (there are no trials without one)
    return study.sweep


def trial_table(
    study: Study, folder: StudyFolder, found: Sequence[TrialResult], seeds: Sequence[int]
) -> pl.DataFrame:
    """One row a trial.

    The columns are trial, generation, arm, state, stopped_at (steps), `weight_` and the name of
    each swept term, runs (how many seeds), and of each objective the value, `_low` and `_high`: the
    trial's lowest and highest seed, null where there is one seed only or the trial did not finish.

    Args:
        study: names the swept terms and the objectives.
        folder: where the runs are.
        found: the trials, and what they came to over these seeds.
        seeds: of their runs.
    """
    names = [name.removeprefix("-") for name in study.sweep.objective] if study.sweep else []
    terms = list(study.sweep.weights) if study.sweep else []
    rows = [
        (
            *(one.trial.number, one.trial.generation, one.trial.arm, one.state, one.stopped_at),
            *(one.trial.weights[term] for term in terms),
            len(seeds),
            *(one.values or [None] * len(names)),
        )
        for one in found
    ]
    schema = {
        "trial": pl.Int64,
        "generation": pl.Int64,
        "arm": pl.String,
        "state": pl.String,
        "stopped_at": pl.Int64,
        **{f"weight_{term}": pl.Float64 for term in terms},
        "runs": pl.Int64,
        **dict.fromkeys(names, pl.Float64),
    }
    done = [one for one in found if one.state == "done"]
    ends = _ends(study, folder, done, seeds, names)
    table = pl.DataFrame(rows, schema=schema, orient="row")
    return table.join(ends, on="arm", how="left", maintain_order="left").with_columns(
        pl.when(state="done").then(pl.col(f"{name}{end}")).alias(f"{name}{end}")
        for name in names
        for end in ("_low", "_high")
    )


def _ends(
    study: Study,
    folder: StudyFolder,
    done: Iterable[TrialResult],
    seeds: Sequence[int],
    names: Sequence[str],
) -> pl.DataFrame:
    """The lowest and the highest seed of every arm; nothing is between the ends of one seed."""
    ends = {f"{name}_{end}": pl.Float64 for name in names for end in ("low", "high")}
    runs = runs_of(study, [one.trial for one in done], seeds)
    if len(seeds) < 2 or not runs:
        return pl.DataFrame(schema={"arm": pl.String, **ends})
    episodes = results.final_episodes(results.evaluation_episodes(folder, runs))
    return (
        results.run_metrics(episodes, study.environment.describe())
        .group_by("arm")
        .agg(
            *(pl.col(name).min().cast(pl.Float64).alias(f"{name}_low") for name in names),
            *(pl.col(name).max().cast(pl.Float64).alias(f"{name}_high") for name in names),
        )
        .select("arm", *ends)
    )
