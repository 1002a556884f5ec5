"""Distances between rewards, independent of training.

Both distances between rewards R₁ and R₂ are √((1 − ρ) / 2) with a Pearson correlation ρ: 0 for
rewards that differ by a positive factor and a constant, 1 for a reward and its negative.

- **Pearson**: ρ of the rewards paid on the recorded transitions, ends of episodes included.
- **EPIC** (Gleave et al. 2021, arXiv:2006.13900): ρ of the canonical rewards

      C(R)(s, a, s′) = R(s, a, s′) + E[γ R(s′, A, S′) − R(s, A, S′) − γ R(S, A, S′)]

  which potential-based shaping does not change. S, A and S′ are drawn from the recorded
  transitions, every state with every action and next state, so EPIC also covers transitions that
  never occurred and needs rewards that are functions of any transition. For the environment's
  reward, its module must declare that function; rewards that depend on more than the transition
  (LunarLander's ±100) are left out, as are Python functions of transitions, which may; and no
  transition ends an episode.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from shaperun.check.behaviors import Behavior
from shaperun.envs.base import OWN_REWARD, Array, Environment, Transition
from shaperun.rewards.kernel import RewardKernel

SAMPLES = 256  # transitions; EPIC evaluates rewards on the square of this number

Matrix = npt.NDArray[np.float64]
Reward = Callable[[Transition], Array]


@dataclass(frozen=True)
class Distances:
    """Distances (K, K) between the named rewards; NaN where undefined, as `note` explains."""

    names: list[str]
    pearson: Matrix
    epic: Matrix
    note: str


def reward_distances(
    environment: Environment,
    kernels: Mapping[str, RewardKernel],
    behaviors: Sequence[Behavior],
    shaped: Mapping[str, Array],
    gamma: float,
) -> Distances:
    """Compute the distances between the environment's reward, which comes first, and every arm's.

    Arms without shaping are left out; all behaviors have the same weight. `shaped` has each arm's
    shaped rewards (N,) on the transitions of all behaviors, in their order.
    """
    kernels = {arm: kernel for arm, kernel in kernels.items() if kernel.mode != "log"}
    names = [OWN_REWARD, *kernels]
    env_reward = np.concatenate([b.transition.env_reward for b in behaviors])
    weights = np.concatenate([np.full(len(b.ages), 1.0 / len(b.ages)) for b in behaviors])
    pearson = _distance_matrix([env_reward, *(shaped[name] for name in kernels)], weights)
    rewards = [
        None if environment.reads_info else environment.own_reward,
        *(_reward_function(k, environment) for k in kernels.values()),
    ]
    sample = _TransitionSample(behaviors)
    canonical = [sample.canonical(r, gamma) if r else None for r in rewards]
    epic = _distance_matrix(canonical, np.ones(len(sample.transition)))
    return Distances(names, pearson, epic, _note(environment))


def _note(environment: Environment) -> str:
    pearson = (
        "Pearson compares the rewards paid on the recorded steps, ends of episodes included; – "
        "marks a reward that is the same on every step."
    )
    if environment.own_reward is None:
        return (
            f"{pearson} EPIC needs rewards as functions of any transition; {environment.id} "
            "declares none, so EPIC is missing for rewards that include the environment's."
        )
    return (
        f"{pearson} EPIC ignores potential-based shaping and covers every state with every action; "
        f"it leaves out rewards of {environment.id} that depend on more than the transition, and "
        "Python functions of transitions, which may."
    )


def _reward_function(kernel: RewardKernel, environment: Environment) -> Reward | None:
    """Return an arm's reward as a function of any transition; None if it is unknown."""
    weighted = [term for term, w in zip(kernel.terms, kernel.weights, strict=True) if w]
    if any(
        term.may_need("info", "memory") or (environment.reads_info and not term.state_only)
        for term in weighted
    ):
        return None
    env_reward = None if environment.reads_info else environment.own_reward
    if not kernel.uses_env_reward:
        env_reward = env_reward or (lambda transition: np.zeros(len(transition)))
    if env_reward is None:
        return None

    def reward(transition: Transition) -> Array:
        return kernel(replace(transition, env_reward=env_reward(transition))).shaped

    return reward


class _TransitionSample:
    """The same number of transitions from each behavior, and all combinations of their parts."""

    def __init__(self, behaviors: Sequence[Behavior]) -> None:
        rng = np.random.default_rng(0)
        size = -(-SAMPLES // len(behaviors))
        parts = []
        for behavior in behaviors:
            inside = np.flatnonzero(~behavior.transition.ended)
            chosen = rng.choice(inside if len(inside) else np.arange(1), size)
            parts.append(behavior.transition.take(np.sort(chosen)))
        self.transition = Transition.concatenate(parts)

    def canonical(self, reward: Reward, gamma: float) -> Array:
        """Return the canonical reward of the transitions (n,)."""
        here = self._mean_from(reward, self.transition.obs)
        after = self._mean_from(reward, self.transition.next_obs)
        return reward(self.transition) + gamma * after - here - gamma * float(here.mean())

    def _mean_from(self, reward: Reward, states: Array) -> Array:
        """Return E[R(s, A, S′)] of each state (n,) over the sample's actions and next states."""
        n = len(self.transition)
        tiled = self.transition.take(np.tile(np.arange(n), len(states)))
        crossed = replace(tiled, obs=np.repeat(states, n, axis=0))
        means: Array = np.mean(reward(crossed).reshape(len(states), n), axis=1)
        return means


def _distance_matrix(rewards: Sequence[Array | None], weights: Array) -> Matrix:
    """Return √((1 − ρ) / 2) with weighted correlations ρ; NaN for a reward constant or None."""
    share = weights / weights.sum()
    missing = np.full(len(share), np.nan)
    unit = np.stack([missing if r is None else _standardize(r, share) for r in rewards])
    result: Matrix = np.sqrt((1.0 - unit @ unit.T).clip(min=0.0) / 2.0)
    known = np.array([reward is not None for reward in rewards])
    result[known, known] = 0.0
    return result


def _standardize(reward: Array, share: Array) -> Array:
    """Return the centered reward times √share, scaled to unit length; NaN if it is constant."""
    centered = reward - share @ reward
    length = float(np.sqrt(share @ (centered * centered)))
    constant = length <= 1e-12 * max(1.0, float(np.abs(reward).max()))
    return np.sqrt(share) * centered / (np.nan if constant else length)
