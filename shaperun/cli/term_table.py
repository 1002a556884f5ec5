"""Table of an environment's terms and of the names in formulas."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Group
from rich.table import Table
from rich.text import Text

from shaperun.envs.base import OWN_REWARD, Environment


def term_table(environment: Environment) -> Group:
    """All that a study can weigh on an environment, and the names that formulas may use."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("term", "of", "formula"):
        table.add_column(column)
    for term in environment.built_in.values():
        ending = term.name in environment.outcomes
        of = "state" if term.state_only else "ending" if ending else "action"
        table.add_row(term.name, "reward" if term.name == OWN_REWARD else of, Text(term.formula))
    lines = [
        f"in formulas: {', '.join(_names(environment))}",
        *(f"{name}: {known.description}" for name, known in environment.controllers.items()),
        *(f"note on {mode}: {note}" for mode, note in environment.notes.items()),
    ]
    return Group(Text(environment.id, style="bold"), table, Text("\n".join(lines), style="dim"))


def _names(environment: Environment) -> Iterator[str]:
    """The names of observations, whole observations and actions, with their sizes."""
    yield from environment.observations
    yield _of("obs", environment.observation_size)
    size = environment.action_size
    yield "action (a whole number)" if size is None else _of("action", size)
    yield "each with last_ in front as it was a step earlier, env_reward, terminated, truncated"


def _of(name: str, size: int) -> str:
    return f"{name}[0]" if size == 1 else f"{name}[0] … {name}[{size - 1}]"
