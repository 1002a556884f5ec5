"""Transitions, terms, controllers, and the declaration of an environment."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import attrgetter
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from shaperun.envs.info import InfoError, read_info
from shaperun.envs.layout import Layout, layout_size
from shaperun.envs.memory import EpisodeMemory, Recall

Array = npt.NDArray[np.float64]
Bounds = tuple[float, float]
ActionSpace = Literal["Discrete", "Box", "MultiDiscrete", "MultiBinary"]
Need = Literal["env_reward", "info", "memory"]
_Value = TypeVar("_Value", bound=np.generic)
StateFunction = Callable[[Array], Array]

MIN_PICTURE = 36  # pixels on each side, below which the layers of NatureCNN have no room
_FLOATS_AT_ONCE = 2**20  # entries of pictures that terms see in float64 at once

OWN_REWARD = "environment"
"""Name under which the environment's reward can be weighted like a term."""

# Keys of a step's info and columns of the tables, which no term may be named after.
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


@dataclass(frozen=True)
class Term:
    """One named part of a reward: a pure vectorized function, signed so that larger is better.

    A state term maps observations (N, observation size) to values (N,); only state terms can make
    a potential. Any other term maps a `Transition` to values (N,), and one that may need memory
    maps a `Transition` and the `Recall` of its episodes.
    """

    name: str
    formula: str
    function: Callable[..., Array]
    state_only: bool
    needs: frozenset[Need] | None = frozenset()
    """What the values depend on besides states, actions and ends; None if that is unknown."""

    def may_need(self, *needs: Need) -> bool:
        """Return whether the values depend on one of these, or whether that is unknown."""
        return self.needs is None or not self.needs.isdisjoint(needs)

    def __call__(self, transition: Transition, recall: Recall | None = None) -> Array:
        """Return the raw values (N,) of the term; a state term is evaluated at s′.

        Without `recall`, the transitions are whole episodes, one after the other.
        """
        if self.state_only:
            return self.at_states(transition.next_obs)
        if self.may_need("memory"):
            recall = recall or EpisodeMemory().recall(transition.ended)
            return self.function(transition, recall.of_term(self.name))
        return evaluate_rows(lambda part, _: self.function(part), transition)

    def at_states(self, obs: npt.NDArray[Any]) -> Array:
        """Return the raw values (N,) of a state term at observations (N, observation size)."""
        if obs.dtype != np.uint8:
            return self.function(obs)
        return np.concatenate([self.function(_to_floats(obs[rows])) for rows in _few_rows(obs)])


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


class Picture(NamedTuple):
    """A picture in a flat row: where it starts, and its shape (channels first or last)."""

    start: int
    shape: tuple[int, ...]

    @property
    def is_large(self) -> bool:
        """True if NatureCNN can look at it."""
        return min(sorted(self.shape)[1:]) >= MIN_PICTURE


@dataclass(frozen=True)
class View:
    """Spaces of an environment as a learner sees them."""

    shape: tuple[int, ...]
    """Shape of an observation."""
    actions: ActionSpace
    pictures: tuple[Picture, ...] = ()
    """What stable-baselines3 takes for pictures: the observation, or entries of a flattened one."""
    indices: bool = False
    """True if observations are indices, which it encodes as vectors of zeros and a one."""
    obstacle: str | None = None
    """Why learners cannot use these spaces, and what helps; None if they can."""

    @property
    def is_picture(self) -> bool:
        """True if an observation is one picture."""
        return bool(self.pictures) and len(self.shape) > 1


@dataclass(frozen=True)
class Controller:
    """A small hand-written policy that shows what a reward pays for before any training."""

    name: str
    description: str
    make: Callable[[], Callable[[npt.NDArray[Any]], Any]]
    """Factory of a policy for one episode: observation (observation size,) -> action."""


@dataclass(frozen=True)
class Metric:
    """Number per episode that policies are compared by, beside return, length and outcome.

    It is a weighted sum of raw term sums, which every run records, or a function of the steps of an
    episode, which evaluations record under the metric's name.
    """

    terms: Mapping[str, float] = field(default_factory=dict)
    """Weight per term."""
    function: Callable[[Transition], float] | None = None
    """Function of a whole episode (T,); None for a weighted sum."""
    better: int = 0
    """1 if more is better, −1 if less is, 0 if neither is."""
    bounds: Bounds | None = None
    """Smallest and largest possible value of an episode; None if unknown."""


