"""The reward kernel: computes the reward that the learner sees, and its parts, for transitions.

This is the only implementation of the reward arithmetic in Python. With environment reward r, raw
term values c, weights w and S = scale · Σ w c, the learner sees

    log        r
    add        r + S
    replace    S
    potential  r + γ Φ(s′) − Φ(s), where Φ(s) = scale · Σ w c(s)

Potential-based shaping does not change the optimal policy (Ng, Harada & Russell 1999), provided
that Φ is 0 where an episode ends (Grześ 2017). A truncated episode has not ended for a learner that
bootstraps from its last observation, so there Φ(s′) stays; for any other learner the time limit is
an end, and Φ(s′) is 0.

With a schedule, which has a factor f(t) at training progress t, the learner sees

    add        r + f(t) S
    replace    (1 − f(t)) r + f(t) S
    potential  r + γ f(t′) Φ(s′) − f(t) Φ(s)

where t′ is the progress at the next step: a potential may change over time without changing the
optimal policy (Devlin & Kudenko 2012).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NoReturn

import numpy as np
import numpy.typing as npt

from shaperun.common.errors import describe_exception
from shaperun.common.text import truncate
from shaperun.common.validation import is_number
from shaperun.envs.base import OWN_REWARD, Array, Environment, Term, Transition
from shaperun.envs.memory import EpisodeMemory, Recall
from shaperun.rewards.config import RewardConfig, check_potential, define_term, shaping_factor
from shaperun.rewards.formula import ExpressionError
from shaperun.rewards.python_term import StateFunctionError

Progress = tuple[float | Array, float | Array]
"""Share of training done at s and at s′, for all transitions or for each one (N,)."""

START: Progress = (0.0, 0.0)

MAX_VALUE = 1e70
"""Largest value of a term or of shaping: sums over the longest episodes have finite squares."""
MAX_REWARD = 1e38
"""Largest reward: learners compute in single precision."""


@dataclass(frozen=True, slots=True)
class Rewards:
    """Rewards of N transitions, and their parts."""

    raw: Array  # raw values of K terms, (N, K)
    env_reward: Array  # rewards of the environment, (N,)
    shaping: Array  # weighted terms times the factor, (N,); in mode log only recorded
    shaped: Array  # rewards that the learner sees, (N,)
    schedule: float | Array  # factor of the schedule, for all transitions or each one (N,)


class RewardError(FloatingPointError):
    """Error in evaluating a term, or a value that is not finite; at transition `row` if known."""

    def __init__(self, message: str, row: int | None = None) -> None:
        super().__init__(message)
        self.row = row

    def at(self, episode: int, step: int) -> RewardError:
        """Return the error with its position in training; both numbers count from 0.

        If the row is unknown, so is the position, and the error is unchanged.
        """
        if self.row is None:
            return self
        return RewardError(f"{self} (episode {episode}, step {step})", self.row)


class RewardKernel:
    """Reward of one arm on one environment.

    Args:
        environment: environment that declares terms.
        config: reward that defines further terms and the weights.
        gamma: discount factor of the learner; required in mode `potential`.
        bootstraps: whether the learner bootstraps from the last observation of truncated episodes.

    Raises:
        ValueError: a weighted term is unknown, a term of a potential depends on more than the
            state, a formula is invalid, or γ is missing or not from 0 to 1.
    """

    def __init__(
        self,
        environment: Environment,
        config: RewardConfig,
        gamma: float | None = None,
        *,
        bootstraps: bool = True,
    ) -> None:
        if gamma is not None and not (is_number(gamma) and 0 <= gamma <= 1):
            raise ValueError(f"gamma must be a number from 0 to 1, not {gamma!r}")
        terms = _resolve_terms(environment, config)
        if config.mode == "potential":
            check_potential(environment, config.terms, config.weights)
            if gamma is None:
                raise ValueError(
                    "mode potential requires gamma, the discount factor of the learner"
                )
        self.mode = config.mode
        self.gamma = gamma or 0.0
        self.bootstraps = bootstraps
        self.terms = tuple(terms.values())
        self._environment_reads_info = environment.reads_info
        self.names = tuple(terms)
        self.weights = config.scale * np.array([config.weights.get(n, 0.0) for n in self.names])
        self.scheduled = config.schedule is not None
        self.factor = shaping_factor(config)

    def __call__(
        self,
        transition: Transition,
        progress: Progress = START,
        memory: EpisodeMemory | None = None,
    ) -> Rewards:
        """Evaluate all terms, weighted or not, and the reward of N transitions.

        `memory` is of the episodes that the transitions continue, and remembers them unless an
        error is raised; without it, the transitions are whole episodes, one after the other.

        Raises:
            RewardError: a term raised, or a term or reward is not finite; the message names it.
        """
        now, then = map(self._factors, progress)
        memory = memory or EpisodeMemory()
        recall = memory.recall(transition.ended)
        with np.errstate(all="ignore"):  # checked below, with clearer messages
            raw = self._raw_values(transition, recall)
            raw += 0.0  # turns −0.0 into 0.0 for readability in tables
            shaping = raw @ self.weights
            if self.mode == "potential":
                after = np.where(self.is_final(transition), 0.0, shaping) * then
                shaping = self.gamma * after - now * self.potential(transition.obs)
            elif self.scheduled:
                shaping *= now
            shaped = self.shaped_reward(transition.env_reward, shaping, now)
        if not (
            _in_range(raw, MAX_VALUE).all()
            and _in_range(shaping, MAX_VALUE).all()
            and _in_range(transition.env_reward, MAX_REWARD).all()
            and _in_range(shaped, MAX_REWARD).all()
        ):
            self._raise_range_error(raw, transition, shaping, shaped)
        memory.commit(recall)
        return Rewards(raw, transition.env_reward, shaping, shaped, now)

    def _factors(self, progress: float | Array) -> float | Array:
        if isinstance(progress, float):
            return self.factor(progress)
        shares, inverse = np.unique(progress, return_inverse=True)
        return np.array([self.factor(float(share)) for share in shares])[inverse]

    def _raw_values(self, transition: Transition, recall: Recall) -> Array:
        raw, column = np.empty((len(transition), len(self.terms))), 0
        try:
            for column, term in enumerate(self.terms):
                raw[:, column] = term(transition, recall)
        except StateFunctionError as error:
            raise RewardError(f"the term {self.names[column]}: {error}") from error
        except (KeyboardInterrupt, GeneratorExit):
            raise
        except BaseException as error:  # a function of a user may raise anything, SystemExit too
            message = f"the term {self.names[column]} failed: {describe_exception(error)}"
            raise RewardError(message, _first_failure(self.terms[column], transition)) from error
        return raw

    @property
    def reads_info(self) -> bool:
        """True if the transitions must have their info."""
        return self._environment_reads_info or any(term.may_need("info") for term in self.terms)

    @property
    def uses_env_reward(self) -> bool:
        """True if the learner's reward depends on the environment's at the start of training.

        Also true where that is unknown.
        """
        if self.mode != "replace" or self.factor(0.0) != 1.0:
            return True
        weighted = [t for t, w in zip(self.terms, self.weights, strict=True) if w]
        return any(term.may_need("env_reward") for term in weighted)

    def state_values(self, obs: Array) -> Array:
        """Compute raw values (N, K) of state terms at observations (N, …); 0 for other terms."""
        values = np.zeros((len(obs), len(self.terms)))
        with np.errstate(all="ignore"):
            for column, term in enumerate(self.terms):
                if term.state_only:
                    values[:, column] = term.at_states(obs)
        return values + 0.0

    def is_final(self, transition: Transition) -> npt.NDArray[np.bool_]:
        """Return the mask (N,) of transitions after which the potential is 0."""
        return transition.terminated if self.bootstraps else transition.ended

    def potential(self, obs: Array) -> Array:
        """Compute Φ (N,) of observations (N, observation size)."""
        total = np.zeros(len(obs))
        for term, weight in zip(self.terms, self.weights, strict=True):
            if weight:
                total += weight * term.at_states(obs)
        return total

    def shaped_reward(
        self, env_reward: Array, shaping: Array, schedule: float | Array = 1.0
    ) -> Array:
        """Compute the rewards that the learner sees, for single steps or sums over episodes."""
        if self.mode == "log":
            return env_reward
        if self.mode == "replace":
            return shaping + (1.0 - schedule) * env_reward if self.scheduled else shaping
        return env_reward + shaping

    def contributions_from_sums(
        self,
        sums: Array,
        first: Array,
        last: Array,
        final: Array,
        schedule: float | Array = 1.0,
    ) -> Array:
        """Compute undiscounted shaping by term, (N, K), from recorded values of N episodes.

        Args:
            sums: raw term values summed over the states s₁ … s_T after each step, (N, K).
            first: values of state terms at s₀, (N, K); 0 for other terms.
            last: values of state terms at the last state s_T, (N, K).
            final: 1 for episodes after which the potential is 0, and 0 for others, (N,).
            schedule: factor of the schedule, for all episodes or for each one, (N,).
        """
        weights = np.multiply.outer(schedule, self.weights)
        if self.mode != "potential":
            return sums * weights
        # Σ γ Φ(s′) lacks Φ(s_T) after the end; Σ Φ(s) runs from s₀ to s_{T−1}.
        after = sums - final[:, None] * last
        before = sums - last + first
        return (self.gamma * after - before) * weights

    def returns_by_term(
        self, parts: Array, env_return: Array, schedule: float | Array = 1.0
    ) -> dict[str, Array]:
        """Split the shaped returns (N,) of N episodes by term, given its contributions (N, K).

        The environment's reward counts as the term `environment` if the learner sees it.
        """
        if self.mode == "log":
            return {OWN_REWARD: env_return}
        returns = {name: parts[:, k] for k, name in enumerate(self.names) if self.weights[k]}
        env_share = self.shaped_reward(np.ones(1), np.zeros(1), schedule)
        if not env_share.any():
            return returns
        return {OWN_REWARD: env_share * env_return + returns.pop(OWN_REWARD, 0.0), **returns}

    def check_states(self, obs: Array) -> Array:
        """Compute `state_values`.

        Raises:
            RewardError: a value is not finite or out of range; the message names the term.
        """
        values = self.state_values(obs)
        self._check_terms(values, obs)
        return values

    def _check_terms(self, values: Array, obs: Array) -> None:
        for row, column in np.argwhere(~_in_range(values, MAX_VALUE)):
            value, where = values[row, column], truncate(str(obs[row].tolist()), 200)
            beyond = ", out of range," if np.isfinite(value) else ""
            message = f"the term {self.names[column]} is {value}{beyond} at the observation {where}"
            raise RewardError(message, int(row))

    def _raise_range_error(
        self, raw: Array, transition: Transition, shaping: Array, shaped: Array
    ) -> NoReturn:
        self._check_terms(raw, transition.next_obs)
        self.check_states(transition.obs)  # used in mode potential
        valid = _in_range(transition.env_reward, MAX_REWARD)
        if not valid.all():
            row = int(np.argmin(valid))
            fault = _fault(transition.env_reward[row])
            raise RewardError(f"the environment's reward is {fault}", row)
        name, values, valid = "shaped reward", shaped, _in_range(shaped, MAX_REWARD)
        if valid.all():
            name, values, valid = "shaping", shaping, _in_range(shaping, MAX_VALUE)
        row = int(np.argmin(valid))
        parts = np.abs(raw[row] * self.weights)
        cause = f"weight of {self.names[int(np.argmax(parts))]}" if parts.any() else "schedule"
        raise RewardError(f"the {name} is {_fault(values[row])}; lower the {cause}", row)


def _first_failure(term: Term, transition: Transition) -> int | None:
    """Return the first row at which a term raises when evaluated alone; None if all succeed."""
    if len(transition) == 1:
        return 0
    for row in range(len(transition)):
        try:
            term(transition.take(np.array([row])))
        except BaseException:
            return row
    return None


def _resolve_terms(environment: Environment, config: RewardConfig) -> dict[str, Term]:
    """Return the terms of the environment and of the arm, and all other terms it weights."""
    defined = {}
    for name, definition in config.terms.items():
        try:
            defined[name] = define_term(environment, name, definition)
        except ExpressionError as error:
            raise ValueError(f"the term {name}: {error}") from None
    known = environment.built_in | defined
    unknown = config.weights.keys() - known.keys()
    if unknown:
        raise ValueError(
            f"unknown {environment.id} term {', '.join(sorted(unknown))}; "
            f"choose from {', '.join(known)}"
        )
    # Built-in terms for outcomes and the environment's reward are recorded elsewhere anyway.
    return environment.terms | defined | {name: known[name] for name in config.weights}


def _in_range(values: Array, limit: float) -> npt.NDArray[np.bool_]:
    """Return where values are at most a limit in size, which NaN is not."""
    return np.asarray(np.abs(values) <= limit)


def _fault(value: float) -> str:
    return f"out of range ({value:.3g})" if np.isfinite(value) else "not finite"


def check_sums(name: str, recorded: Array, derived: Array) -> None:
    """Check that two computations of the same number agree up to the rounding of long sums.

    Raises:
        ArithmeticError: they differ, or a value is not finite.
    """
    if not (np.isfinite(recorded).all() and np.isfinite(derived).all()):
        raise ArithmeticError(f"the {name} is not finite; lower the weights of the reward")
    # np.allclose would be slower, and this runs at the end of every episode.
    if not (np.abs(recorded - derived) <= 1e-6 + 1e-9 * np.abs(derived)).all():
        raise ArithmeticError(
            f"the {name} was recorded as {recorded.tolist()}, "
            f"but its parts add up to {derived.tolist()}"
        )
