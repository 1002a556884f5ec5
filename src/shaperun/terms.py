"""The words of the domain: a transition, a term, and what an environment declares about itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
StateFunction = Callable[[Array], Array]


@dataclass(frozen=True, slots=True)
class Transition:
    """A batch of N transitions (s, a, s′) as the environment reported them.

    Shapes: ``obs`` and ``next_obs`` (N, observation size) in float64; ``action`` (N,) for discrete
    actions and (N, action size) otherwise; ``env_reward``, ``terminated`` and ``truncated`` (N,).
    At the end of an episode ``next_obs`` is its last observation, never the first of the next one.
    """

    obs: Array
    action: npt.NDArray[Any]
    next_obs: Array
    env_reward: Array
    terminated: npt.NDArray[np.bool_]
    truncated: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.env_reward)

    def take(self, rows: npt.NDArray[Any]) -> Transition:
        """Some of the transitions, by a mask (N,) or by their indices."""
        return Transition(
            self.obs[rows],
            self.action[rows],
            self.next_obs[rows],
            self.env_reward[rows],
            self.terminated[rows],
            self.truncated[rows],
        )


@dataclass(frozen=True)
class Term:
    """One named part of a reward: a pure vectorised function, signed so that larger is better.

    A state term maps observations (N, observation size) to values (N,); only state terms can make
    a potential. Any other term maps a `Transition` to values (N,).
    """

    name: str
    formula: str
    function: Callable[[Any], Array]
    state_only: bool

    def __call__(self, transition: Transition) -> Array:
        """The raw values (N,) of the term: a state term is taken at s′."""
        return self.function(transition.next_obs if self.state_only else transition)


@dataclass(frozen=True)
class Environment:
    """What shaperun knows about one gymnasium environment beyond gymnasium itself.

    An environment is one module in `shaperun.envs` that makes one of these and hangs its terms
    on it; schema, columns, plots and tests find both by themselves.
    """

    id: str
    observations: tuple[str, ...]
    """Names of the observation's entries, in order."""
    outcome: Callable[[Transition], npt.NDArray[np.str_]]
    """How the episodes that end with these transitions ended, in the environment's own terms."""
    outcomes: Mapping[str, bool | None]
    """Every outcome: True for success, False for failure, None for neither."""
    solved: float | None = None
    """The environment return at which the environment counts as solved."""
    metrics: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """The environment's own figures per episode, each a weighted sum of raw term sums."""
    notes: Mapping[str, str] = field(default_factory=dict)
    """What users of a mode should know about this environment's own reward, by mode."""
    requires: tuple[str, str] | None = None
    """A module it needs beyond gymnasium, and how to install that."""
    terms: dict[str, Term] = field(default_factory=dict)

    def state_term(self, function: StateFunction) -> StateFunction:
        """Add a term that depends on the state only; its docstring is its formula."""
        self._add(function, state_only=True)
        return function

    def action_term(self, function: Callable[[Transition], Array]) -> Callable[[Transition], Array]:
        """Add a term that depends on the action too; its docstring is its formula."""
        self._add(function, state_only=False)
        return function

    def _add(self, function: Callable[[Any], Array], *, state_only: bool) -> None:
        name = function.__name__
        if name in self.terms:
            raise ValueError(f"{self.id} already has a term named {name!r}")
        self.terms[name] = Term(name, (function.__doc__ or "").strip(), function, state_only)
