"""`train` and `status`."""

from __future__ import annotations

import signal
import sys
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Any

import typer

from shaperun.cli.app import INTERRUPTED, OK, SOME_FAILED, TRAIN, command
from shaperun.cli.options import (
    AsJson,
    OptionalStudy,
    StudyArgument,
    StudyOptions,
    TrainingArguments,
    command_line,
    flatten_options,
)
from shaperun.common.errors import UserError
from shaperun.common.text import escape_control_chars, pluralize

if TYPE_CHECKING:
    from rich.console import Console

    from shaperun.runs.plan import Run
    from shaperun.runs.status import RunStatus
    from shaperun.runs.study_folder import StudyFolder
    from shaperun.study.models import Study


@command(rich_help_panel=TRAIN)
@flatten_options
def train(study: StudyArgument, arguments: TrainingArguments, options: StudyOptions) -> None:
    """Train every arm with every seed, in parallel.

    Interrupting is safe: run the same command again to resume; finished runs are skipped.

    For example:

    - shaperun train study.yaml --dry-run
    - shaperun train study.yaml --arms default,guided --seeds 0,1 --workers 4
    - shaperun train study.yaml --set training.total_timesteps=50_000
    """
    opened, folder = options.open(study)
    runs = arguments.select_runs(opened, opened.arms)
    undone = train_runs(opened, folder, runs, arguments, options.command("check", study))
    if undone < len(runs) and not (arguments.dry_run or arguments.quiet):
        typer.echo(f"See the results: {options.command('compare', study)}", err=True)
    raise typer.Exit(SOME_FAILED if undone else OK)


def train_runs(
    study: Study,
    folder: StudyFolder,
    runs: list[Run],
    arguments: TrainingArguments,
    check_command: str,
    *,
    whole_sweep: bool = False,
) -> int:
    """Train the runs, or the whole sweep, or list them; return how many are undone.

    The `check_command` is named below the main findings about the rewards.
    """
    from shaperun.cli import progress
    from shaperun.cli.console import SafeConsole
    from shaperun.runs import driver
    from shaperun.runs.prepare import check_runs, prepare
    from shaperun.runs.train_options import TrainOptions

    console = SafeConsole(quiet=arguments.quiet)
    executor = driver.make_executor(arguments.executor, arguments.workers)
    options = TrainOptions(tensorboard=arguments.tensorboard)
    _check_starts(study, runs)
    if arguments.dry_run:
        check_runs(study, folder, runs, options, fresh=arguments.fresh)
        _print_dry_run(study, folder, runs, whole_sweep=whole_sweep, fresh=arguments.fresh)
        return 0
    drive: Any = partial(driver.execute_runs, folder, runs)
    if whole_sweep:
        from shaperun.search import driver as search

        search.ensure_not_running(folder)
        drive = partial(search.run_sweep, study, folder, fresh=arguments.fresh)
    if arguments.executor != "ray":
        _check_devices(runs)
    if arguments.fresh:
        confirming = search.confirmation_seeds(study) if whole_sweep else []
        _confirm_deletion(folder, runs, confirming, ask=not arguments.yes, console=console)
    prepare(study, folder, runs, options, fresh=arguments.fresh)
    plan = progress.print_sweep_plan if whole_sweep else partial(progress.print_plan, runs=runs)
    plan(study, console=console)
    _print_code_notes(folder, runs, console)
    # Treat SIGTERM like Ctrl-C: stop the workers and print how to resume.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    workers = driver.count_parallel_jobs(arguments.executor, arguments.workers)
    with closing(drive(executor, workers=workers, options=options)) as states:
        try:
            if not (arguments.quiet or _are_done(folder, runs)):
                _print_headlines(study, runs, check_command, console)
            scope = " for the trials so far" if whole_sweep else ""
            end = progress.follow_progress(states, console, workers, scope)
        except KeyboardInterrupt:
            states.close()
            trained = search.load_sweep_runs(study, folder) if whole_sweep else runs
            resume = command_line(without="--fresh")  # which would delete what is trained
            progress.print_interrupted(folder, trained, resume)
            raise typer.Exit(INTERRUPTED) from None
    return progress.print_outcome(folder, end, console)


def _check_starts(study: Study, runs: list[Run]) -> None:
    if any(run.config.start for run in runs):
        from shaperun.training.start import check_starts  # imports torch

        check_starts(study, runs)


def _print_dry_run(
    study: Study, folder: StudyFolder, runs: list[Run], *, whole_sweep: bool, fresh: bool
) -> None:
    from shaperun.cli import progress
    from shaperun.cli.console import SafeConsole
    from shaperun.runs.start import check_sources

    console = SafeConsole(stderr=False)
    if whole_sweep:
        progress.print_sweep_plan(study, console)
    progress.print_dry_run(study, folder, runs, console)
    try:
        check_sources(study, runs, fresh=fresh)
    except UserError as error:
        console.print(f"These runs cannot be trained yet: {error}", style="yellow")
    _print_code_notes(folder, runs, console)


