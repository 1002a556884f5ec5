"""The arm of a fit, and its insertion into a study file."""

from __future__ import annotations

import re
import shutil
from collections.abc import Collection
from itertools import chain, count
from pathlib import Path
from typing import Any

from shaperun.common.errors import UserError
from shaperun.common.files import atomic_replace
from shaperun.common.validation import NAME
from shaperun.common.yaml import YamlError, dump_yaml, find_encoding, read_yaml
from shaperun.preferences.fit import Fit, NetworkFit
from shaperun.study.error_messages import NAME_RULES

_DIGITS = 4  # significant digits of weights; their intervals are far wider
_NETWORK_TERM = "learned"
CHANCE_LEVEL = 0.05  # largest probability that guesses predict as many held-out answers


def build_arm(fit: Fit, network: NetworkFit | None = None) -> dict[str, Any]:
    """Return the configuration of an arm whose reward is the fit alone, as in a study file."""
    weights = {name: float(f"{weight:.{_DIGITS}g}") for name, weight in fit.weights.items()}
    if network is None or network.term is None:
        return {"mode": "replace", "weights": weights}
    names = chain([_NETWORK_TERM], (f"{_NETWORK_TERM}_{number}" for number in count(2)))
    learned = next(name for name in names if name not in weights)
    terms = {learned: network.term.model_dump(mode="json")}
    return {"mode": "replace", "terms": terms, "weights": {**weights, learned: 1.0}}


def ensure_valid_name(name: str, existing: Collection[str] = ()) -> None:
    """Check the name of a new arm.

    Raises:
        UserError: the name is invalid, or the study already has an arm of this name.
    """
    if not re.fullmatch(NAME, name):
        raise UserError(f"invalid arm name {name}; use {NAME_RULES[NAME]}")
    if name in existing:
        raise UserError(f"the study already has an arm {name}; choose another with --name")


def format_arm(name: str, config: dict[str, Any]) -> str:
    """Return the YAML of an arm, to be indented below `arms`."""
    return dump_yaml({name: config})


def ensure_above_chance(fit: Fit, network: NetworkFit | None) -> None:
    """Check that the fit predicts held-out answers better than guesses.

    Raises:
        UserError: it was not shown to.
    """
    shown = network if network and network.term else fit
    if shown.p_chance > CHANCE_LEVEL:
        raise UserError(
            f"the fit predicts {shown.accuracy:.0%} of {fit.decided} held-out answers, not clearly "
            f"more than guesses would (50%, p = {shown.p_chance:.2g}); give more answers, or use "
            "--force to add the arm anyway"
        )


def add_arm_to_file(path: Path, name: str, config: dict[str, Any]) -> Path:
    """Add an arm to a study file after the others, and change nothing else in it.

    A link is followed, and the file keeps its encoding and its permissions. Return the path of a
    copy of the file as it was.

    Raises:
        UserError: the arm exists, or no line can be added to the arms (flow style, merge keys); the
            file is then unchanged.
    """
    path = path.resolve()
    before = path.read_bytes()
    encoding = find_encoding(before)
    text = before.decode(encoding)
    try:
        source = read_yaml(text)
        new = _insert_arm(text, source.data, source.mark, name, config)
        expected = {**source.data, "arms": {**source.data["arms"], name: config}}
        is_valid = read_yaml(new).data == expected
    except YamlError:
        is_valid = False
    if not is_valid:
        raise UserError(f"{path} does not have one line or block per arm; add the arm by hand")
    names = chain([f"{path.name}.bak"], (f"{path.name}.bak{number}" for number in count(2)))
    copies = (path.with_name(name) for name in names)
    # A killed command may have kept a copy, and gone no further.
    backup = next(copy for copy in copies if not copy.exists() or _has_content(copy, before))
    for target, data in ((backup, before), (path, new.encode(encoding))):
        with atomic_replace(target) as temporary:
            temporary.write_bytes(data)
            shutil.copymode(path, temporary)
    return backup


def _has_content(path: Path, data: bytes) -> bool:
    return path.is_file() and path.stat().st_size == len(data) and path.read_bytes() == data


def _insert_arm(text: str, data: Any, mark: Any, name: str, config: dict[str, Any]) -> str:
    """Return the text with the arm after the last one."""
    ensure_valid_name(name, data["arms"])
    lines = text.splitlines(keepends=True)
    start = mark(["arms"], key=True).line
    column = min(mark(["arms", other], key=True).column for other in data["arms"])
    later = [mark([key], key=True).line for key in data]
    end = min([line - 1 for line in later if line > start], default=len(lines))
    # Comments at the margin before the next key belong to that key.
    while not lines[end - 1].strip() or lines[end - 1].startswith("#"):
        end -= 1
    newline = "\r\n" if "\r\n" in text else "\n"
    if not lines[end - 1].endswith("\n"):
        lines[end - 1] += newline
    margin = " " * (column - 1)
    added = [f"{margin}{line}{newline}" for line in format_arm(name, config).splitlines()]
    return "".join([*lines[:end], *added, *lines[end:]])
