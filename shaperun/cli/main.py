"""Entry point of the command line: every error becomes one message and an exit status."""

from __future__ import annotations

import errno
import os
import sys
import traceback
from typing import NoReturn

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
        if isinstance(end.__context__, BrokenPipeError):  # typer handles that, too
            _end_output(OK)
        _flush_output()
        raise
    except BrokenPipeError:
        _end_output(OK)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            _report_bug(error, debug=debug)
        _fail("cannot write the output: no space is left on its device", USER_ERROR, debug=debug)
    except Exception as error:
        _report_bug(error, debug=debug)


def _flush_output() -> None:
    """Write what is left of the output, which Python would do after the exit status is known."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _end_output(OK)
    except OSError as error:
        print(f"cannot write the output: {error.strerror}", file=sys.stderr)
        _end_output(USER_ERROR)


def _end_output(status: int) -> NoReturn:
    """Exit without the rest of the output; the reader of a pipe has seen enough."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(status)


def _report_bug(error: Exception, *, debug: bool) -> NoReturn:
    hint = "" if debug else "; --debug shows the traceback"
    _fail(f"this is a bug in shaperun: {type(error).__name__}: {error}{hint}", BUG, debug=debug)


def _fail(message: str, status: int, *, debug: bool = False) -> NoReturn:
    if debug:
        message = traceback.format_exc() + message
    print(escape_control_chars(message), file=sys.stderr)
    sys.exit(status)
