"""Terms, controllers, and the declaration of an environment."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from shaperun.common.errors import ContractError, describe_exception
from shaperun.common.text import truncate
from shaperun.envs.contract import RESERVED as RESERVED
from shaperun.envs.contract import check_outcomes, check_shape
from shaperun.envs.info import InfoError
from shaperun.envs.layout import Layout, layout_size
from shaperun.envs.memory import EpisodeMemory, Recall
from shaperun.envs.transition import Array as Array
from shaperun.envs.transition import Transition as Transition
from shaperun.envs.transition import evaluate_floats, evaluate_rows

Bounds = tuple[float, float]
ActionSpace = Literal["Discrete", "Box", "MultiDiscrete", "MultiBinary"]
Need = Literal["env_reward", "info", "memory"]
StateFunction = Callable[[Array], Array]

MIN_PICTURE = 36  # pixels on each side, below which the layers of NatureCNN have no room

OWN_REWARD = "environment"
"""Name under which the environment's reward can be weighted like a term."""


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
        return evaluate_floats(self.function, obs)


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
    described: str = ""
    """The space of observations before it is flattened, as `describe_space` has it, if known."""
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
    adapt: Callable[[Environment, Mapping[str, Any]], Environment] | None = None
    """Function from the declaration and the environment's options to the one that holds with them,
    where options change terms, outcomes or metrics."""
    render_options: Callable[[Mapping[str, Any]], Mapping[str, Any]] | None = None
    """Function from the environment's options to those that rendering adds."""
    before_render: Callable[[Any], None] | None = None
    """Hook that is called with the unwrapped environment if it will render."""
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

        Raises:
            ContractError: the function of outcomes raised, or returned what it must not.
            InfoError: it read an entry of info that is missing or not a number.
        """
        try:
            if self.remembering_outcome:
                recall = recall or EpisodeMemory().recall(transition.ended)
                named = self.remembering_outcome(transition, recall)
                return np.asarray(check_outcomes(self, named, int(transition.ended.sum())))
            ended = np.flatnonzero(transition.ended)
            # Computing outcomes of all steps would cost more than the other terms.
            if not len(ended):
                return np.array([], dtype=str)
            return evaluate_rows(
                lambda part, _: check_outcomes(self, self.outcome(part), len(part)),
                transition.take(ended),
            )
        except (ContractError, InfoError):
            raise
        except Exception as error:  # a function of the user may raise anything
            raise ContractError(
                f"the outcome of {self.id} failed: {describe_exception(error)}"
            ) from error

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

        def checked(argument: Any) -> Array:
            values = function(argument)
            check_shape(values, len(argument))
            return values

        self.terms[name] = Term(name, (function.__doc__ or "").strip(), checked, state_only)


def scalar_reward(reward: Any) -> float:
    """Return the reward of one step as a number; an array of one entry is one.

    Raises:
        ContractError: the reward is a vector, or no number.
    """
    if np.size(reward) != 1:
        raise ContractError(
            f"the environment's reward is an array of shape {np.shape(reward)}, not a number; "
            "combine its entries in a wrapper of the environment first"
        )
    try:
        return float(np.reshape(reward, ())) if np.ndim(reward) else float(reward)
    except (TypeError, ValueError):
        raise ContractError(
            f"the environment's reward is {truncate(repr(reward))}, not a number; correct the "
            "environment"
        ) from None
