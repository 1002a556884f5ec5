"""Table of an environment's terms and of the names in formulas."""

from __future__ import annotations

from rich.console import Group
from rich.table import Table
from rich.text import Text

from shaperun.envs.base import Environment
from shaperun.study.starter import describe_scope, list_names


def build_term_table(environment: Environment) -> Group:
    """Return the terms of an environment, and the names that formulas may use."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("term", "depends on", "formula"):
        table.add_column(column)
    for term in environment.built_in.values():
        table.add_row(term.name, describe_scope(environment, term), Text(term.formula))
    lines = [
        f"in formulas: {', '.join(list_names(environment))}",
        *(
            f"{name}: {controller.description}"
            for name, controller in environment.controllers.items()
        ),
        *(f"note on {mode}: {note}" for mode, note in environment.notes.items()),
    ]
    return Group(Text(environment.id, style="bold"), table, Text("\n".join(lines), style="dim"))
