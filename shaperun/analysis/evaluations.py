"""What runs recorded of their evaluations, as a table; what none can have recorded is refused.

A results folder may come from anybody. Past this file the table can be relied upon: its columns,
its episodes in their order, outcomes that the environment has, and numbers that can be reckoned
with. Whether the numbers are true is another matter.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import polars as pl
import polars.selectors as cs

from shaperun.common.files import read_table
from shaperun.envs.base import OWN_REWARD
from shaperun.envs.episodes import held_out_seeds
from shaperun.runs.plan import Run
from shaperun.runs.run_folder import RunFolder

# What the columns hold that are no numbers with a point.
_TYPES: dict[str, type[pl.DataType]] = {
    **dict.fromkeys(("timesteps", "episode", "seed", "length", "terminated"), pl.Int64),
    "outcome": pl.String,
}
_REWARDS = ("return", "shaping", "shaped_return")
_TERM_COLUMN = re.compile(r"(sum|first|last)_[a-z][a-z0-9_]{0,39}")
_MAX_NUMBER = 1e100  # whose square is a number still


class _CorruptTableError(ValueError):
    """Something that no run can have recorded; the message says what."""


@dataclass(frozen=True)
class Evaluations:
    """What one run has recorded so far, as text."""

    run: Run
    folder: RunFolder
    done: bool
    header: bytes
    rows: bytes
    count: int
    """How many rows there are."""


def read_evaluations(run: Run, folder: RunFolder, *, done: bool) -> Evaluations:
    """Read what a run has recorded; nothing where there is no file.

    Raises:
        UserError: the file cannot be read.
    """
    try:
        header, _, rows = read_table(folder.evaluations).partition(b"\n")
    except FileNotFoundError:
        header = rows = b""
    except OSError as error:
        raise folder.damaged(folder.evaluations, f"{error.strerror}") from None
    return Evaluations(run, folder, done, header, rows, rows.count(b"\n"))


def parse_evaluations(evaluations: Sequence[Evaluations]) -> pl.DataFrame:
    """The rows of runs, of one study and with the same header, together: that is faster.

    Raises:
        UserError: names the file that is not as such a run writes it.
    """
    try:
        return _parsed(evaluations)
    except _CorruptTableError:
        for one in evaluations:
            _raise_for_run(one)
        raise  # never: what is wrong with all is wrong with one of them


def _raise_for_run(one: Evaluations) -> None:
    try:
        _parsed([one])
    except _CorruptTableError as error:
        raise one.folder.damaged(one.folder.evaluations, str(error)) from None


def _parsed(evaluations: Sequence[Evaluations]) -> pl.DataFrame:
    names = _columns(evaluations[0].header)
    if any(not _needed(one.run) <= set(names) for one in evaluations):
        raise _CorruptTableError("a column is missing")
    text = b"".join(one.rows for one in evaluations)
    schema = {name: _TYPES.get(name, pl.Float64) for name in names}
    try:
        if not text.isascii():
            raise _CorruptTableError("it is no table")
        # Nothing that is recorded needs quotes, which could make one row of the rows of two runs.
        table = pl.read_csv(text, has_header=False, schema=schema, quote_char=None)
    except pl.exceptions.PolarsError:
        raise _CorruptTableError("a line does not fit the columns") from None
    if len(table) != sum(one.count for one in evaluations):
        raise _CorruptTableError("a line is empty")
    _check_values(table, evaluations[0].run)
    _check_order(table, evaluations)
    return table


@lru_cache
def _columns(header: bytes) -> list[str]:
    names = header.decode("ascii", "replace").split(",")
    known = {*_TYPES, *_REWARDS, "schedule"}
    if len(set(names)) < len(names) or not {*_TYPES, *_REWARDS} <= set(names):
        raise _CorruptTableError("a column is missing, or there twice")
    if not all(name in known or _TERM_COLUMN.fullmatch(name) for name in names):
        raise _CorruptTableError("a column has a name that none has")
    return names


def _needed(run: Run) -> set[str]:
    """The columns of terms without which the run's own numbers cannot be told.

    Others may be missing: what the environment has been given since, the run could not record.
    """
    environment, reward = run.config.environment.describe(), run.config.reward
    weighted = {name for name, weight in reward.weights.items() if weight}
    recorded = weighted - environment.outcomes.keys() - {OWN_REWARD}
    kinds = ("sum", "first", "last") if reward.mode == "potential" else ("sum",)
    parts = [f"sum_{term}" for weights in environment.metrics.values() for term in weights]
    return {*parts, *(f"{kind}_{name}" for kind in kinds for name in recorded)}


def _check_values(table: pl.DataFrame, run: Run) -> None:
    environment = run.config.environment.describe()
    if any(table.null_count().row(0)):
        raise _CorruptTableError("a number is missing")
    if not all(table.select((cs.numeric().cast(pl.Float64).abs() <= _MAX_NUMBER).all()).row(0)):
        raise _CorruptTableError("a number is beyond all measure")
    if not table["outcome"].is_in(list(environment.outcomes)).all():
        raise _CorruptTableError(f"an episode ended in a way that {environment.id} does not have")
    if not (table["terminated"].is_in([0, 1]).all() and (table["length"] > 0).all()):
        raise _CorruptTableError("an episode has a length or an end that none can have")


def _check_order(table: pl.DataFrame, evaluations: Sequence[Evaluations]) -> None:
    """Every run has played the held-out episodes in their order, first before it was trained."""
    config = evaluations[0].run.config
    usual, last = config.evaluation.episodes, config.evaluation.final_episodes
    steps, episode, seed = (table[name].to_numpy() for name in ("timesteps", "episode", "seed"))
    begins = episode == 0
    goes_on = np.where(begins[1:], steps[1:] > steps[:-1], steps[1:] == steps[:-1])
    goes_on &= begins[1:] | (episode[1:] == episode[:-1] + 1)
    ends = np.cumsum([one.count for one in evaluations])
    firsts = np.concatenate([[0], ends[:-1]])
    goes_on = np.concatenate([[True], goes_on])
    goes_on[firsts] = begins[firsts] & (steps[firsts] == 0)
    if not goes_on.all() or episode.max() >= max(usual, last):
        raise _CorruptTableError("its episodes are not in their order")
    if not np.array_equal(np.array(held_out_seeds(int(episode.max()) + 1))[episode], seed):
        raise _CorruptTableError("its episodes are not the held-out ones")
    starts = np.flatnonzero(begins)
    sizes = np.diff(starts, append=len(steps))
    final = np.isin(starts + sizes, ends)
    done = np.array([one.done for one in evaluations])
    complete = (sizes[final] == last) & (steps[ends - 1] >= config.training.total_timesteps)
    if (sizes[~final] != usual).any() or not complete[done].all():
        raise _CorruptTableError("an evaluation is not complete")
