"""`sweep`: search the weights of an arm."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from shaperun.cli.app import FINE, SOME_FAILED, TRAIN, app
from shaperun.cli.options import StudyArgument, StudyOptions, TrainingArguments, flatten_options
from shaperun.cli.train import train_runs
from shaperun.common.errors import UserError

if TYPE_CHECKING:
    from shaperun.runs.study_folder import StudyFolder
    from shaperun.search.trials import Trial
    from shaperun.study.models import Study


@app.command(rich_help_panel=TRAIN)
@flatten_options
def sweep(study: StudyArgument, options: StudyOptions, arguments: TrainingArguments) -> None:
    """Search the weights of an arm, rank them by the environment's own reward, confirm the best.

    Resumes where an earlier command stopped; raise samples in the study to add trials. The best
    weights are trained again with fresh seeds before they are called best, unless --arms or
    --seeds select runs.
    """
    from shaperun.search.trials import arms_of

    opened, folder = options.open(study)
    trials = _known_trials(opened, folder, fresh=arguments.fresh)
    runs = arguments.select_runs(opened, arms_of(opened, trials))
    whole = not (arguments.arms or arguments.seeds)
    failed = train_runs(opened, folder, runs, arguments, whole_sweep=whole)
    if not arguments.dry_run:
        _print_ranking(opened, folder, quiet=arguments.quiet)
    raise typer.Exit(SOME_FAILED if failed else FINE)


def _known_trials(study: Study, folder: StudyFolder, *, fresh: bool) -> list[Trial]:
    from shaperun.search.trials import known_trials

    try:
        return known_trials(study, folder)
    except UserError:
        if study.sweep and fresh:  # another sweep's trials, which are to be deleted
            return []
        raise


def _print_ranking(study: Study, folder: StudyFolder, *, quiet: bool) -> None:
    from shaperun.cli import comparison_table
    from shaperun.cli.console import SafeConsole
    from shaperun.report import sweep_files
    from shaperun.search.ranking import rank

    found = rank(study, folder)
    with folder.writing():
        sweep_files.write_sweep(found, folder)
    console = SafeConsole(stderr=False)
    comparison_table.print_ranking(found, console)
    if not quiet:
        console.print(f"\nFigures and ranking: {folder.sweep}", style="dim")
