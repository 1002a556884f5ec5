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
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from shaperun.study import RewardConfig, check_potential
from shaperun.terms import Array, Environment, Transition


@dataclass(frozen=True, slots=True)
class Rewards:
    """What the kernel makes of N transitions: raw term values (N, K) and three rewards (N,).

    `shaping` is what the terms come to. In the mode `log` it is only recorded, and `shaped`,
    the reward that the learner sees, equals `env_reward`.
    """

    raw: Array
    env_reward: Array
    shaping: Array
    shaped: Array


class RewardKernel:
    """One arm's reward on one environment.

    Args:
        environment: declares the terms.
        config: weighs them.
        gamma: the learner's own discount factor; needed in the mode `potential`.

    Raises:
        ValueError: a weighted term does not exist, depends on the action in the mode
            `potential`, or γ is missing there.
    """

    def __init__(
        self, environment: Environment, config: RewardConfig, gamma: float | None = None
    ) -> None:
        unknown = config.weights.keys() - environment.terms.keys()
        if unknown:
            raise ValueError(
                f"{environment.id} has no term named {', '.join(sorted(unknown))}; "
                f"it has {', '.join(environment.terms)}"
            )
        if config.mode == "potential":
            check_potential(environment, config.weights)
            if gamma is None:
                raise ValueError("the mode potential needs the learner's gamma")
        self.mode = config.mode
        self.gamma = gamma or 0.0
        self.terms = tuple(environment.terms.values())
        self.names = tuple(environment.terms)
        self.weights = config.scale * np.array([config.weights.get(n, 0.0) for n in self.names])

    def __call__(self, transition: Transition) -> Rewards:
        """Evaluate every term, weighted or not, and the arm's reward.

        Raises:
            FloatingPointError: a term or the reward is not finite; the message names it.
        """
        with np.errstate(all="ignore"):  # what comes of it is checked, and said in better words
            raw = np.empty((len(transition), len(self.terms)))
            for column, term in enumerate(self.terms):
                raw[:, column] = term(transition)
            raw += 0.0  # turns −0.0 into 0.0, which reads better wherever it is written
            shaping = raw @ self.weights
            if self.mode == "potential":
                after = np.where(transition.terminated, 0.0, shaping)
                shaping = self.gamma * after - self.potential(transition.obs)
            shaped = self.shaped(transition.env_reward, shaping)
        finite = (np.isfinite(values).all() for values in (raw, transition.env_reward, shaped))
        if not all(finite):
            raise FloatingPointError(self._what_is_not_finite(raw, transition))
        return Rewards(raw, transition.env_reward, shaping, shaped)

    def state_values(self, obs: Array) -> Array:
        """Raw values (N, K) of the terms at observations (N, …); 0 for terms of the action."""
        values = [t.function(obs) if t.state_only else np.zeros(len(obs)) for t in self.terms]
        return np.stack(values, axis=1) + 0.0 if values else np.zeros((len(obs), 0))

    def potential(self, obs: Array) -> Array:
        """Φ (N,) of observations (N, observation size)."""
        total = np.zeros(len(obs))
        for term, weight in zip(self.terms, self.weights, strict=True):
            if weight:
                total += weight * term.function(obs)
        return total

    def shaped(self, env_reward: Array, shaping: Array) -> Array:
        """What the learner sees; sums over an episode may stand in for single steps."""
        if self.mode == "log":
            return env_reward
        return shaping if self.mode == "replace" else env_reward + shaping

    def episode_shaping(self, sums: Array, first: Array, last: Array, terminated: Array) -> Array:
        """The undiscounted shaping (N,) of whole episodes from their recorded term values.

        Args:
            sums: raw term values summed over the states s₁ … s_T after each step, (N, K).
            first: state-term values at s₀, (N, K); zero for terms of the action.
            last: the same at the last state s_T.
            terminated: whether each episode terminated (1) or was truncated (0), (N,).
        """
        parts = self.episode_contributions(sums, first, last, terminated)
        return np.asarray(parts.sum(axis=1))

    def episode_contributions(
        self, sums: Array, first: Array, last: Array, terminated: Array
    ) -> Array:
        """The same, term by term: (N, K)."""
        if self.mode != "potential":
            return sums * self.weights
        # Σ γ Φ(s′) leaves out Φ(s_T) where the episode terminated; Σ Φ(s) starts at s₀ instead.
        after = sums - terminated[:, None] * last
        before = sums - last + first
        return (self.gamma * after - before) * self.weights

    def _what_is_not_finite(self, raw: Array, transition: Transition) -> str:
        # In the mode potential the state before the step counts as well.
        before = self.state_values(transition.obs)
        for values, obs in ((raw, transition.next_obs), (before, transition.obs)):
            for row, column in np.argwhere(~np.isfinite(values)):
                return (
                    f"the term {self.names[column]} is {values[row, column]} "
                    f"at the observation {obs[row].tolist()}"
                )
        if not np.isfinite(transition.env_reward).all():
            return "the environment's reward is not finite"
        return "the shaped reward is not finite"


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
