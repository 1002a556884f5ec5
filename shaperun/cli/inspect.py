"""`init`, `terms` and `schema`: the language of study files."""

from __future__ import annotations

import difflib
import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from shaperun.cli.app import PREPARE, command
from shaperun.cli.options import AllowCode
from shaperun.common.errors import UserError
from shaperun.common.text import format_command

if TYPE_CHECKING:
    from shaperun.envs.base import Environment


@command(rich_help_panel=PREPARE)
def init(
    file: Annotated[
        str, typer.Argument(metavar="PATH", help="Path of the new study file.")
    ] = "study.yaml",
    env: Annotated[
        str | None,
        typer.Option(
            "--env",
            metavar="ENV",
            help="Any gymnasium environment, such as Acrobot-v1, or PACKAGE:NAME with "
            "--allow-code (default: a tour of study files on CartPole-v1).",
            show_default=False,
        ),
    ] = None,
    allow_code: AllowCode = False,
) -> None:
    """Write a commented starter study that runs as it is.

    With --env, it is a study of that environment: a baseline and a shaped arm to begin with, and
    in comments all terms with their formulas and the names that formulas may use.

    Example: shaperun init rover.yaml --env rover:Rover-v0 --allow-code
    """
    from shaperun.common.files import write_atomically

    path = Path(file)
    if not file.strip() or file.endswith(os.sep) or path.is_dir():
        raise UserError(f"{shlex.quote(file)} names no file; choose one, such as study.yaml")
    if path.exists():
        raise UserError(f"{path} already exists; choose another file name")
    options = ["--allow-code"] if env and ":" in env else []
    verbs = ("check", "train", "compare", "record-gif")
    commands = {verb: format_command(verb, path, *options) for verb in verbs}
    starter = _starter(file) if env is None else _starter_of(env, commands, allow_code=allow_code)
    try:
        write_atomically(path, starter.encode())
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from None
    typer.echo(f"Wrote {path}. To train it: {commands['train']}")
    if env is not None:
        typer.echo(f"To see what its rewards pay for: {commands['check']}")


def _starter(file: str) -> str:
    from importlib.resources import files

    starter = files("shaperun.study").joinpath("starter.yaml").read_text(encoding="utf-8")
    return starter.replace(" study.yaml ", f" {shlex.quote(file)} ")


def _starter_of(env_id: str, commands: Mapping[str, str], *, allow_code: bool) -> str:
    from shaperun.study.learners import LEARNERS
    from shaperun.study.starter import write_starter

    environment = _find_environment(env_id, allow_code=allow_code)
    space = environment.learner_view.actions
    others = [n for n, learner in LEARNERS.items() if space in learner.actions and n != "PPO"]
    return write_starter(environment, [*commands.values()], others)


@command(rich_help_panel=PREPARE)
def terms(
    environment: Annotated[
        str | None,
        typer.Argument(
            metavar="ENV",
            help="Any gymnasium environment, such as LunarLander-v3 (default: all environments "
            "with built-in terms).",
            show_default=False,
        ),
    ] = None,
    allow_code: AllowCode = False,
) -> None:
    """List the terms of an environment, and the names that formulas may use.

    An environment of an installed package is named PACKAGE:NAME.

    Example: shaperun terms highway_env:highway-v0 --allow-code
    """
    from shaperun.cli.console import SafeConsole
    from shaperun.cli.term_table import build_term_table
    from shaperun.envs.builtin import environments
    from shaperun.rewards.syntax import FUNCTIONS

    console = SafeConsole(stderr=False)
    chosen = list(environments().values())
    if environment is not None:
        chosen = [_find_environment(environment, allow_code=allow_code)]
    for known in chosen:
        console.print(build_term_table(known), "")
    functions = ", ".join(sorted(FUNCTIONS))
    console.print(f"functions in formulas: {functions}", style="dim")


def _find_environment(env_id: str, *, allow_code: bool) -> Environment:
    from shaperun.envs.builtin import environments
    from shaperun.envs.generic import PACKAGE_HINT, UnknownEnvironmentError, get_environment
    from shaperun.envs.spaces import UnsupportedEnvironmentError
    from shaperun.runs.open_study import find_local_code

    try:
        if ":" in env_id and not allow_code:
            raise UserError(f"{env_id} names Python code; pass --allow-code if you trust it")
        find_local_code()
        return get_environment(env_id)
    except UnknownEnvironmentError as error:
        close = difflib.get_close_matches(env_id, error.known, n=1)
        ours = ", ".join(environments())
        hint = (
            f"did you mean {close[0]}?" if close else f"choose from {ours}, or any of gymnasium's"
        )
        raise UserError(f"unknown environment {env_id}; {hint} ({PACKAGE_HINT})") from None
    except UnsupportedEnvironmentError as error:
        raise UserError(f"unsupported environment {env_id}: {error}") from None


@command(rich_help_panel=PREPARE)
def schema() -> None:
    """Print the JSON Schema of study files, for editors."""
    from shaperun.cli.console import print_json
    from shaperun.study.schema import json_schema

    print_json(json_schema())