@dataclass(frozen=True)
class Environment:
    """Declaration of one gymnasium environment: observations, outcomes, terms and controllers.

    A module in `shaperun.envs.builtin` creates one, or several that share their formulas, and
    registers terms and controllers on it; the schema, columns, plots and tests find it there.

    Such a module must meet this contract, which `tests/envs/test_conformance.py` checks on
    episodes of random play and of every controller:

    - Fields: ``id``, ``observations``, ``outcome``, ``outcomes`` and ``own_reward`` are required,
      and ``action_size`` if actions are continuous. Observations are flat, with one unique
      lower-case name per entry. Discrete actions start at 0. ``solved`` equals gymnasium's
      ``reward_threshold``, ``time_limit`` its ``max_episode_steps``, and no episode is outside
      ``episode_bounds``.
    - Outcomes: at least one success (True) and one failure (False). ``outcome`` returns only
      declared names, treats every row alone, and every declared name occurs in the episodes.
    - Own reward: computed from the transition without reading ``env_reward``, and equal to what
      ``step`` returned, within 1e-5. The test lists the environments that may differ: at the end
      of an episode, or because their reward depends on hidden state.
    - Terms: at least one state term. Values are float64 (N,), finite and not constant, and depend
      on nothing but their row, and not on its ``env_reward``; inputs are read-only. An action term
      depends on the action, or on info. The formula is one line that ends with a period.
    - Controllers: at least three. The one with the highest environment return succeeds, and one
      lasts to the time limit (both with seed 0); the test lists environments where no such
      controller is known. A controller maps one observation (observation size,), in the type of
      the environment's, to an action that the action space contains. It is deterministic, never
      writes to the observation, and remembers nothing between episodes. Its name is a verb
      (``land``); its docstring is one sentence in the third person ("Lands …").
    - Names: those of terms, outcomes and `OWN_REWARD` are distinct, and neither they nor those of
      ``metrics`` are `RESERVED`. A metric weights terms here; ``notes`` are keyed by mode.
    """

    id: str
    """Id under which gymnasium registers the environment."""
    observations: tuple[str, ...]
    """Names of the entries of an observation, in order."""
    outcome: Callable[[Transition], npt.NDArray[np.str_]]
    """Function from the last transitions of N episodes to the names (N,) of their outcomes."""
    outcomes: Mapping[str, bool | None]
    """Success flag of every outcome: True for success, False for failure, None for neither."""
    remembering_outcome: Callable[[Transition, Recall], npt.NDArray[np.str_]] | None = None
    """As `outcome`, for outcomes that depend on whole episodes: from T steps of N environments to
    the names (M,) of the M episodes that end in them; see `name_outcomes`."""
    action_size: int | None = None
    """Number of entries of an action; None for discrete actions."""
    layout: Layout = (0,)
    """Shape of an observation whose entries have no names, or the layout of a Dict or Tuple."""
    view: View | None = None
    """The spaces as a learner sees them; None for flat numbers and actions of `action_size`."""
    discrete_observations: bool = False
    """True if observations are state indices and not measurements."""
    time_limit: int | None = None
    """Largest number of steps of an episode; None if nothing limits it."""
    episode_bounds: Callable[[int], Mapping[str, Bounds]] | None = None
    """Function from the time limit to the smallest and largest value of `return` and other metrics
    in an episode, as far as they are known. The environment's options may invalidate them, so that
    `get_environment` drops them if there are other options than the time limit."""
    solved: float | None = None
    """Environment return at which the environment counts as solved."""
    reward_options: frozenset[str] = frozenset()
    """Options of the environment that replace its reward: `solved` and `own_reward` do not hold."""
    metrics: Mapping[str, Metric] = field(default_factory=dict)
    """Additional metrics per episode."""
    notes: Mapping[str, str] = field(default_factory=dict)
    """Advice about combining a reward mode with this environment's own reward, by mode."""
    requires: tuple[str, str] | None = None
    """Module needed besides gymnasium, and the command that installs it."""
    reads_info: bool = False
    """True if terms, `outcome` or `own_reward` read the `info` of transitions."""
    before_reset: Callable[[Any], None] | None = None
    """Hook that is called with the unwrapped environment before each reset."""
    own_reward: Callable[[Transition], Array] | None = None
    """Function that computes the environment's own reward (N,) from transitions."""
    terms: dict[str, Term] = field(default_factory=dict)
    controllers: dict[str, Controller] = field(default_factory=dict)

    @property
    def observation_size(self) -> int:
        """Number of entries of an observation."""
        return layout_size(self.observation_layout)

    @property
    def observation_layout(self) -> Layout:
        """Layout in which formulas see an observation, which the kernel holds as a flat row."""
        return (len(self.observations),) if self.observations else self.layout

    @property
    def learner_view(self) -> View:
        """The spaces as a learner sees them."""
        actions: ActionSpace = "Discrete" if self.action_size is None else "Box"
        return self.view or View((self.observation_size,), actions)

    @property
    def built_in(self) -> dict[str, Term]:
        """Everything that a study can weight: terms, outcomes and the environment's own reward."""
        own = Term(
            OWN_REWARD,
            "The environment's own reward.",
            attrgetter("env_reward"),
            state_only=False,
            needs=frozenset(["env_reward"]),
        )
        return (
            self.terms
            | {name: self._outcome_term(name) for name in self.outcomes}
            | {OWN_REWARD: own}
        )

    def _outcome_term(self, name: str) -> Term:
        def function(transition: Transition, recall: Recall | None = None) -> Array:
            values = np.zeros(len(transition))
            values[transition.ended] = self.name_outcomes(transition, recall) == name
            return values

        formula = f"1 on the last step of an episode that ends as {name}, else 0."
        # What tells outcomes apart is no part of the reward: an outcome is 0 up to the end.
        needs = frozenset[Need](["memory"] if self.remembering_outcome else [])
        return Term(name, formula, function, state_only=False, needs=needs)

    def name_outcomes(
        self, transition: Transition, recall: Recall | None = None
    ) -> npt.NDArray[np.str_]:
        """Return the outcomes (M,) of the M episodes that end in these steps, in order.

        Without `recall`, the transitions are whole episodes, one after the other.
        """
        if self.remembering_outcome:
            recall = recall or EpisodeMemory().recall(transition.ended)
            return self.remembering_outcome(transition, recall)
        ended = np.flatnonzero(transition.ended)
        # Computing outcomes of all steps would cost more than the other terms.
        if not len(ended):
            return np.array([], dtype=str)
        return evaluate_rows(lambda part, _: self.outcome(part), transition.take(ended))

    def controller(self, policy: Any) -> Any:
        """Register a hand-written policy under its lower-case name; return it.

        A function maps one observation (observation size,) to an action. A class is a policy with
        memory: each instance plays one episode.

        Raises:
            ValueError: the name is taken.
        """
        name = policy.__name__.lower()
        if name in self.controllers:
            raise ValueError(f"{self.id} already has a controller named {name!r}")
        make = policy if isinstance(policy, type) else lambda: policy
        self.controllers[name] = Controller(name, (policy.__doc__ or "").strip(), make)
        return policy

    def state_term(self, function: StateFunction) -> StateFunction:
        """Register a term that depends on the state only; its docstring is its formula.

        The function maps N states (N, observation size) to values (N,).

        Raises:
            ValueError: the name is taken.
        """
        self._add(function, state_only=True)
        return function

    def action_term(self, function: Callable[[Transition], Array]) -> Callable[[Transition], Array]:
        """Register a term that depends on the whole transition; its docstring is its formula.

        The function maps N transitions to values (N,).

        Raises:
            ValueError: the name is taken.
        """
        self._add(function, state_only=False)
        return function

    def _add(self, function: Callable[[Any], Array], *, state_only: bool) -> None:
        name = function.__name__
        if name in self.terms:
            raise ValueError(f"{self.id} already has a term named {name!r}")
        self.terms[name] = Term(name, (function.__doc__ or "").strip(), function, state_only)


def scalar_reward(reward: Any) -> float:
    """Return the reward of one step as a number; an array of one entry is one.

    Raises:
        ValueError: the reward is a vector.
    """
    if np.size(reward) != 1:
        raise ValueError(
            f"the environment's reward is an array of shape {np.shape(reward)}, not a number; "
            "combine its entries in a wrapper of the environment first"
        )
    return float(np.reshape(reward, ())) if np.ndim(reward) else float(reward)
