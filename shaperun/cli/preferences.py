"""`ask` and `fit`: a reward from preferences between episodes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from shaperun.cli.app import PREPARE, command
from shaperun.cli.check import check_arms
from shaperun.cli.options import (
    AllowCode,
    AsJson,
    Quiet,
    Results,
    StudyArgument,
    StudyOptions,
    command_line,
    flatten_options,
)
from shaperun.common.errors import UserError

if TYPE_CHECKING:
    from shaperun.preferences.answers import AnswerSheet
    from shaperun.preferences.fit import Fit, NetworkFit


@command(rich_help_panel=PREPARE)
@flatten_options
def ask(study: StudyArgument, options: StudyOptions, quiet: Quiet = False) -> None:
    """Write a page that asks which of two episodes is better, and fits weights to the answers.

    The episodes are those of hand-written controllers, of random actions, and of the policies that
    the study has trained so far. The page works offline and saves the answers to a small file for
    shaperun fit.
    """
    from shaperun.cli.console import SafeConsole
    from shaperun.common.files import write_atomically
    from shaperun.preferences.page import render_page
    from shaperun.runs.study_folder import writing

    opened, folder = options.open(study)
    console = SafeConsole(quiet=quiet)
    with writing(folder.ask):
        with console.status("Playing and filming episodes…") as status:

            def on_progress(played: int, of: int) -> None:
                status.update(f"Playing and filming episode {played} of {of}…")

            text = render_page(opened, folder, console.print, on_progress)
        write_atomically(folder.ask, text.encode())
    typer.echo(folder.ask)


Network = Annotated[
    bool,
    typer.Option(
        "--network",
        help="Also fit a small network of the state to what the terms leave unexplained.",
    ),
]

Force = Annotated[
    bool,
    typer.Option(
        "--force", help="Add the arm even if its accuracy is not shown to be above chance."
    ),
]


@command(rich_help_panel=PREPARE)
def fit(
    answers: Annotated[
        Path, typer.Argument(metavar="ANSWERS", help="File saved by the page of ask.")
    ],
    into: Annotated[
        Path | None,
        typer.Option(metavar="STUDY", help="Add the arm to this study file, and check it there."),
    ] = None,
    name: Annotated[str, typer.Option(metavar="ARM", help="Name of the new arm.")] = "fitted",
    network: Network = False,
    force: Force = False,
    results: Results = Path("results"),
    allow_code: AllowCode = False,
    as_json: AsJson = False,
) -> None:
    """Fit the weights of a reward to the answers saved from the page of ask.

    Prints the weights with intervals, the held-out accuracy, and the arm as YAML. --into adds the
    arm to a study, of which it keeps a copy.

    Example: shaperun fit study-answers.json --into study.yaml --name fitted
    """
    from shaperun.cli import check_table, fit_table
    from shaperun.cli.console import SafeConsole, print_json
    from shaperun.preferences import answers as sheets
    from shaperun.preferences import arm as arms
    from shaperun.preferences import fit as fits

    if into and not into.is_file():
        raise UserError(f"{into}: no such file; --into needs an existing study file")
    arms.ensure_valid_name(name)
    sheet = sheets.read_answers(answers)
    options = StudyOptions(results=results, allow_code=allow_code)
    if into:
        study, _ = options.open(str(into))
        arms.ensure_valid_name(name, study.arms)
        sheets.ensure_same_study(sheet, study)
    linear = fits.fit_answers(sheet)
    learned = _fit_network(sheet, linear, quiet=as_json) if network else None
    arm = arms.build_arm(linear, learned)
    if into:
        if not force:
            arms.ensure_above_chance(linear, learned)
        backup = arms.add_arm_to_file(into, name, arm)
    if as_json:
        print_json(fits.fit_document(linear, sheet, learned) | {"arm": {name: arm}})
        return
    console = SafeConsole(stderr=False)
    fit_table.print_fit(linear, learned, sheet, name, arm, console)
    if not into:
        command = f"{command_line()} --into STUDY"
        console.print(f"\nTo add it to a study: {command}", style="dim", soft_wrap=True)
        return
    console.print(f"\nAdded to {into} (before: {backup}). Its returns:\n", style="dim")
    check_table.print_check(check_arms(*options.open(str(into)), [name]), console)


def _fit_network(sheet: AnswerSheet, linear: Fit, *, quiet: bool) -> NetworkFit:
    from shaperun.cli.console import SafeConsole
    from shaperun.preferences import network

    with SafeConsole(quiet=quiet).status("Fitting networks…") as status:

        def on_progress(done: int, of: int) -> None:
            status.update(f"Fitting networks to parts of the answers: {done} of {of}…")

        return network.fit_network(sheet, linear, on_progress)
