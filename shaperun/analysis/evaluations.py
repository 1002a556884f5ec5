"""Tables of recorded evaluations, validated.

A results folder may come from an untrusted source. This module guarantees the table's columns, the
order of its episodes, outcomes of the environment, and finite numbers; not that they are true.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import polars as pl
import polars.selectors as cs

from shaperun.common.files import read_table
from shaperun.envs.base import OWN_REWARD
from shaperun.envs.episodes import held_out_seeds
from shaperun.envs.metrics import recorded_metrics
from shaperun.runs.plan import Run
from shaperun.runs.run_folder import RunFolder

# Columns that are not floating-point numbers.
_TYPES: dict[str, type[pl.DataType]] = {
    **dict.fromkeys(("timesteps", "episode", "seed", "length", "terminated"), pl.Int64),
    "outcome": pl.String,
}
_REWARDS = ("return", "shaping", "shaped_return")
_TERM_COLUMN = re.compile(r"(sum|first|last)_[a-z][a-z0-9_]{0,39}")
_MAX_NUMBER = 1e100  # its square is finite
_MAX_FACTOR = 1e12  # of a schedule, as in studies
_MAX_BYTES = 100_000_000  # 140,000 episodes with all terms of LunarLander


class _CorruptTableError(ValueError):
    """A table that no run can have recorded."""


@dataclass(frozen=True)
class Evaluations:
    """The evaluations of one run so far, as text; `count` is the number of rows."""

    run: Run
    folder: RunFolder
    done: bool
    header: bytes
    rows: bytes
    count: int


def read_evaluations(run: Run, folder: RunFolder, *, done: bool) -> Evaluations:
    """Read the evaluations of a run, which are empty without a file.

    Raises:
        UserError: the file cannot be read.
    """
    header, rows = read_header_and_rows(folder, folder.evaluations, _MAX_BYTES)
    return Evaluations(run, folder, done, header, rows, rows.count(b"\n"))


def read_header_and_rows(folder: RunFolder, path: Path, max_bytes: int) -> tuple[bytes, bytes]:
    """Read a table of a run as its first line and the others; nothing without a file.

    Raises:
        UserError: the file cannot be read, or is larger than `max_bytes`.
    """
    try:
        header, _, rows = read_table(path, max_bytes).partition(b"\n")
    except FileNotFoundError:
        return b"", b""
    except OSError as error:
        raise folder.damage_error(path, f"{error.strerror}") from None
    return header, rows


def parse_evaluations(evaluations: Sequence[Evaluations]) -> pl.DataFrame:
    """Parse the rows of runs of one study with the same header, all at once for speed.

    Raises:
        UserError: a file is damaged; the message names it.
    """
    try:
        return _parse(evaluations)
    except _CorruptTableError:
        for part in evaluations:
            try:
                _parse([part])
            except _CorruptTableError as error:
                raise part.folder.damage_error(part.folder.evaluations, str(error)) from None
        raise  # unreachable: one of them is damaged


def _parse(evaluations: Sequence[Evaluations]) -> pl.DataFrame:
    environment = evaluations[0].run.config.environment.describe()
    names = _column_names(evaluations[0].header, frozenset(recorded_metrics(environment)))
    if any(not _required_columns(e.run) <= set(names) for e in evaluations):
        raise _CorruptTableError("a column is missing")
    if any(e.count > _max_rows(e.run) for e in evaluations):  # parsing takes ten times their size
        raise _CorruptTableError("it has more episodes than its run can have recorded")
    text = b"".join(e.rows for e in evaluations)
    schema = {name: _TYPES.get(name, pl.Float64) for name in names}
    try:
        if not text.isascii():
            raise _CorruptTableError("not a table of evaluations")
        # No value needs quotes, which could join rows of two runs into one.
        table = pl.read_csv(text, has_header=False, schema=schema, quote_char=None)
    except pl.exceptions.PolarsError:
        raise _CorruptTableError("a line does not match the columns") from None
    if len(table) != sum(e.count for e in evaluations):
        raise _CorruptTableError("a line is empty")
    _check_values(table, evaluations[0].run)
    _check_order(table, evaluations)
    return table


@lru_cache
def _column_names(header: bytes, metrics: frozenset[str]) -> list[str]:
    names = header.decode("ascii", "replace").split(",")
    known = {*_TYPES, *_REWARDS, "schedule", *metrics}
    if len(set(names)) < len(names) or not {*_TYPES, *_REWARDS} <= set(names):
        raise _CorruptTableError("a column is missing or duplicated")
    if not all(name in known or _TERM_COLUMN.fullmatch(name) for name in names):
        raise _CorruptTableError("unknown column")
    return names


def _required_columns(run: Run) -> set[str]:
    """Return the columns that the run's metrics and shaped returns depend on.

    Others may be missing: terms added to the environment after the run.
    """
    environment, reward = run.config.evaluated_environment.describe(), run.config.reward
    weighted = {name for name, weight in reward.weights.items() if weight}
    recorded = weighted - environment.outcomes.keys() - {OWN_REWARD}
    kinds = ("sum", "first", "last") if reward.mode == "potential" else ("sum",)
    parts = [f"sum_{term}" for metric in environment.metrics.values() for term in metric.terms]
    parts += [*recorded_metrics(environment), *(["schedule"] if reward.schedule else [])]
    return {*parts, *(f"{kind}_{name}" for kind in kinds for name in recorded)}


def _max_rows(run: Run) -> int:
    """Return the largest number of evaluation episodes of a run."""
    protocol, total = run.config.evaluation, run.config.training.total_timesteps
    return (total // (protocol.every or 1) + 1) * protocol.episodes + protocol.final_episodes


def _check_values(table: pl.DataFrame, run: Run) -> None:
    environment = run.config.evaluated_environment.describe()
    if any(table.null_count().row(0)):
        raise _CorruptTableError("a value is missing")
    if not all(table.select((cs.numeric().cast(pl.Float64).abs() <= _MAX_NUMBER).all()).row(0)):
        raise _CorruptTableError("a value is out of range")
    if "schedule" in table.columns and not (table["schedule"].abs() <= _MAX_FACTOR).all():
        raise _CorruptTableError("a factor of the schedule is out of range")
    if not table["outcome"].is_in(list(environment.outcomes)).all():
        raise _CorruptTableError(f"an outcome is unknown to {environment.id}")
    if not (table["terminated"].is_in([0, 1]).all() and (table["length"] > 0).all()):
        raise _CorruptTableError("an episode has an invalid length or end")


def _check_order(table: pl.DataFrame, evaluations: Sequence[Evaluations]) -> None:
    """Check that each run played the held-out episodes in order, first before training."""
    config = evaluations[0].run.config
    regular, last = config.evaluation.episodes, config.evaluation.final_episodes
    steps, episode, seed = (table[name].to_numpy() for name in ("timesteps", "episode", "seed"))
    begins = episode == 0
    in_order = np.where(begins[1:], steps[1:] > steps[:-1], steps[1:] == steps[:-1])
    in_order &= begins[1:] | (episode[1:] == episode[:-1] + 1)
    ends = np.cumsum([e.count for e in evaluations])
    firsts = np.concatenate([[0], ends[:-1]])
    in_order = np.concatenate([[True], in_order])
    in_order[firsts] = begins[firsts] & (steps[firsts] == 0)
    if not in_order.all() or episode.max() >= max(regular, last):
        raise _CorruptTableError("its episodes are out of order")
    if not np.array_equal(np.array(held_out_seeds(int(episode.max()) + 1))[episode], seed):
        raise _CorruptTableError("its episodes are not the held-out ones")
    starts = np.flatnonzero(begins)
    sizes = np.diff(starts, append=len(steps))
    final = np.isin(starts + sizes, ends)
    done = np.array([e.done for e in evaluations])
    complete = (sizes[final] == last) & (steps[ends - 1] >= config.training.total_timesteps)
    if (sizes[~final] != regular).any() or not complete[done].all():
        raise _CorruptTableError("an evaluation is incomplete")
