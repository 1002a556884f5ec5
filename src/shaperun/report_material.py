"""All that a report is made of, read from a study's folder once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import polars as pl

from shaperun import results, training_record
from shaperun.arm import RewardConfig
from shaperun.batch import RunStatus, refuse_changed, status
from shaperun.errors import UserError
from shaperun.plan import Run, planned_runs
from shaperun.sample_efficiency import sample_efficiency
from shaperun.store import StudyFolder
from shaperun.study import Study
from shaperun.summary import Summary, summarize
from shaperun.trials import trial_arms

MOST_ARMS = 8  # in figures and sentences; tables have all


@dataclass(frozen=True)
class Material:
    """What a report shows. The study's arms are those of which anything was trained."""

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

    @property
    def shown(self) -> list[str]:
        """The arms for which figures have room: the baseline and the best ones, in their order."""
        ranked = [arm.arm for arm in self.summary.arms]
        first = sorted(ranked, key=lambda arm: arm != self.study.baseline)[:MOST_ARMS]
        return [arm for arm in self.study.arms if arm in first]

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
    study, runs = _trained(study, folder)
    refuse_changed(folder, runs)
    episodes = results.evaluation_episodes(folder, runs)
    if episodes.is_empty() or not episodes["done"].any():
        raise UserError(f"no run of {study.study} is finished in {folder.path}: shaperun train it")
    material = Material(
        study,
        episodes,
        training_record.update_statistics(folder, runs),
        summarized(study, episodes),
        [status(folder, run) for run in runs],
        {(run.arm, run.seed): folder.run(run.arm, run.seed).read_record() for run in runs},
        None,
        folder.read_study(),
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
    from shaperun.record_gif import Wish, record_gifs  # which imports torch

    try:
        *_, last = record_gifs(material.study, folder, arms=material.shown, wish=Wish(), tell=tell)
    except UserError as error:
        tell(f"no film: {error}")
        return None
    return last.read_bytes()


def _trained(study: Study, folder: StudyFolder) -> tuple[Study, list[Run]]:
    """The study with its arms and those of its sweep of which there is a run, and these runs."""
    arms: dict[str, RewardConfig] = study.arms | trial_arms(study, folder)
    there = {arm: reward for arm, reward in arms.items() if folder.has(arm)}
    study = study.model_copy(update={"arms": there or study.arms})
    return study, planned_runs(study, study.arms)
