"""Run folders -> tidy tables of what the policies did on the held-out episodes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import polars as pl

from shaperun.analysis import evaluations
from shaperun.analysis.evaluations import Evaluations
from shaperun.analysis.relabel import contributions_with_kernel
from shaperun.envs.base import Environment
from shaperun.envs.metrics import counted_outcomes
from shaperun.rewards.kernel import RewardKernel
from shaperun.runs.plan import Run
from shaperun.runs.run_folder import State
from shaperun.runs.status import RunStatus, run_status
from shaperun.runs.study_folder import StudyFolder
from shaperun.study.models import Study

_RUN = {
    "study": pl.String,
    "arm": pl.String,
    "seed": pl.Int64,
    "done": pl.Boolean,
    "rows": pl.Int64,
}
_MAX_BYTES = 32_000_000  # of text that waits to be parsed


@dataclass(frozen=True)
class RecordedRun:
    """A run as a comparison sees it: what it is called there, and how far it was when looked at."""

    study: str
    arm: str
    run: Run
    folder: StudyFolder
    state: State

    @property
    def done(self) -> bool:
        """Whether the run is finished."""
        return self.state == "done"


def recorded_runs(study: str, folder: StudyFolder, runs: Iterable[Run]) -> list[RecordedRun]:
    """Look at every run, once: whether one is finished takes reading all of its files."""
    return [
        RecordedRun(study, run.arm, run, folder, folder.run(run.arm, run.seed).state())
        for run in runs
    ]


def evaluation_episodes(folder: StudyFolder, runs: Iterable[Run]) -> pl.DataFrame:
    """Every evaluation episode of these runs, unfinished runs included.

    The columns are those of a run's evaluations, and arm, seed (of the run; the episode's own is
    `episode_seed`) and done (whether the run is finished).
    """
    # Arms may have terms of their own: what an arm does not record is null in its rows.
    tables = [table.drop("study") for table in iter_tables(recorded_runs("", folder, runs))]
    return pl.concat(tables, how="diagonal_relaxed") if tables else pl.DataFrame()


def iter_tables(runs: Iterable[RecordedRun]) -> Iterator[pl.DataFrame]:
    """The same of runs that were looked at already, many runs at a time, and study, whose one is.

    All rows of a run are in one table, and the runs are in the order given.
    """
    batch: list[tuple[RecordedRun, Evaluations]] = []
    size = 0
    for run in runs:
        folder = run.folder.run(run.run.arm, run.run.seed)
        found = evaluations.read_evaluations(run.run, folder, done=run.done)
        if not found.rows:
            continue
        same = batch and (batch[0][0].study, batch[0][1].header) == (run.study, found.header)
        if not same or size > _MAX_BYTES:
            yield from _table(batch)
            batch, size = [], 0
        batch.append((run, found))
        size += len(found.rows)
    yield from _table(batch)


def _table(batch: Sequence[tuple[RecordedRun, Evaluations]]) -> list[pl.DataFrame]:
    """The rows with study, arm, seed and done beside them; none where there are no rows."""
    if not batch:
        return []
    table = evaluations.parse_evaluations([found for _, found in batch])
    rows = [(run.study, run.arm, run.run.seed, run.done, found.count) for run, found in batch]
    runs = pl.DataFrame(rows, _RUN, orient="row")
    of_run = runs.select(pl.exclude("rows").repeat_by("rows").explode())
    return [table.rename({"seed": "episode_seed"}).hstack(of_run)]


def unfinished(runs: Iterable[RecordedRun]) -> list[RunStatus]:
    """The runs that a comparison of final policies has to do without."""
    return [
        replace(run_status(run.folder, run.run, run.state), arm=run.arm)
        for run in runs
        if not run.done
    ]


def curves(episodes: pl.DataFrame, first: int) -> pl.DataFrame:
    """One row an evaluation of a run: the means of return and shaped_return over its episodes.

    Only the `first` episodes count, which every evaluation has, the longer last one included:
    the points of a curve are then means over the same starts.
    """
    return (
        episodes.select("arm", "seed", "timesteps", "episode", "return", "shaped_return")
        .filter(pl.col("episode") < first)
        .group_by("arm", "seed", "timesteps", maintain_order=True)
        .agg(pl.col("return", "shaped_return").mean())
        .sort("arm", "seed", "timesteps")
    )


def final_episodes(episodes: pl.DataFrame) -> pl.DataFrame:
    """The episodes of the last evaluation of every finished run."""
    last = pl.col("timesteps").max().over("arm", "seed")
    return episodes.filter("done").filter(pl.col("timesteps") == last)


def run_metrics(final: pl.DataFrame, environment: Environment) -> pl.DataFrame:
    """One row a finished run: its means over the episodes, in the columns that `metric_names` lists."""
    successes = [name for name, good in environment.outcomes.items() if good]
    return final.group_by("arm", "seed", maintain_order=True).agg(
        pl.col("return").mean(),
        *([pl.col("outcome").is_in(successes).mean().alias("success_rate")] if successes else []),
        *(
            (pl.col("outcome") == name).mean().alias(f"{name}_rate")
            for name in counted_outcomes(environment)
        ),
        pl.col("length").mean(),
        *(
            pl.sum_horizontal(pl.col(f"sum_{term}") * weight for term, weight in parts.items())
            .mean()
            .alias(metric)
            for metric, parts in environment.metrics.items()
        ),
    )


def spread_between_runs(
    folder: StudyFolder, runs: Iterable[Run], environment: Environment
) -> float | None:
    """The standard deviation of the environment return between finished runs of an arm.

    It is the mean over the arms with two runs or more; None where there is no such arm. Runs of
    another configuration do not count.
    """
    same = [r for r in runs if folder.run(r.arm, r.seed).identity() == r.config.identity]
    episodes = evaluation_episodes(folder, same)
    if episodes.is_empty():
        return None
    per_run = run_metrics(final_episodes(episodes), environment)
    spread = per_run.group_by("arm").agg(pl.col("return").std()).get_column("return").mean()
    return spread if isinstance(spread, float) and spread > 0 else None


def outcome_shares(final: pl.DataFrame, study: Study, environment: Environment) -> pl.DataFrame:
    """One row an arm and outcome: its share of the arm's final episodes."""
    rows = [
        {
            "arm": arm,
            "outcome": outcome,
            "share": (final.filter(arm=arm)["outcome"] == outcome).sum()
            / len(final.filter(arm=arm)),
            "good": good,
        }
        for arm in study.arms
        if arm in final["arm"]
        for outcome, good in environment.outcomes.items()
    ]
    schema = {"arm": pl.String, "outcome": pl.String, "share": pl.Float64, "good": pl.Boolean}
    return pl.DataFrame(rows, schema)


def contributions(final: pl.DataFrame, study: Study, environment: Environment) -> pl.DataFrame:
    """One row an arm and term: what the term paid, per episode, to the learner of that arm.

    The environment's own reward counts as the term `environment` where the learner sees it.
    """
    rows = []
    for arm, reward in study.arms.items():
        episodes = final.filter(arm=arm)
        if len(episodes):
            gamma = study.training_of(reward).gamma
            kernel = RewardKernel(environment, study.resolved(reward), gamma)
            rows += [
                {"arm": arm, "term": term, "contribution": float(values.mean())}
                for term, values in contributions_with_kernel(episodes, kernel, environment).items()
            ]
    return pl.DataFrame(rows, {"arm": pl.String, "term": pl.String, "contribution": pl.Float64})
