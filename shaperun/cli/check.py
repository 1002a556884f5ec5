"""`check` and `preview`: the incentives of rewards, before training."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Annotated

import typer

from shaperun.cli.app import OK, PREPARE, SOME_FAILED, command
from shaperun.cli.options import (
    Arms,
    AsJson,
    Quiet,
    StudyArgument,
    StudyOptions,
    flatten_options,
    parse_number,
    split_names,
)
from shaperun.common.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

    from shaperun.check.check import Check
    from shaperun.runs.study_folder import StudyFolder
    from shaperun.study.models import Arm, Study


@command(rich_help_panel=PREPARE)
@flatten_options
def check(
    study: StudyArgument,
    options: StudyOptions,
    arms: Arms = None,
    difference: Annotated[
        float | None,
        typer.Option(
            parser=parse_number,
            metavar="RETURN",
            help="Smallest relevant difference in environment return.",
        ),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with status 1 if there are findings.")
    ] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Show what the reward of each arm pays for, before training.

    Plays episodes of hand-written controllers, of no action and of random actions, and applies
    every reward to them. Takes seconds.

    Example: shaperun check study.yaml --strict
    """
    from shaperun.cli.console import SafeConsole, print_json
    from shaperun.runs.study_folder import writing
    from shaperun.study.loader import StudyError

    names = split_names(arms, "--arms")
    try:
        opened, folder = options.open(study)
    except StudyError as error:
        if as_json:
            print_json({"study": study, "errors": error.problems, "warnings": [], "rankings": {}})
        raise
    with nullcontext() if as_json else writing(folder.check):  # JSON has no figures
        with SafeConsole(quiet=quiet or as_json).status("Playing controllers…"):
            result = check_arms(opened, folder, names, difference)
        if as_json:
            print_json(result.document())
        else:
            _print_check(result, folder, quiet=quiet)
    raise typer.Exit(SOME_FAILED if strict and result.findings else OK)


def _print_check(result: Check, folder: StudyFolder, *, quiet: bool) -> None:
    from shaperun.cli import check_table
    from shaperun.cli.console import SafeConsole
    from shaperun.report.plots import check as plots

    console = SafeConsole(stderr=False)
    check_table.print_check(result, console)
    _print_checked_weights(result, console)
    plots.write_figures(result, folder.check)
    if not quiet:
        console.print(f"\nFigures: {folder.check}", style="dim")


def _print_checked_weights(result: Check, console: Console) -> None:
    """Print which weights of a sweep were checked."""
    from shaperun.search.arms import MAX_CORNER_WEIGHTS, make_corner_arms

    corners = make_corner_arms(result.study).keys() & result.returns.keys()
    if not corners or not result.study.sweep:
        return
    weights = result.study.sweep.weights
    what = (
        f"the {len(corners)} corners of their ranges"
        if len(weights) <= MAX_CORNER_WEIGHTS
        else f"{len(corners)} points, each with one weight at an end of its range and the others "
        "in the middle"
    )
    trials = result.returns.keys() - result.study.arms.keys() - corners
    best = f" and the best trials so far ({', '.join(sorted(trials))})" if trials else ""
    console.print(
        f"\nSwept weights ({', '.join(weights)}): checked {what}{best}; weights in between may "
        "behave differently.",
        style="dim",
    )


def check_arms(
    study: Study, folder: StudyFolder, only: list[str], difference: float | None = None
) -> Check:
    """Check the arms of a study and those that represent its sweep, or only some of them."""
    from shaperun.analysis import results
    from shaperun.check.check import check_study
    from shaperun.runs.plan import plan_runs
    from shaperun.search.arms import make_sweep_arms

    swept = make_sweep_arms(study) | _load_search_arms(study, folder) if study.sweep else {}
    arms: dict[str, Arm] = study.arms | swept
    runs = plan_runs(study, arms, only)
    arms = {name: arm for name, arm in arms.items() if not only or name in only}
    spread = results.spread_between_runs(folder, runs, study.evaluated_environment.describe())
    return check_study(study, arms, difference=difference, spread=spread)


def _load_search_arms(study: Study, folder: StudyFolder) -> dict[str, Arm]:
    """Return arms that represent a search: the corners of its ranges and its best trials."""
    from shaperun.analysis.results import LoadedRuns
    from shaperun.search.arms import make_corner_arms
    from shaperun.search.progress import load_best_arms

    corners = make_corner_arms(study)
    try:
        return corners | (load_best_arms(study, LoadedRuns(folder)) if corners else {})
    except UserError:  # the trials belong to another search
        return corners


@command(rich_help_panel=PREPARE)
@flatten_options
def preview(study: StudyArgument, options: StudyOptions) -> None:
    """Write an offline page with a slider per weight that shows the resulting ranking."""
    from shaperun.check.preview import render_page
    from shaperun.cli.console import SafeConsole
    from shaperun.common.files import write_atomically
    from shaperun.runs.study_folder import writing

    opened, folder = options.open(study)
    with writing(folder.preview):
        with SafeConsole().status("Playing and filming controllers…"):
            text = render_page(opened)
        write_atomically(folder.preview, text.encode())
    typer.echo(folder.preview)
