"""The words of the domain: a transition, a term, and what an environment declares about itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
StateFunction = Callable[[Array], Array]

OWN_REWARD = "environment"
"""The name under which the environment's own reward can be weighed like a term."""

# Names with a meaning of their own beside the terms, in the info of a step and in the tables.
RESERVED = frozenset(
    {
        *("env_reward", "shaping", "shaped", "schedule", "return", "shaped_return"),
        *("arm", "copy", "done", "episode", "episode_seed", "length", "outcome", "seed"),
        *("success_rate", "terminated", "timesteps", "truncated"),
    }
)


@dataclass(frozen=True, slots=True)
class Transition:
    """A batch of N transitions (s, a, s′) as the environment reported them.

    Shapes: ``obs`` and ``next_obs`` (N, observation size) in float64; ``action`` (N,) for discrete
    actions and (N, action size) otherwise; ``env_reward``, ``terminated`` and ``truncated`` (N,).
    At the end of an episode ``next_obs`` is its last observation, never the first of the next one.
    ``last_action`` is the action of the step before, as ``action``; the first step of an episode
    has its own action there, so that nothing has changed yet.
    """

    obs: Array
    action: npt.NDArray[Any]
    next_obs: Array
    env_reward: Array
    terminated: npt.NDArray[np.bool_]
    truncated: npt.NDArray[np.bool_]
    last_action: npt.NDArray[Any]

    @property
    def ended(self) -> npt.NDArray[np.bool_]:
        """Where an episode ends with the transition, either way (N,)."""
        return self.terminated | self.truncated

    def __len__(self) -> int:
        return len(self.env_reward)

    @staticmethod
    def concatenate(parts: Sequence[Transition]) -> Transition:
        """Several batches as one, in their order."""
        fields = Transition.__dataclass_fields__
        return Transition(**{f: np.concatenate([getattr(p, f) for p in parts]) for f in fields})

    def take(self, rows: npt.NDArray[Any]) -> Transition:
        """Some of the transitions, by a mask (N,) or by their indices."""
        return Transition(
            self.obs[rows],
            self.action[rows],
            self.next_obs[rows],
            self.env_reward[rows],
            self.terminated[rows],
            self.truncated[rows],
            self.last_action[rows],
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
class Controller:
    """A small hand-written policy, used to ask what a reward pays for before any training."""

    name: str
    description: str
    make: Callable[[], Callable[[npt.NDArray[Any]], Any]]
    """A fresh policy for one episode: observation (observation size,) -> action."""


@dataclass(frozen=True)
class Environment:
    """What shaperun knows about one gymnasium environment beyond gymnasium itself.

    A module in `shaperun.envs.builtin` makes one of these, or several that share their maths, and
    hangs terms and controllers on it; schema, columns, plots and tests find them by themselves.
    """

    id: str
    observations: tuple[str, ...]
    """Names of the observation's entries, in order."""
    outcome: Callable[[Transition], npt.NDArray[np.str_]]
    """How the episodes that end with these transitions ended, in the environment's own terms."""
    outcomes: Mapping[str, bool | None]
    """Every outcome: True for success, False for failure, None for neither."""
    action_size: int | None = None
    """How many numbers an action is; None where it is one of a few choices."""
    anonymous_size: int = 0
    """How many numbers an observation is, where they have no names."""
    discrete_observations: bool = False
    """Whether an observation is one of a number of states, or several such, and no measurement."""
    no_time_limit: bool = False
    """Whether nothing limits the length of an episode."""
    solved: float | None = None
    """The environment return at which the environment counts as solved."""
    metrics: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """The environment's own figures per episode, each a weighted sum of raw term sums."""
    notes: Mapping[str, str] = field(default_factory=dict)
    """What users of a mode should know about this environment's own reward, by mode."""
    requires: tuple[str, str] | None = None
    """A module it needs beyond gymnasium, and how to install that."""
    before_reset: Callable[[Any], None] | None = None
    """Is given gymnasium's bare environment before each reset, for what its own reset leaves."""
    own_reward: Callable[[Transition], Array] | None = None
    """The environment's own reward (N,) as far as it is a function of the transition."""
    terms: dict[str, Term] = field(default_factory=dict)
    controllers: dict[str, Controller] = field(default_factory=dict)

    @property
    def observation_size(self) -> int:
        """How many numbers an observation is."""
        return len(self.observations) or self.anonymous_size

    @property
    def built_in(self) -> dict[str, Term]:
        """All that can be weighed: the terms, the outcomes, and the environment's own reward."""
        own = Term(OWN_REWARD, "The environment's own reward.", _own_reward, state_only=False)
        return (
            self.terms
            | {name: self._outcome_term(name) for name in self.outcomes}
            | {OWN_REWARD: own}
        )

    def _outcome_term(self, name: str) -> Term:
        def function(transition: Transition) -> Array:
            values = np.zeros(len(transition))
            ended = np.flatnonzero(transition.ended)
            if len(ended):  # asking for every step would cost more than all other terms
                values[ended] = self.outcome(transition.take(ended)) == name
            return values

        formula = f"1 on the step with which an episode ends as {name}, else 0."
        return Term(name, formula, function, state_only=False)

    def controller(self, thing: Any) -> Any:
        """Add a hand-written policy; its name is a verb, its docstring says what it does.

        A function maps one observation (observation size,) to an action. A class is such a
        policy with a memory: an instance of it plays one episode.
        """
        name = thing.__name__.lower()
        if name in self.controllers:
            raise ValueError(f"{self.id} already has a controller named {name!r}")
        make = thing if isinstance(thing, type) else lambda: thing
        self.controllers[name] = Controller(name, (thing.__doc__ or "").strip(), make)
        return thing

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


def _own_reward(transition: Transition) -> Array:
    return transition.env_reward


def flatten_rows(obs: Any) -> Array:
    """Observations as the kernel takes them: a copy in float64, one flat row each."""
    # Always a copy: a vector environment may hand out the same buffer at every step.
    return np.array(obs, dtype=np.float64).reshape(len(obs), -1)
