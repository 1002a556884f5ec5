"""Entry point of the command line: every error becomes one message and an exit status."""

from __future__ import annotations

import os
import sys
import traceback

# Importing a module registers its commands; --help lists them in this order.
from shaperun.cli import inspect, check, preferences, train, sweep, report  # isort: skip # noqa: F401
from shaperun.cli.app import BUG, INTERRUPTED, OK, USER_ERROR, app
from shaperun.cli.options import command_line
from shaperun.common.errors import UserError
from shaperun.common.text import escape_control_chars


def main() -> None:
    """Run the command line."""
    debug = "--debug" in sys.argv
    sys.argv[:] = [argument for argument in sys.argv if argument != "--debug"]
    try:
        app()
    except UserError as error:
        _fail(str(error), USER_ERROR, debug=debug)
    except SystemExit as end:
        # typer handles Ctrl-C itself, without a message; training has printed one by then.
        if isinstance(getattr(end.__context__, "__cause__", None), KeyboardInterrupt):
            _fail(f"interrupted; to start again: {command_line()}", INTERRUPTED)
        raise
    except BrokenPipeError:  # the reader of our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(OK)
    except Exception as error:
        name = type(error).__name__
        hint = "" if debug else "; --debug shows the traceback"
        _fail(f"this is a bug in shaperun: {name}: {error}{hint}", BUG, debug=debug)


def _fail(message: str, status: int, *, debug: bool = False) -> None:
    if debug:
        message = traceback.format_exc() + message
    print(escape_control_chars(message), file=sys.stderr)
    sys.exit(status)
