"""The arm that a fit of preferences comes to, and how it is added to a study file."""

from __future__ import annotations

import re
from collections.abc import Collection
from itertools import chain, count
from pathlib import Path
from typing import Any

from shaperun.common.errors import UserError
from shaperun.common.files import write_atomically
from shaperun.common.validation import NAME
from shaperun.common.yaml import YamlError, dump_yaml, read_yaml
from shaperun.preferences.fit import Fit, NetworkFit
from shaperun.study.error_messages import NAMES

_DIGITS = 4  # of a weight; its interval is far wider
_NETWORK_TERM = "learned"


def fitted_arm(fit: Fit, network: NetworkFit | None = None) -> dict[str, Any]:
    """An arm that is paid by what was fitted alone, as it stands in a study file."""
    weights = {name: float(f"{weight:.{_DIGITS}g}") for name, weight in fit.weights.items()}
    if network is None or network.term is None:
        return {"mode": "replace", "weights": weights}
    names = chain([_NETWORK_TERM], (f"{_NETWORK_TERM}_{number}" for number in count(2)))
    own = next(name for name in names if name not in weights)
    terms = {own: network.term.model_dump(mode="json")}
    return {"mode": "replace", "terms": terms, "weights": {**weights, own: 1.0}}


def check_name(name: str, taken: Collection[str] = ()) -> None:
    """Make sure that an arm may be called so.

    Raises:
        UserError: it may not, or the study has one of this name.
    """
    if not re.fullmatch(NAME, name):
        raise UserError(f"{name} names no arm: it takes {NAMES[NAME]}")
    if name in taken:
        raise UserError(f"the study has an arm {name} already; give this one another --name")


def arm_yaml(name: str, config: dict[str, Any]) -> str:
    """The arm as it is to stand under `arms`."""
    return dump_yaml({name: config})


def add_arm_to_file(path: Path, name: str, config: dict[str, Any]) -> None:
    """Add an arm to a study file, behind the others, and change nothing else in it.

    Raises:
        UserError: there is such an arm already, or the file is written so that no line can be added
            to its arms; the file is then as it was.
    """
    text = path.read_bytes().decode()
    try:
        source = read_yaml(text)
        new = _inserted(text, source.data, source.mark, name, config)
        fits = read_yaml(new).data == {**source.data, "arms": {**source.data["arms"], name: config}}
    except YamlError:
        fits = False
    if not fits:
        raise UserError(f"{path} is not written a line an arm; add the arm by hand")
    write_atomically(path, new.encode())


def _inserted(text: str, data: Any, mark: Any, name: str, config: dict[str, Any]) -> str:
    """The text with the arm behind the last one."""
    check_name(name, data["arms"])
    lines = text.splitlines(keepends=True)
    begins = mark(["arms"], key=True).line
    column = min(mark(["arms", other], key=True).column for other in data["arms"])
    later = [mark([key], key=True).line for key in data]
    end = min([line - 1 for line in later if line > begins], default=len(lines))
    # What stands before the next key, at the margin, is about that key.
    while not lines[end - 1].strip() or lines[end - 1].startswith("#"):
        end -= 1
    newline = "\r\n" if "\r\n" in text else "\n"
    if not lines[end - 1].endswith("\n"):
        lines[end - 1] += newline
    margin = " " * (column - 1)
    added = [f"{margin}{line}{newline}" for line in arm_yaml(name, config).splitlines()]
    return "".join([*lines[:end], *added, *lines[end:]])
