"""Transitions of an environment, and functions of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from shaperun.envs.info import InfoError, read_info
from shaperun.envs.memory import Recall

Array = npt.NDArray[np.float64]
_Value = TypeVar("_Value", bound=np.generic)

_FLOATS_AT_ONCE = 2**20  # entries of pictures that terms see in float64 at once


@dataclass(frozen=True, slots=True)
class Transition:
    """A batch of N transitions (s, a, s′) as the environment reported them.

    Shapes: ``obs`` and ``next_obs`` (N, observation size) in float64, or uint8 if the environment's
    are, which terms and outcomes see in float64; ``action`` (N,) for discrete actions and
    (N, action size) otherwise; ``env_reward``, ``terminated`` and ``truncated`` (N,).
    At the end of an episode ``next_obs`` is its last observation, never the first of the next one.
    ``last_action`` is the action of the previous step, shaped like ``action``; the first step of
    an episode repeats its action there, so that the difference is 0.
    ``info`` has the numbers of each step's info (N,), as `record_info` copies them; None if no term
    reads it. Rows are in order of time, so that an episode ends before the next one starts.
    """

    obs: Array
    action: npt.NDArray[Any]
    next_obs: Array
    env_reward: Array
    terminated: npt.NDArray[np.bool_]
    truncated: npt.NDArray[np.bool_]
    last_action: npt.NDArray[Any]
    info: npt.NDArray[np.object_] | None = None

    @property
    def ended(self) -> npt.NDArray[np.bool_]:
        """Mask (N,) of the transitions that end an episode, terminated or truncated."""
        return self.terminated | self.truncated

    def __len__(self) -> int:
        return len(self.env_reward)

    @staticmethod
    def concatenate(parts: Sequence[Transition]) -> Transition:
        """Concatenate batches in the given order."""
        columns: dict[str, Any] = {
            name: np.concatenate([getattr(part, name) for part in parts])
            for name in parts[0].recorded
        }
        return Transition(**columns)

    @property
    def recorded(self) -> list[str]:
        """Names of the fields that have values; `info` may be missing."""
        return [name for name in self.__dataclass_fields__ if getattr(self, name) is not None]

    def apply(self, function: Callable[[Any], Any]) -> Transition:
        """Return transitions with a function applied to each field."""
        columns: dict[str, Any] = {name: function(getattr(self, name)) for name in self.recorded}
        return Transition(**columns)

    def take(self, rows: npt.NDArray[Any] | slice) -> Transition:
        """Select transitions by a mask (N,), by indices or by a slice."""
        return self.apply(lambda column: column[rows])

    def read_info(self, *keys: str, default: float | None = None) -> Array:
        """Return an entry of each step's info as numbers (N,); several keys lead to a nested one.

        Raises:
            InfoError: an entry is not a number, or is missing and there is no default.
        """
        if self.info is None:
            raise InfoError("the info of these steps was not recorded")
        return np.array([read_info(info, keys, default) for info in self.info], dtype=np.float64)


def evaluate_floats(function: Callable[[Array], Array], obs: npt.NDArray[Any]) -> Array:
    """Return the values (N,) of a function of observations in float64 (N, observation size).

    It sees few pictures at once.
    """
    if obs.dtype != np.uint8:
        return function(obs)
    return np.concatenate([function(_to_floats(obs[rows])) for rows in _few_rows(obs)])


def evaluate_rows(
    function: Callable[[Transition, slice], npt.NDArray[_Value]], transition: Transition
) -> npt.NDArray[_Value]:
    """Return the values (N,) of a function of transitions and of the rows they come from.

    It sees observations in float64, and so few pictures at once.
    """
    if transition.obs.dtype != np.uint8:
        return function(transition, slice(None))
    parts = ((_take_floats(transition, rows), rows) for rows in _few_rows(transition.obs))
    return np.concatenate([function(part, rows) for part, rows in parts])


def evaluate_steps(
    function: Callable[[Transition, Recall], Array], transition: Transition, recall: Recall
) -> Array:
    """Return the values (N,) of a function of transitions and the memory of their episodes.

    As with `evaluate_rows`, it sees few pictures at once, but at least those of one step.
    """
    if transition.obs.dtype != np.uint8:
        return function(transition, recall)
    parts = recall.split(_count_rows(transition.obs))
    return np.concatenate([function(_take_floats(transition, rows), part) for rows, part in parts])


def _few_rows(obs: npt.NDArray[Any]) -> list[slice]:
    """Split N rows so that few of them are held in float64 at once; N may be 0."""
    size = _count_rows(obs)
    return [slice(first, first + size) for first in range(0, max(1, len(obs)), size)]


def _count_rows(obs: npt.NDArray[Any]) -> int:
    """Return how many rows are held in float64 at once."""
    return max(1, _FLOATS_AT_ONCE // max(1, int(obs.shape[1])))


def _take_floats(transition: Transition, rows: slice) -> Transition:
    part = transition.take(rows)
    return replace(part, obs=_to_floats(part.obs), next_obs=_to_floats(part.next_obs))


def _to_floats(obs: npt.NDArray[Any]) -> Array:
    return obs.astype(np.float64)
