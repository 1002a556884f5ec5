"""The kernel: a batch of transitions in, the reward that the learner sees out, with every column.

This is the only implementation of the reward arithmetic. With environment reward r, raw term
values c, weights w and S = scale · Σ w c, the learner sees

    log        r
    add        r + S
    replace    S
    potential  r + γ Φ(s′) − Φ(s), where Φ(s) = scale · Σ w c(s)

Potential-based shaping leaves the optimal policy as it is (Ng, Harada & Russell 1999), provided
that Φ is 0 where an episode terminates (Grześ 2017). Where an episode was only truncated the
learner bootstraps from the last observation, so for it the episode goes on and Φ(s′) stays.

A schedule has a factor f for every moment t of training. Then the learner sees

    add        r + f(t) S
    replace    (1 − f(t)) r + f(t) S
    potential  r + γ f(t′) Φ(s′) − f(t) Φ(s)

with t′ the moment of the next step: a potential that changes over time is as safe as one that
does not (Devlin & Kudenko 2012).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from shaperun.envs.base import OWN_REWARD, Array, Environment, Term, Transition
from shaperun.rewards.config import RewardConfig, check_potential, define_term, shaping_factor

Progress = tuple[float | Array, float | Array]
"""Which share of training was done at s and is done at s′; of all transitions, or of each (N,)."""

START: Progress = (0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Rewards:
    """What the kernel makes of N transitions: raw term values (N, K) and three rewards (N,).

    `shaping` is what the terms come to, times `schedule`, the factor of the moment, or of each
    (N,). In the mode `log` it is only recorded, and `shaped`, the reward that the learner sees,
    equals `env_reward`.
    """

    raw: Array
    env_reward: Array
    shaping: Array
    shaped: Array
    schedule: float | Array


class RewardError(FloatingPointError):
    """A term raised, or a value is not finite; `row` says at which transition, if one is known."""

    def __init__(self, message: str, row: int | None = None) -> None:
        super().__init__(message)
        self.row = row

    def at(self, episode: int, step: int) -> RewardError:
        """The same, with the place where it happened; both count from 0."""
        return RewardError(f"{self} (episode {episode}, step {step})", self.row)


class RewardKernel:
    """One arm's reward on one environment.

    Args:
        environment: declares the terms.
        config: defines further ones and weighs them.
        gamma: the learner's own discount factor; needed in the mode `potential`.

    Raises:
        ValueError: a weighted term does not exist, depends on the action in the mode
            `potential`, a formula will not do, or γ is missing.
    """

    def __init__(
        self, environment: Environment, config: RewardConfig, gamma: float | None = None
    ) -> None:
        terms = _terms(environment, config)
        if config.mode == "potential":
            check_potential(environment, config.terms, config.weights)
            if gamma is None:
                raise ValueError("the mode potential needs the learner's gamma")
        self.mode = config.mode
        self.gamma = gamma or 0.0
        self.terms = tuple(terms.values())
        self.names = tuple(terms)
        self.weights = config.scale * np.array([config.weights.get(n, 0.0) for n in self.names])
        self.scheduled = config.schedule is not None
        self.factor = shaping_factor(config)

    def __call__(self, transition: Transition, progress: Progress = START) -> Rewards:
        """Evaluate every term, weighted or not, and the arm's reward.

        Args:
            transition: N of them.
            progress: where training was and is, for rewards with a schedule.

        Raises:
            RewardError: a term raised, or it or the reward is not finite; the message names it.
        """
        now, then = map(self._factors, progress)
        with np.errstate(all="ignore"):  # what comes of it is checked, and said in better words
            raw = self._raw(transition)
            raw += 0.0  # turns −0.0 into 0.0, which reads better wherever it is written
            shaping = raw @ self.weights
            if self.mode == "potential":
                after = np.where(transition.terminated, 0.0, shaping) * then
                shaping = self.gamma * after - now * self.potential(transition.obs)
            elif self.scheduled:
                shaping *= now
            shaped = self.shaped(transition.env_reward, shaping, now)
        finite = (np.isfinite(values).all() for values in (raw, transition.env_reward, shaped))
        if not all(finite):
            raise self._non_finite_error(raw, transition, shaped)
        return Rewards(raw, transition.env_reward, shaping, shaped, now)

    def _factors(self, progress: float | Array) -> float | Array:
        """The factor of a moment, or of each."""
        if isinstance(progress, float):
            return self.factor(progress)
        moments, which = np.unique(progress, return_inverse=True)
        return np.array([self.factor(float(moment)) for moment in moments])[which]

    def _raw(self, transition: Transition) -> Array:
        raw, column = np.empty((len(transition), len(self.terms))), 0
        try:
            for column, term in enumerate(self.terms):
                raw[:, column] = term(transition)
        except Exception as error:  # whatever somebody's function raises
            what = f"the term {self.names[column]} failed: {type(error).__name__}: {error}"
            raise RewardError(what, _first_failure(self.terms[column], transition)) from error
        return raw

    @property
    def pays_own_reward(self) -> bool:
        """Whether the environment's own reward is a part of what the learner sees, at the start."""
        if self.mode != "replace" or self.factor(0.0) != 1.0:
            return True
        weighted = [t for t, w in zip(self.terms, self.weights, strict=True) if w]
        return any(t.name == OWN_REWARD or "env_reward" in t.formula for t in weighted)

    def state_values(self, obs: Array) -> Array:
        """Raw values (N, K) of the terms at observations (N, …); 0 for terms of the action."""
        values = np.zeros((len(obs), len(self.terms)))
        with np.errstate(all="ignore"):
            for column, term in enumerate(self.terms):
                if term.state_only:
                    values[:, column] = term.function(obs)
        return values + 0.0

    def potential(self, obs: Array) -> Array:
        """Φ (N,) of observations (N, observation size)."""
        total = np.zeros(len(obs))
        for term, weight in zip(self.terms, self.weights, strict=True):
            if weight:
                total += weight * term.function(obs)
        return total

    def shaped(self, env_reward: Array, shaping: Array, schedule: float | Array = 1.0) -> Array:
        """What the learner sees; sums over an episode may stand in for single steps."""
        if self.mode == "log":
            return env_reward
        if self.mode == "replace":
            return shaping + (1.0 - schedule) * env_reward if self.scheduled else shaping
        return env_reward + shaping

    def episode_shaping(
        self, sums: Array, first: Array, last: Array, terminated: Array, schedule: float = 1.0
    ) -> Array:
        """The undiscounted shaping (N,) of whole episodes from their recorded term values.

        Args:
            sums: raw term values summed over the states s₁ … s_T after each step, (N, K).
            first: state-term values at s₀, (N, K); zero for terms of the action.
            last: the same at the last state s_T.
            terminated: whether each episode terminated (1) or was truncated (0), (N,).
            schedule: the factor, the same throughout the episodes.
        """
        parts = self.contributions_from_sums(sums, first, last, terminated, schedule)
        return np.asarray(parts.sum(axis=1))

    def contributions_from_sums(
        self, sums: Array, first: Array, last: Array, terminated: Array, schedule: float = 1.0
    ) -> Array:
        """The same, term by term: (N, K)."""
        weights = schedule * self.weights
        if self.mode != "potential":
            return sums * weights
        # Σ γ Φ(s′) leaves out Φ(s_T) where the episode terminated; Σ Φ(s) starts at s₀ instead.
        after = sums - terminated[:, None] * last
        before = sums - last + first
        return (self.gamma * after - before) * weights

    def returns_by_term(
        self, parts: Array, env_return: Array, schedule: float = 1.0
    ) -> dict[str, Array]:
        """What the learner was paid in N episodes, by term: together the shaped returns (N,).

        The environment's own reward counts as the term `environment` where the learner sees it.

        Args:
            parts: as `contributions_from_sums` gives them, (N, K).
            env_return: the environment returns, (N,).
            schedule: the factor, the same throughout the episodes.
        """
        if self.mode == "log":
            return {OWN_REWARD: env_return}
        paid = {name: parts[:, k] for k, name in enumerate(self.names) if self.weights[k]}
        kept = self.shaped(np.ones(1), np.zeros(1), schedule)  # the share of the own reward
        if not kept.any():
            return paid
        return {OWN_REWARD: kept * env_return + paid.pop(OWN_REWARD, 0.0), **paid}

    def _non_finite_error(self, raw: Array, transition: Transition, shaped: Array) -> RewardError:
        # In the mode potential the state before the step counts as well.
        before = self.state_values(transition.obs)
        for values, obs in ((raw, transition.next_obs), (before, transition.obs)):
            for row, column in np.argwhere(~np.isfinite(values)):
                return RewardError(
                    f"the term {self.names[column]} is {values[row, column]} "
                    f"at the observation {obs[row].tolist()}",
                    int(row),
                )
        if not np.isfinite(transition.env_reward).all():
            row = int(np.argmin(np.isfinite(transition.env_reward)))
            return RewardError("the environment's reward is not finite", row)
        return RewardError("the shaped reward is not finite", int(np.argmin(np.isfinite(shaped))))


