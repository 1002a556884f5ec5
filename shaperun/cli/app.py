"""The typer application that commands register with, and the exit statuses."""

from __future__ import annotations

from functools import partial
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

OK, SOME_FAILED, USER_ERROR, BUG, INTERRUPTED = 0, 1, 2, 3, 130

# Panels of `shaperun --help`.
PREPARE, TRAIN, RESULTS = "Prepare a study", "Train", "Look at the results"


def _hide_flag_types(parameters: list[Any]) -> list[Any]:
    for parameter in parameters:
        if getattr(parameter, "is_flag", False):
            parameter.metavar = ""
    return parameters


class _Command(TyperCommand):
    """Command whose help shows no type beside flags."""

    def get_params(self, ctx: Any) -> Any:
        """Return the parameters, flags without a type."""
        return _hide_flag_types(super().get_params(ctx))


class _Group(TyperGroup):
    """The commands together; its help shows no type beside flags."""

    def get_params(self, ctx: Any) -> Any:
        """Return the parameters, flags without a type."""
        return _hide_flag_types(super().get_params(ctx))


app = typer.Typer(
    cls=_Group,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Did this reward help, by how much, and what did the agent learn to exploit?\n\n"
    "shaperun trains policies on the rewards of a study file and evaluates all of them on the "
    "environment's own reward. To begin:\n\n"
    "shaperun init\nshaperun train study.yaml\nshaperun compare",
    epilog="Every command accepts --debug, which shows the traceback of an error.",
)


command = partial(app.command, cls=_Command)
"""Decorator that registers a command."""


def _print_version(value: bool) -> None:
    if value:
        from shaperun import __version__

        typer.echo(f"shaperun {__version__}")
        raise typer.Exit(OK)


@app.callback()
def _callback(
    version: bool = typer.Option(
        False,
        "--version",
        callback=_print_version,
        is_eager=True,
        help="Print the version and exit.",
    ),
) -> None:
    pass
