"""Table of an environment's terms and of the names in formulas."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Group
from rich.table import Table
from rich.text import Text

from shaperun.envs.base import OWN_REWARD, Environment
from shaperun.envs.layout import iter_arrays


def build_term_table(environment: Environment) -> Group:
    """Return the terms of an environment, and the names that formulas may use."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("term", "depends on", "formula"):
        table.add_column(column)
    for term in environment.built_in.values():
        if term.name == OWN_REWARD:
            scope = "reward"
        elif term.state_only:
            scope = "state"
        else:
            scope = "outcome" if term.name in environment.outcomes else "action"
        table.add_row(term.name, scope, Text(term.formula))
    lines = [
        f"in formulas: {', '.join(_list_names(environment))}",
        *(
            f"{name}: {controller.description}"
            for name, controller in environment.controllers.items()
        ),
        *(f"note on {mode}: {note}" for mode, note in environment.notes.items()),
    ]
    return Group(Text(environment.id, style="bold"), table, Text("\n".join(lines), style="dim"))


def _list_names(environment: Environment) -> Iterator[str]:
    """Yield the names of observations and actions, with their indices."""
    yield from environment.observations
    for name, shape in iter_arrays("obs", environment.observation_layout):
        yield _format_indices(name, shape) if shape else name
    size = environment.action_size
    yield "action (an integer)" if size is None else _format_indices("action", (size,))
    yield "last_… for the value of the previous step, env_reward, terminated, truncated"
    yield 'info["…"] for what a step reports'


def _format_indices(name: str, shape: Sequence[int]) -> str:
    first, last = (", ".join(map(str, i)) for i in ([0] * len(shape), [n - 1 for n in shape]))
    return f"{name}[{first}]" if first == last else f"{name}[{first}] … {name}[{last}]"
