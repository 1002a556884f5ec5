"""Tidy tables of the held-out episodes from run folders."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import polars as pl

from shaperun.analysis import evaluations
from shaperun.analysis.evaluations import Evaluations
from shaperun.analysis.learning_speed import learning_speed
from shaperun.analysis.relabel import recorded_contributions
from shaperun.envs.base import Environment, Metric
from shaperun.envs.metrics import counted_outcomes
from shaperun.runs.plan import Run
from shaperun.runs.run_folder import State
from shaperun.runs.status import RunStatus, read_run_status
from shaperun.runs.study_folder import StudyFolder
from shaperun.study.models import Study

_RUN = {
    "study": pl.String,
    "arm": pl.String,
    "seed": pl.Int64,
    "done": pl.Boolean,
    "rows": pl.Int64,
}
_MAX_BYTES = 32_000_000  # of text to parse at once


@dataclass(frozen=True)
class RecordedRun:
    """A run as a comparison sees it: its study and arm there, and its state when read."""

    study: str
    arm: str
    run: Run
    folder: StudyFolder
    state: State

    @property
    def done(self) -> bool:
        """True if the run is finished."""
        return self.state == "done"


def recorded_runs(study: str, folder: StudyFolder, runs: Iterable[Run]) -> list[RecordedRun]:
    """Read the state of every run, once: it takes hashing all files of a finished run."""
    return [
        RecordedRun(study, run.arm, run, folder, folder.run(run.arm, run.seed).read_state())
        for run in runs
    ]


def explain_no_results(study: str, folder: StudyFolder, runs: Sequence[RecordedRun]) -> str:
    """Return why no run has recorded an evaluation, and what to do."""
    if any(run.state == "failed" for run in runs):
        return f"runs of {study} failed before their first evaluation; the command status shows why"
    return f"no arm of {study} has been trained into {folder.path} yet; train it first"


class LoadedRuns:
    """The states and evaluations of runs in one study folder, each read once, when first needed."""

    def __init__(self, folder: StudyFolder) -> None:
        self.folder = folder
        self._states: dict[tuple[str, int], State] = {}
        self._episodes: dict[tuple[str, int], pl.DataFrame] = {}

    def state(self, arm: str, seed: int) -> State:
        """Return the state of a run, which takes hashing all files of a finished one."""
        if (arm, seed) not in self._states:
            self._states[arm, seed] = self.folder.run(arm, seed).read_state()
        return self._states[arm, seed]

    def episodes(self, runs: Iterable[Run]) -> pl.DataFrame:
        """Return every evaluation episode of these runs, finished or not.

        The columns are those of a run's evaluations, plus arm, seed (of the run; the episode's is
        `episode_seed`) and done (whether the run is finished).

        Raises:
            UserError: a file is damaged.
        """
        runs = list(runs)
        unread = [
            RecordedRun("", run.arm, run, self.folder, self.state(run.arm, run.seed))
            for run in runs
            if (run.arm, run.seed) not in self._episodes
        ]
        self._episodes |= {(run.arm, run.run.seed): pl.DataFrame() for run in unread}
        for table in iter_tables(unread):
            parts = table.drop("study").partition_by("arm", "seed", as_dict=True)
            self._episodes |= {(str(arm), int(seed)): rows for (arm, seed), rows in parts.items()}
        tables = [self._episodes[run.arm, run.seed] for run in runs]
        # A term that an arm does not record is null in its rows.
        return pl.concat(tables, how="diagonal_relaxed") if tables else pl.DataFrame()


def iter_tables(runs: Iterable[RecordedRun]) -> Iterator[pl.DataFrame]:
    """Yield the evaluation episodes of many runs at a time, as `LoadedRuns` plus the study.

    All rows of a run are in one table, and the runs keep their order.
    """
    batch: list[tuple[RecordedRun, Evaluations]] = []
    size = 0
    for run in runs:
        folder = run.folder.run(run.run.arm, run.run.seed)
        text = evaluations.read_evaluations(run.run, folder, done=run.done)
        if not text.rows:
            continue
        same = batch and (batch[0][0].study, batch[0][1].header) == (run.study, text.header)
        if not same or size > _MAX_BYTES:
            yield from _parse_batch(batch)
            batch, size = [], 0
        batch.append((run, text))
        size += len(text.rows)
    yield from _parse_batch(batch)


def _parse_batch(batch: Sequence[tuple[RecordedRun, Evaluations]]) -> list[pl.DataFrame]:
    """Return the rows with study, arm, seed and done as one table, or no table."""
    if not batch:
        return []
    table = evaluations.parse_evaluations([text for _, text in batch])
    rows = [(run.study, run.arm, run.run.seed, run.done, text.count) for run, text in batch]
    runs = pl.DataFrame(rows, _RUN, orient="row")
    columns = runs.select(pl.exclude("rows").repeat_by("rows").explode())
    return [table.rename({"seed": "episode_seed"}).hstack(columns)]


def unfinished_runs(runs: Iterable[RecordedRun]) -> list[RunStatus]:
    """Return the statuses of the unfinished runs."""
    return [
        replace(read_run_status(run.folder, run.run, run.state), arm=run.arm)
        for run in runs
        if not run.done
    ]


def learning_curves(episodes: pl.DataFrame, first: int) -> pl.DataFrame:
    """Return one row per evaluation of a run: means of return and shaped_return over episodes.

    Only the `first` episodes count, which all evaluations have, so that the points of a curve are
    means over the same starts.
    """
    return (
        episodes.select("arm", "seed", "timesteps", "episode", "return", "shaped_return")
        .filter(pl.col("episode") < first)
        .group_by("arm", "seed", "timesteps", maintain_order=True)
        .agg(pl.col("return", "shaped_return").mean())
        .sort("arm", "seed", "timesteps")
    )


def final_episodes(episodes: pl.DataFrame) -> pl.DataFrame:
    """Return the episodes of the last evaluation of every finished run."""
    last = pl.col("timesteps").max().over("arm", "seed")
    return episodes.filter("done").filter(pl.col("timesteps") == last)


def run_metrics(final: pl.DataFrame, environment: Environment) -> pl.DataFrame:
    """Return one row per finished run: its means over the episodes, by metric name."""
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
            _metric_of_episodes(name, metric).mean().alias(name)
            for name, metric in environment.metrics.items()
        ),
    )


def _metric_of_episodes(name: str, metric: Metric) -> pl.Expr:
    if metric.function:
        return pl.col(name)
    return pl.sum_horizontal(pl.col(f"sum_{term}") * w for term, w in metric.terms.items())


def measure_runs(
    curves: pl.DataFrame, final: pl.DataFrame, environment: Environment
) -> pl.DataFrame:
    """Return `run_metrics` of the final episodes, joined with the `learning_speed` of the runs."""
    per_run = run_metrics(final, environment)
    finished = curves.join(per_run, on=["arm", "seed"], how="semi", maintain_order="left")
    speed = learning_speed(finished, environment.solved)
    return per_run.join(speed, on=["arm", "seed"], maintain_order="left")


def spread_between_runs(
    folder: StudyFolder, runs: Iterable[Run], environment: Environment
) -> float | None:
    """Return the standard deviation of the environment return between finished runs of an arm.

    It is the mean over arms with at least two runs, and None without such an arm. Runs of another
    configuration do not count.
    """
    same = [r for r in runs if folder.run(r.arm, r.seed).read_identity() == r.config.identity]
    episodes = LoadedRuns(folder).episodes(same)
    if episodes.is_empty():
        return None
    per_run = run_metrics(final_episodes(episodes), environment)
    spread = per_run.group_by("arm").agg(pl.col("return").std()).get_column("return").mean()
    return spread if isinstance(spread, float) and spread > 0 else None


def outcome_shares(final: pl.DataFrame, study: Study, environment: Environment) -> pl.DataFrame:
    """Return one row per arm and outcome: its share of the arm's final episodes."""
    rows = []
    for arm in study.arms:
        ended = final.filter(arm=arm)["outcome"]
        rows += [
            {"arm": arm, "outcome": outcome, "share": (ended == outcome).mean(), "good": good}
            for outcome, good in environment.outcomes.items()
            if len(ended)
        ]
    schema = {"arm": pl.String, "outcome": pl.String, "share": pl.Float64, "good": pl.Boolean}
    return pl.DataFrame(rows, schema)


def mean_contributions(final: pl.DataFrame, study: Study) -> pl.DataFrame:
    """Return one row per arm and term: its mean contribution per episode for the arm's learner.

    Schedules have the factors that the episodes recorded. The environment's reward counts as the
    term `environment` where the learner sees it.
    """
    rows = [
        {"arm": arm, "term": term, "contribution": float(values.mean())}
        for arm, reward in study.arms.items()
        if len(episodes := final.filter(arm=arm))
        for term, values in recorded_contributions(episodes, study, reward).items()
    ]
    return pl.DataFrame(rows, {"arm": pl.String, "term": pl.String, "contribution": pl.Float64})