def _confirm_deletion(
    folder: StudyFolder, runs: list[Run], more_seeds: list[int], *, ask: bool, console: Console
) -> None:
    """Print how many existing runs of these, and of their arms with more seeds, are deleted.

    With `ask`, ask on a terminal.

    Raises:
        UserError: the answer is no.
    """
    from shaperun.cli.progress import format_duration

    keys = [(run.arm, run.seed) for run in runs]
    keys += [(arm, seed) for arm in dict.fromkeys(run.arm for run in runs) for seed in more_seeds]
    folders = [folder.run(*key) for key in keys]
    progress = [run.read_progress() for run in folders if run.path.exists()]
    if not progress:
        return
    steps = sum(run.get("timesteps", 0) for run in progress)
    seconds = sum(run.get("core_seconds", run.get("seconds", 0.0)) for run in progress)
    text = (
        f"--fresh deletes {pluralize(len(progress), 'run')} in {folder.path}: {steps:,} steps, "
        f"{format_duration(seconds)} of training"
    )
    if not (ask and is_interactive()):
        console.print(text, soft_wrap=True)
    elif not typer.confirm(f"{escape_control_chars(text)}. Continue?", err=True):
        raise UserError("nothing was deleted, and nothing trained")


def is_interactive() -> bool:
    """Return whether a question can be asked and answered."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def _check_devices(runs: list[Run]) -> None:
    accelerated = [t for run in runs if (t := run.config.training).device != "cpu"]
    if accelerated:
        from shaperun.training.sb3_model import check_device  # importing torch takes a second

        check_device(accelerated[0])


def _are_done(folder: StudyFolder, runs: list[Run]) -> bool:
    return all(folder.run(run.arm, run.seed).is_done() for run in runs)


def _print_code_notes(folder: StudyFolder, runs: list[Run], console: Console) -> None:
    """Print of which files the finished runs were trained with other versions."""
    from shaperun.runs.code_files import code_notes

    done = [run for run in runs if folder.run(run.arm, run.seed).is_done()]
    for note in code_notes(folder, done):
        console.print(note, style="yellow", soft_wrap=True)


def _print_headlines(study: Study, runs: list[Run], check_command: str, console: Console) -> None:
    """Print the main findings of `check` on these rewards; training continues in any case."""
    from shaperun.check.check import check_study
    from shaperun.cli import check_table

    arms = {run.arm: run.config.reward for run in runs}
    try:
        with console.status("Checking what these rewards pay for…"):
            result = check_study(study, arms)
    except UserError as error:
        console.print(f"cannot check these rewards: {error}", style="yellow")
        return
    check_table.print_headlines(result.findings, check_command, console)


@command(rich_help_panel=TRAIN)
@flatten_options
def status(study: OptionalStudy = None, *, options: StudyOptions, as_json: AsJson = False) -> None:
    """Show which runs are done, running, interrupted, failed or waiting."""
    from shaperun.cli import progress
    from shaperun.cli.console import SafeConsole, print_json
    from shaperun.runs.plan import plan_runs
    from shaperun.runs.status import read_run_status

    opened, folder = options.open(study)
    planned = plan_runs(opened, opened.arms)
    runs = [read_run_status(folder, run, by_size=True) for run in planned]
    swept = _read_sweep_statuses(opened, folder) if opened.sweep else []
    if as_json:
        print_json(progress.status_document(opened, [*runs, *swept]))
        return
    console = SafeConsole(stderr=False)
    progress.print_runs([*runs, *swept], console)
    if opened.sweep:
        command = options.command("sweep", study or opened.study)
        remaining = _format_remaining(opened, folder, swept, command)
        console.print(remaining, style="dim", soft_wrap=True)


def _format_remaining(
    study: Study, folder: StudyFolder, states: list[RunStatus], command: str
) -> str:
    """Return the remaining work of a sweep as a sentence."""
    if all(run.state == "waiting" for run in states):
        return f"Sweep not started; to start it: {command}"
    from shaperun.search.progress import describe_remaining_work  # reads evaluations, with polars

    parts = describe_remaining_work(study, folder, states)
    if not parts:
        return "Sweep complete."
    return f"Remaining in the sweep: {', '.join(parts)}. To resume: {command}"


def _read_sweep_statuses(study: Study, folder: StudyFolder) -> list[RunStatus]:
    from shaperun.runs.status import read_run_status
    from shaperun.search.trials import load_trials, plan_trial_runs

    trials = load_trials(study, folder)
    if not any(folder.has_runs(trial.arm) for trial in trials):
        return [read_run_status(folder, run) for run in plan_trial_runs(study, trials, study.seeds)]
    from shaperun.search.driver import read_run_statuses  # reads evaluations, with polars

    return read_run_statuses(study, folder)