def _first_failure(term: Term, transition: Transition) -> int | None:
    """The first transition that a term fails at by itself, if there is one."""
    for row in range(len(transition)):
        try:
            term(transition.take(np.array([row])))
        except Exception:
            return row
    return None


def _terms(environment: Environment, config: RewardConfig) -> dict[str, Term]:
    """The terms of an arm: all of the environment's and its own, and what else it weighs."""
    own = {name: define_term(environment, name, given) for name, given in config.terms.items()}
    terms = environment.terms | own
    there = environment.built_in | own
    unknown = config.weights.keys() - there.keys()
    if unknown:
        raise ValueError(
            f"{environment.id} has no term named {', '.join(sorted(unknown))}; "
            f"it has {', '.join(there)}"
        )
    # How an episode ended and what the environment paid are recorded anyway.
    return terms | {name: there[name] for name in config.weights}


def check_identity(what: str, recorded: Array, derived: Array) -> None:
    """Two ways to the same number must agree, up to the rounding of long sums.

    Raises:
        ArithmeticError: they do not; a recorded figure could not be believed.
    """
    # np.allclose in one line: this is asked at the end of every episode. NaN is no agreement.
    if not (np.abs(recorded - derived) <= 1e-6 + 1e-9 * np.abs(derived)).all():
        raise ArithmeticError(
            f"the {what} was recorded as {recorded.tolist()}, "
            f"but its parts add up to {derived.tolist()}"
        )
