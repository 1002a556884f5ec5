"""Output to the terminal: text that was read from a file cannot control it."""

from __future__ import annotations

from collections.abc import Iterable

import typer
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from shaperun.common.files import dump_json, with_nulls
from shaperun.common.text import escape_control_chars


class SafeConsole(Console):
    """Console that prints text as it is: without markup, with control characters escaped."""

    def __init__(self, *, stderr: bool = True, quiet: bool = False) -> None:
        super().__init__(stderr=stderr, quiet=quiet, highlight=False, markup=False, emoji=False)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """Render with control characters escaped."""
        for segment in super().render(renderable, options):
            # Control segments move the cursor and come from rich itself.
            text = segment.text if segment.control else escape_control_chars(segment.text)
            yield segment._replace(text=text)


def print_json(document: object) -> None:
    """Print one JSON document on stdout."""
    typer.echo(escape_control_chars(dump_json(with_nulls(document))))
