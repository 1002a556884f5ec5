"""How far apart rewards are, whatever is trained on them.

Two distances between rewards R₁ and R₂ as functions of a transition, both √((1 − ρ) / 2) with a
Pearson correlation ρ, so 0 for rewards that differ by a positive factor (and a constant), and 1
for a reward and its negative.

- **Pearson**: ρ over the recorded transitions, with what was really paid, the end included.
- **EPIC** (Gleave et al. 2021, arXiv:2006.13900): ρ of the canonical rewards

      C(R)(s, a, s′) = R(s, a, s′) + E[γ R(s′, A, S′) − R(s, A, S′) − γ R(S, A, S′)]

  which potential-based shaping does not change. S, A and S′ are drawn from the recorded
  transitions, every state with every action and next state, so the distance covers what nobody
  did. It therefore needs rewards that can be asked about any transition. An environment's own
  reward can where its module declares it, without what depends on more than the transition
  (LunarLander's ±100); no transition ends an episode here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from shaperun.check.behaviours import Behaviour
from shaperun.envs.base import OWN_REWARD, Array, Environment, Transition
from shaperun.rewards.kernel import RewardKernel

SAMPLES = 256  # states, and transitions to average over: their product is what EPIC costs

Matrix = npt.NDArray[np.float64]
Reward = Callable[[Transition], Array]


@dataclass(frozen=True)
class Distances:
    """Distances (K, K) between the rewards named; NaN where one cannot be had, with the reason."""

    names: list[str]
    pearson: Matrix
    epic: Matrix
    note: str


def distances(
    environment: Environment,
    kernels: Mapping[str, RewardKernel],
    behaviours: Sequence[Behaviour],
    shaped: Mapping[str, Array],
    gamma: float,
) -> Distances:
    """The distances between the environment's own reward and every arm's.

    Args:
        environment: the environment; its own reward comes first, as `environment`.
        kernels: the arms; one that leaves the reward alone needs no place of its own.
        behaviours: whose transitions are compared, all behaviours counting the same.
        shaped: each arm's shaped reward (N,) on all of the transitions, in the order of behaviours.
        gamma: the learner's discount factor.
    """
    kernels = {arm: kernel for arm, kernel in kernels.items() if kernel.mode != "log"}
    names = [OWN_REWARD, *kernels]
    own = np.concatenate([b.transition.env_reward for b in behaviours])
    weights = np.concatenate([np.full(len(b.ages), 1.0 / len(b.ages)) for b in behaviours])
    pearson = _matrix([own, *(shaped[name] for name in kernels)], weights)
    rewards = [environment.own_reward, *(_anywhere(k, environment) for k in kernels.values())]
    sample = _Sample(behaviours)
    canonical = [sample.canonical(r, gamma) if r else None for r in rewards]
    epic = _matrix(canonical, np.ones(len(sample.transition)))
    return Distances(names, pearson, epic, _note(environment))


def _note(environment: Environment) -> str:
    pearson = (
        "Pearson compares what was paid on the recorded steps, the ends included; – stands where a "
        "reward is the same on every step."
    )
    if environment.own_reward is None:
        return (
            f"{pearson} EPIC is missing where the environment's own reward is part of a reward: "
            f"what {environment.id} pays is known only where it was seen."
        )
    return (
        f"{pearson} EPIC ignores potential-based shaping and asks about any state and action; for "
        f"{environment.id} that leaves out what its reward pays beyond the transition."
    )


def _anywhere(kernel: RewardKernel, environment: Environment) -> Reward | None:
    """An arm's reward as a function of any transition; None where nobody knows it."""
    own = environment.own_reward
    if not kernel.pays_own_reward:
        own = own or (lambda transition: np.zeros(len(transition)))
    if own is None:
        return None

    def reward(transition: Transition) -> Array:
        paid = replace(transition, env_reward=own(transition))
        return kernel(paid).shaped

    return reward


class _Sample:
    """Transitions drawn evenly from all behaviours, and every combination of their parts."""

    def __init__(self, behaviours: Sequence[Behaviour]) -> None:
        rng = np.random.default_rng(0)
        each = -(-SAMPLES // len(behaviours))
        parts = []
        for behaviour in behaviours:
            inside = np.flatnonzero(~behaviour.transition.ended)
            chosen = rng.choice(inside if len(inside) else np.arange(1), each)
            parts.append(behaviour.transition.take(np.sort(chosen)))
        self.transition = Transition.concatenate(parts)

    def canonical(self, reward: Reward, gamma: float) -> Array:
        """The canonical reward of the transitions (n,)."""
        here = self._mean_from(reward, self.transition.obs)
        after = self._mean_from(reward, self.transition.next_obs)
        return reward(self.transition) + gamma * after - here - gamma * float(here.mean())

    def _mean_from(self, reward: Reward, states: Array) -> Array:
        """E[R(s, A, S′)] of each state (n,), over the actions and next states of the sample."""
        t, n = self.transition, len(self.transition)
        over = np.tile(np.arange(n), len(states))
        crossed = replace(t.take(over), obs=np.repeat(states, n, axis=0))
        means: Array = np.mean(reward(crossed).reshape(len(states), n), axis=1)
        return means


def _matrix(rewards: Sequence[Array | None], weights: Array) -> Matrix:
    """√((1 − ρ) / 2) with the weighted correlations ρ; NaN where a reward is constant or None."""
    share = weights / weights.sum()
    missing = np.full(len(share), np.nan)
    unit = np.stack([missing if r is None else _standardised(r, share) for r in rewards])
    result: Matrix = np.sqrt((1.0 - unit @ unit.T).clip(min=0.0) / 2.0)
    known = np.array([reward is not None for reward in rewards])
    result[known, known] = 0.0
    return result


def _standardised(reward: Array, share: Array) -> Array:
    """The reward less its mean, of length 1 with the weights in it; NaN if it is constant."""
    centred = reward - share @ reward
    length = float(np.sqrt(share @ (centred * centred)))
    constant = length <= 1e-12 * max(1.0, float(np.abs(reward).max()))
    return np.sqrt(share) * centred / (np.nan if constant else length)
