"""Check that runs can be trained into a study folder, and prepare it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from importlib.util import find_spec
from typing import Any

from shaperun.common.diff import iter_differences
from shaperun.common.errors import UserError, exits_as_errors
from shaperun.common.files import Lock, explain_disk_error
from shaperun.rewards.config import RewardConfig
from shaperun.runs.plan import Run
from shaperun.runs.start import check_sources
from shaperun.runs.study_folder import StudyFolder
from shaperun.runs.train_options import TrainOptions
from shaperun.study.environment import EnvironmentConfig
from shaperun.study.models import Study


def prepare(
    study: Study,
    folder: StudyFolder,
    runs: Sequence[Run],
    options: TrainOptions = TrainOptions(),  # noqa: B008 (it is immutable)
    *,
    fresh: bool,
) -> None:
    """Check that runs can be trained into a folder, then write the study into it.

    With `fresh`, existing runs are deleted.

    Raises:
        UserError: as `check_runs` does, or the environment or a reward cannot be used; nothing was
            changed. Or the folder cannot be written.
    """
    check_runs(study, folder, runs, options, fresh=fresh)
    check_sources(study, runs, fresh=fresh)
    _check_environment(study, {run.arm: run.config.reward for run in runs})
    try:
        folder.write_study(study.model_dump(mode="json"))
        if fresh:
            delete_runs(folder, runs)
        else:
            for run in runs:
                folder.run(run.arm, run.seed).remove_leftovers()
    except OSError as error:
        why = explain_disk_error(error, folder.path) or error.strerror
        raise UserError(f"cannot write to {folder.path}: {why}") from None


def check_runs(
    study: Study,
    folder: StudyFolder,
    runs: Sequence[Run],
    options: TrainOptions = TrainOptions(),  # noqa: B008 (it is immutable)
    *,
    fresh: bool,
) -> None:
    """Check options and folder of a training without making its environment.

    With `fresh`, existing runs may have another configuration.

    Raises:
        UserError: a library is missing, or the folder cannot be used.
    """
    if options.tensorboard and find_spec("tensorboardX") is None:
        raise UserError(
            "--tensorboard needs tensorboardX, which is not installed: "
            'pip install "shaperun[tensorboard]"'
        )
    if folder.is_foreign():
        raise UserError(
            f"{folder.path} exists and is not a study of shaperun; choose another --results"
        )
    if fresh:
        _ensure_not_running(folder, runs)
    else:
        ensure_unchanged(folder, runs)


def delete_runs(folder: StudyFolder, runs: Sequence[Run]) -> None:
    """Delete the folders of runs.

    Raises:
        UserError: a run is being trained; nothing was changed.
    """
    _ensure_not_running(folder, runs)
    for run in runs:
        folder.delete_run(run.arm, run.seed)


def _select_started(folder: StudyFolder, runs: Sequence[Run]) -> list[Run]:
    """Return the runs of arms that have any: looking for all of ten thousand takes seconds."""
    started = {arm for arm in dict.fromkeys(run.arm for run in runs) if folder.has_runs(arm)}
    return [run for run in runs if run.arm in started]


def _ensure_not_running(folder: StudyFolder, runs: Sequence[Run]) -> None:
    for run in _select_started(folder, runs):
        run_folder = folder.run(run.arm, run.seed)
        if Lock.is_held(run_folder.lock):
            raise UserError(f"{run_folder.path} is being trained by another command; stop it")


def ensure_unchanged(folder: StudyFolder, runs: Sequence[Run]) -> None:
    """Check that existing runs have the same configuration.

    Raises:
        UserError: a run has another one; the message lists the differences.
    """
    changed = []
    for run in _select_started(folder, runs):
        run_folder = folder.run(run.arm, run.seed)
        if run_folder.config.exists() and run_folder.read_identity() != run.config.identity:
            changed.append(run)
    if changed:
        raise UserError(_describe_changes(folder, changed))


def _check_environment(study: Study, arms: Mapping[str, RewardConfig]) -> None:
    """Take a step with every reward, to report errors before anything is written."""
    if study.environment.backend == "envpool" and find_spec("envpool") is None:
        raise UserError(
            "backend: envpool needs EnvPool, which is not installed: "
            'pip install "shaperun[envpool]"'
        )

    _check_steps(study, arms, study.environment)
    if study.evaluation.options:
        _check_steps(study, arms, study.evaluated_environment)


def _check_steps(study: Study, arms: Mapping[str, RewardConfig], config: EnvironmentConfig) -> None:
    from shaperun.envs.make import explain_playing_error  # gymnasium is slow to import

    environment = config.describe()
    try:
        with exits_as_errors(), closing(config.make()) as env:
            env.action_space.seed(0)
            for arm, reward in arms.items():
                _check_step(env, study, arm, reward)
    except UserError:
        raise
    except Exception as error:  # third-party code may raise anything
        options = ", ".join(f"{k}={v!r}" for k, v in config.options.items())
        with_options = f" with {options}" if options else ""
        why = explain_playing_error(error, config.options)
        raise UserError(f"{environment.id}{with_options} cannot be used: {why}") from error


def _check_step(env: Any, study: Study, arm: str, reward: RewardConfig) -> None:
    from shaperun.envs.episodes import EpisodeBuilder
    from shaperun.rewards.kernel import RewardError

    environment = study.environment.describe()
    kernel = study.training_of(reward).kernel(environment, study.resolve_reward(reward))
    episode = EpisodeBuilder.begin(env, 0, 0)
    episode.step(env.action_space.sample())
    try:
        kernel(episode.transitions())
    except RewardError as error:
        raise UserError(f"invalid reward for arm {arm}: {error}") from error


def _describe_changes(folder: StudyFolder, changed: list[Run]) -> str:
    run = changed[0]
    run_folder = folder.run(run.arm, run.seed)
    old, new = run_folder.read_config(), run.config.model_dump(mode="json")
    changes = [
        f"  {key}: {was} there, {now} here\n" for key, was, now in iter_differences(old, new)
    ] or ["  the same keys, from which an earlier version computed other numbers\n"]
    affected = "this run" if len(changed) == 1 else f"these {len(changed)} runs"
    return (
        f"{run_folder.path} was trained from another configuration:\n{''.join(changes)}Rename the "
        f"study, undo the change, or use --fresh to delete {affected} and train again from scratch."
    )
