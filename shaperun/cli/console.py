"""The terminal, which nothing that was read from a file can steer."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from shaperun.common.text import visible


class Terminal(Console):
    """A console for which text is text: no markup in it, and no control characters."""

    def __init__(self, *, stderr: bool, quiet: bool) -> None:
        super().__init__(stderr=stderr, quiet=quiet, highlight=False, markup=False, emoji=False)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """The parts of what is shown; the marks of what it is made of are written out."""
        for segment in super().render(renderable, options):
            # What moves the cursor is the console's own.
            text = segment.text if segment.control else visible(segment.text)
            yield segment._replace(text=text)
