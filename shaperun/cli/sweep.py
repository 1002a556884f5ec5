"""`sweep`: search the weights of an arm."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from shaperun.cli.app import OK, SOME_FAILED, TRAIN, command
from shaperun.cli.options import (
    StudyArgument,
    StudyOptions,
    TrainingArguments,
    describe_best_study,
    flatten_options,
)
from shaperun.cli.train import train_runs
from shaperun.common.errors import UserError

if TYPE_CHECKING:
    from shaperun.runs.study_folder import StudyFolder
    from shaperun.search.trials import Trial
    from shaperun.study.models import Study


@command(rich_help_panel=TRAIN)
@flatten_options
def sweep(study: StudyArgument, arguments: TrainingArguments, options: StudyOptions) -> None:
    """Search the weights of an arm, rank them by the environment's own reward, confirm the best.

    Resumes where an earlier command stopped; raise sweep.samples in the study to add trials. The
    best trial is trained again with fresh seeds to confirm it, unless --arms or --seeds select
    runs.

    Example: shaperun sweep study.yaml --set sweep.samples=40
    """
    from shaperun.search.trials import make_trial_arms

    opened, folder = options.open(study)
    trials = _load_trials(opened, folder, fresh=arguments.fresh)
    runs = arguments.select_runs(opened, make_trial_arms(opened, trials))
    whole = not (arguments.arms or arguments.seeds)
    details = options.command("check", study)
    undone = train_runs(opened, folder, runs, arguments, details, whole_sweep=whole)
    if not arguments.dry_run:
        _print_ranking(opened, folder)
        if not arguments.quiet:
            _print_next_steps(study, folder, options)
    raise typer.Exit(SOME_FAILED if undone else OK)


def _load_trials(study: Study, folder: StudyFolder, *, fresh: bool) -> list[Trial]:
    from shaperun.search.trials import load_trials

    try:
        return load_trials(study, folder)
    except UserError:
        if study.sweep and fresh:  # trials of another sweep, about to be deleted
            return []
        raise


def _print_next_steps(study: str, folder: StudyFolder, options: StudyOptions) -> None:
    from shaperun.cli.console import SafeConsole

    steps = [
        f"\nFigures and ranking: {folder.sweep}",
        f"To read the report: {options.command('report', study)}",
        *describe_best_study(folder, options),
    ]
    SafeConsole(stderr=False).print("\n".join(steps), style="dim", soft_wrap=True)


def _print_ranking(study: Study, folder: StudyFolder) -> None:
    from shaperun.analysis.results import LoadedRuns
    from shaperun.cli import comparison_table
    from shaperun.cli.console import SafeConsole
    from shaperun.report import files
    from shaperun.runs.study_folder import writing
    from shaperun.search.ranking import rank_trials

    results = rank_trials(study, LoadedRuns(folder))
    if results.ranking.is_empty():
        raise UserError(f"no trial of the sweep of {study.study} is finished with all seeds")
    with writing(folder.sweep):
        files.write_sweep(results, folder)
    comparison_table.print_ranking(results, SafeConsole(stderr=False))
