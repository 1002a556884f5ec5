"""`check` and `preview`: what rewards pay for, before training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from shaperun.cli.app import FINE, PREPARE, SOME_FAILED, app
from shaperun.cli.options import (
    Arms,
    AsJson,
    Quiet,
    StudyArgument,
    StudyOptions,
    flatten_options,
    split_names,
)
from shaperun.common.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

    from shaperun.check.check import Check
    from shaperun.runs.study_folder import StudyFolder
    from shaperun.study.models import Arm, Study


@app.command(rich_help_panel=PREPARE)
@flatten_options
def check(
    study: StudyArgument,
    options: StudyOptions,
    arms: Arms = "",
    difference: Annotated[
        float | None,
        typer.Option(min=0, help="Smallest difference in environment return that matters."),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with status 1 if there are findings.")
    ] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Show what the reward of each arm pays for, before training.

    Plays hand-written controllers, doing nothing and random actions once, and applies every reward
    to what they did. Takes seconds.
    """
    from shaperun.cli.console import SafeConsole, print_json
    from shaperun.study.loader import StudyError

    try:
        opened, folder = options.open(study)
    except StudyError as error:
        if as_json:
            print_json({"study": study, "errors": error.problems, "warnings": [], "rankings": {}})
        raise
    with SafeConsole(quiet=quiet or as_json).status("Playing controllers…"):
        found = check_arms(opened, folder, split_names(arms), difference)
    if as_json:
        print_json(found.document())
    else:
        _print_check(found, folder, quiet=quiet)
    raise typer.Exit(SOME_FAILED if strict and found.findings else FINE)


def _print_check(found: Check, folder: StudyFolder, *, quiet: bool) -> None:
    from shaperun.cli import check_table
    from shaperun.cli.console import SafeConsole
    from shaperun.report.plots import check as plots

    console = SafeConsole(stderr=False)
    check_table.print_check(found, console)
    _print_searched(found, console)
    with folder.writing():
        plots.write_figures(found, folder.check)
    if not quiet:
        console.print(f"\nFigures: {folder.check}", style="dim")


def _print_searched(found: Check, console: Console) -> None:
    """Print which weights of a sweep were checked."""
    from shaperun.search.arms import MAX_CORNER_WEIGHTS, corner_arms

    corners = corner_arms(found.study).keys() & found.paid.keys()
    if not corners or not found.study.sweep:
        return
    weights = found.study.sweep.weights
    what = (
        f"the {len(corners)} corners of their ranges"
        if len(weights) <= MAX_CORNER_WEIGHTS
        else f"{len(corners)} points, each with one weight at an end of its range and the others "
        "in the middle"
    )
    trials = found.paid.keys() - found.study.arms.keys() - corners
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
    from shaperun.runs.plan import planned_runs
    from shaperun.search.arms import sweep_arms

    swept = sweep_arms(study) | _search_arms(study, folder) if study.sweep else {}
    arms: dict[str, Arm] = study.arms | swept
    runs = planned_runs(study, arms, only)
    arms = {name: arm for name, arm in arms.items() if not only or name in only}
    spread = results.spread_between_runs(folder, runs, study.environment.describe())
    return check_study(study, arms, difference=difference, spread=spread)


def _search_arms(study: Study, folder: StudyFolder) -> dict[str, Arm]:
    """Return arms that represent a search: the corners of its ranges and its best trials."""
    from shaperun.search.arms import corner_arms
    from shaperun.search.progress import best_arms

    corners = corner_arms(study)
    try:
        return corners | (best_arms(study, folder) if corners else {})
    except UserError:  # the trials belong to another search
        return corners


@app.command(rich_help_panel=PREPARE)
@flatten_options
def preview(study: StudyArgument, options: StudyOptions) -> None:
    """Write a page on which weights can be moved and the ranking seen. Works offline."""
    from shaperun.check.preview import page
    from shaperun.cli.console import SafeConsole
    from shaperun.common.files import write_atomically

    opened, folder = options.open(study)
    with SafeConsole().status("Playing and filming controllers…"):
        text = page(opened)
    with folder.writing():
        write_atomically(folder.preview, text.encode())
    typer.echo(folder.preview)
