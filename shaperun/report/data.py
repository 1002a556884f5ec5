"""All that a report is made of, read from a study's folder once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import polars as pl

from shaperun.analysis import results
from shaperun.analysis import updates as training_record
from shaperun.analysis.learning_speed import sample_efficiency
from shaperun.analysis.summary import Summary, summarize
from shaperun.common.errors import UserError
from shaperun.report.sweep_data import Trials, gather_trials
from shaperun.runs.driver import RunStatus, refuse_changed, status
from shaperun.runs.plan import Run, planned_runs
from shaperun.runs.run_folder import StudyFolder
from shaperun.study.models import Study

MOST_ARMS = 8  # in figures and sentences; tables have all


@dataclass(frozen=True)
class Material:
    """What a report shows.

    The study's arms are those of which anything was trained, and behind them the trials of its
    sweep, but for those that were pruned: they learned for less long than all others.
    """

    study: Study
    episodes: pl.DataFrame
    """Every evaluation episode."""
    updates: pl.DataFrame
    summary: Summary
    states: list[RunStatus]
    records: Mapping[tuple[str, int], Mapping[str, Any]]
    """By arm and seed: what made the run, as `RunFolder.read_record` gives it."""
    gif: bytes | None
    """What the policies do, side by side."""
    resolved: str
    """The study file with every default spelled out."""
    trials: Trials | None = None
    """What became of its sweep."""

    @property
    def shown(self) -> list[str]:
        """The arms for which figures have room: the baseline and the best ones, in their order.

        Trials come behind the study's own arms, as the sweep ranks them.
        """
        trials = self.trials.ranked if self.trials else []
        own = [arm.arm for arm in self.summary.arms if arm.arm not in trials]
        first = [*sorted(own, key=lambda arm: arm != self.study.baseline), *trials][:MOST_ARMS]
        return [arm for arm in self.study.arms if arm in first]

    @property
    def every_state(self) -> list[RunStatus]:
        """How far all runs are, those that are no arm's included."""
        return [*self.states, *(self.trials.beside if self.trials else ())]

    @property
    def final(self) -> pl.DataFrame:
        """The episodes of the last evaluation of every finished run."""
        return results.final_episodes(self.episodes)

    @property
    def curves(self) -> pl.DataFrame:
        """The means of every evaluation of every run."""
        return results.curves(self.episodes, self.study.evaluation.episodes)


def gather(study: Study, folder: StudyFolder, tell: Callable[[str], None]) -> Material:
    """Read what there is of a study, its sweep included, and film its policies.

    Args:
        study: the study.
        folder: its folder; the films are left in it as `record-gif` leaves them.
        tell: is told of what takes long, in sentences.

    Raises:
        UserError: nothing is finished yet, or it was trained differently.
    """
    trials = gather_trials(study, folder)
    study, runs = _trained(study, folder, trials)
    refuse_changed(folder, runs)
    episodes = results.evaluation_episodes(folder, runs)
    if episodes.is_empty() or not episodes["done"].any():
        verbs = "train or sweep" if study.sweep else "train"
        raise UserError(
            f"no run of {study.study} is finished in {folder.path}: shaperun {verbs} it"
        )
    states = [status(folder, run) for run in runs]
    every = [*states, *(trials.beside if trials else ())]
    material = Material(
        study,
        episodes,
        training_record.update_statistics(folder, runs),
        summarized(study, episodes),
        states,
        {(run.arm, run.seed): folder.run(run.arm, run.seed).read_record() for run in every},
        None,
        folder.read_study(),
        trials,
    )
    return replace(material, gif=_film(material, folder, tell))


def summarized(study: Study, episodes: pl.DataFrame) -> Summary:
    """What the finished runs come to, at the end and over training."""
    environment = study.environment.describe()
    curves = results.curves(episodes.filter("done"), study.evaluation.episodes)
    per_run = results.run_metrics(results.final_episodes(episodes), environment)
    learning = sample_efficiency(curves, environment.solved)
    per_run = per_run.join(learning, on=["arm", "seed"], maintain_order="left")
    return summarize(study, environment, per_run, "return")


def _film(material: Material, folder: StudyFolder, tell: Callable[[str], None]) -> bytes | None:
    """The shown arms side by side; None where the environment cannot be drawn."""
    from shaperun.report.record_gif import Wish, record_gifs  # which imports torch

    try:
        *_, last = record_gifs(material.study, folder, arms=material.shown, wish=Wish(), tell=tell)
    except UserError as error:
        tell(f"no film: {error}")
        return None
    return last.read_bytes()


def _trained(study: Study, folder: StudyFolder, trials: Trials | None) -> tuple[Study, list[Run]]:
    """The study with its arms and those of its sweep of which there is a run, and these runs."""
    # Beside trials the baseline stays, or whichever of them is the first would be taken for it.
    kept = study.baseline if trials and trials.arms else None
    own = {arm: reward for arm, reward in study.arms.items() if arm == kept or folder.has(arm)}
    there = own | (trials.arms if trials else {})
    study = study.model_copy(update={"arms": there or study.arms})
    return study, planned_runs(study, study.arms)
