"""Memory of the episode so far, for terms that depend on more than one transition.

A term is evaluated for many transitions at once: T steps of N environments, in order of time.
Memory carries what a term needs over from one evaluation to the next and from each step to the
next one, and forgets it where an episode ends. Values do not depend on how steps are batched.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


class EpisodeMemory:
    """Values that terms remember of the current episodes of N environments."""

    def __init__(self, n_envs: int = 1) -> None:
        self._starting = np.ones(n_envs, dtype=bool)  # whether the next step begins an episode
        self._carried: dict[str, Array] = {}  # (N,) each, after the last step

    def recall(self, ended: Mask) -> Recall:
        """Return the memory during the next T steps, of which those in `ended` (T · N,) are last.

        It changes nothing before `commit`.
        """
        return Recall(self._starting, self._carried, ended.reshape(-1, len(self._starting)))

    def commit(self, recall: Recall) -> None:
        """Remember T steps after they have been evaluated."""
        self._carried = recall.carried
        self._starting = recall.ended[-1].copy()

    def reset(self, mask: Mask | slice = slice(None)) -> None:
        """Forget the episodes of these environments; their next step begins another one."""
        self._starting[mask] = True

    def get_state(self) -> dict[str, Any]:
        """Return what is remembered."""
        return {"starting": self._starting.copy(), "values": dict(self._carried)}

    def set_state(self, state: dict[str, Any]) -> None:
        """Resume from a state.

        Raises:
            ValueError: it belongs to another number of environments, or is of an earlier version.
        """
        if state.get("carried"):  # where methods of one name shared a value
            raise ValueError("its memory was recorded by an earlier version")
        values = dict(state.get("values", {}))
        shapes = {np.shape(array) for array in (state["starting"], *values.values())}
        if shapes != {self._starting.shape}:
            raise ValueError("its memory belongs to another number of environments")
        self._starting, self._carried = state["starting"].astype(bool), values


@dataclass
class Recall:
    """Memory during T steps of N environments, as one term uses it.

    Each method takes a name and values of every step (T · N,). It returns what they give over the
    episode so far (T · N,), the step itself included. A term may call several methods with one
    name, and one method several times: each call in its order remembers values of its own.
    """

    starting: Mask  # (N,)
    carried_before: dict[str, Array]
    ended: Mask  # (T, N)
    term: str = ""
    carried: dict[str, Array] = field(default_factory=dict)
    _calls: Counter[tuple[str, str]] = field(default_factory=Counter, init=False)

    def of_term(self, term: str) -> Recall:
        """Return the memory of a term."""
        return replace(self, term=term)

    def split(self, size: int) -> Iterator[tuple[slice, Recall]]:
        """Yield the rows of few steps at once, `size` or those of one step, and their memory."""
        n_envs = len(self.starting)
        n_steps = max(1, size // n_envs)
        starting, carried = self.starting, self.carried_before
        for first in range(0, len(self.ended), n_steps):
            ended = self.ended[first : first + n_steps]
            part = Recall(starting, carried, ended, self.term)
            yield slice(first * n_envs, (first + len(ended)) * n_envs), part
            starting, carried = ended[-1], part.carried
        self.carried.update(carried)

    def total(self, name: str, values: Array) -> Array:
        """Return the sum since the episode began."""
        return self._total("total", name, values)

    def highest(self, name: str, values: Array) -> Array:
        """Return the largest value since the episode began."""
        return self._accumulate(self._key("highest", name), values, np.maximum, -np.inf)

    def lowest(self, name: str, values: Array) -> Array:
        """Return the smallest value since the episode began."""
        return self._accumulate(self._key("lowest", name), values, np.minimum, np.inf)

    def previous(self, name: str, values: Array, start: float | None = None) -> Array:
        """Return the value of the step before.

        At the first step of an episode this is `start`, by default the value of that step itself.
        """
        return self._previous("previous", name, values, start)

    def changed(self, name: str, values: Array, start: float | None = None) -> Array:
        """Return 1 where the value is not the previous one, else 0; `start` as in `previous`."""
        previous = self._previous("changed", name, values, start)
        return np.not_equal(values, previous).astype(np.float64)

    def steps(self, name: str, values: Array) -> Array:
        """Return the number of steps since the episode began; values give the size."""
        return self._total("steps", name, np.ones(len(values)))

    def mean_so_far(self, name: str, values: Array) -> Array:
        """Return the mean since the episode began."""
        steps = self._total("mean_so_far steps", name, np.ones(len(values)))
        return self._total("mean_so_far", name, values) / steps

    def std_so_far(self, name: str, values: Array) -> Array:
        """Return the standard deviation of the population since the episode began."""
        # Differences to the first value are small, so that their squares lose no digits.
        values = values - self._first("std_so_far first", name, values)
        steps = self._total("std_so_far steps", name, np.ones(len(values)))
        mean = self._total("std_so_far", name, values) / steps
        mean_square = self._total("std_so_far square", name, values * values) / steps
        result: Array = np.sqrt(np.maximum(0.0, mean_square - mean * mean))
        return result

    def first(self, name: str, values: Array) -> Array:
        """Return the value of the first step of the episode."""
        return self._first("first", name, values)

    def _total(self, part: str, name: str, values: Array) -> Array:
        return self._accumulate(self._key(part, name), values, np.add, 0.0)

    def _previous(self, part: str, name: str, values: Array, start: float | None) -> Array:
        key, steps = self._key(part, name), self._by_step(values)
        result = np.concatenate([self._before(key)[None], steps[:-1]])
        result[self._starts] = steps[self._starts] if start is None else start
        self._keep(key, steps[-1])
        return result.reshape(-1)

    def _first(self, part: str, name: str, values: Array) -> Array:
        key, steps = self._key(part, name), self._by_step(values)
        if len(steps) == 1:
            return self._keep(key, np.where(self.starting, steps[0], self._before(key)))
        index = np.where(self._starts, np.arange(len(steps))[:, None], -1)
        index = np.maximum.accumulate(index, axis=0)  # of the latest start in these steps, if any
        result = np.where(
            index < 0, self._before(key), np.take_along_axis(steps, np.maximum(index, 0), 0)
        )
        self._keep(key, result[-1])
        return result.reshape(-1)

    def _accumulate(self, key: str, values: Array, function: np.ufunc, start: float) -> Array:
        steps = self._by_step(values)
        latest = np.where(self.starting, start, self._before(key))
        if len(steps) == 1:  # as stable-baselines3's loop and the wrappers shape them
            return self._keep(key, function(latest, steps[0]))
        result = np.empty_like(steps)
        begin = 0
        for end in [*np.flatnonzero(self.ended.any(axis=1)).tolist(), len(steps) - 1]:
            if begin <= end:
                block = np.concatenate([latest[None], steps[begin : end + 1]])
                block = function.accumulate(block, axis=0)
                result[begin : end + 1] = block[1:]
                latest = np.where(self.ended[end], start, block[-1])
                begin = end + 1
        self._keep(key, result[-1])
        return result.reshape(-1)

    @cached_property
    def _starts(self) -> Mask:
        """Mask (T, N) of the first steps of episodes."""
        return np.concatenate([self.starting[None], self.ended[:-1]])

    def _by_step(self, values: Array) -> Array:
        """Return values (T · N,) as (T, N)."""
        values = np.asarray(values, dtype=np.float64)
        return values.reshape(self.ended.shape)

    def _key(self, part: str, name: str) -> str:
        """Return the key of the values that one call remembers: a method, or a part of one."""
        call = self._calls[part, name]
        self._calls[part, name] += 1
        return f"{self.term}:{part}.{call}:{name}"

    def _before(self, key: str) -> Array:
        before = self.carried_before.get(key)
        return np.zeros(len(self.starting)) if before is None else before

    def _keep(self, key: str, values: Array) -> Array:
        self.carried[key] = values.copy()
        return values
