"""Potentials leave the best actions unchanged, by dynamic programming on random decision processes.

A learner with a critic continues past a time limit with the value of the last state, so it solves
the process without one. For a learner without a critic the limit is an end with value 0, and the
best action depends on the number of steps left.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest

from shaperun.envs.base import Array, Environment, Term, Transition
from shaperun.rewards.config import RewardConfig
from shaperun.rewards.kernel import RewardKernel
from shaperun.study.learners import LEARNERS
from shaperun.study.training import TrainingConfig

STATES, ACTIONS, HORIZON, SWEEPS = 5, 3, 6, 3000
PROCESSES = 20
each_gamma = pytest.mark.parametrize("gamma", [0.9, 0.99, 1.0])


class Process:
    """A random decision process whose last state is terminal."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.next = rng.dirichlet(np.full(STATES, 0.3), (STATES, ACTIONS))  # P(s′ | s, a)
        self.reward = rng.normal(size=(STATES, ACTIONS, STATES))
        phi = rng.normal(scale=5.0, size=STATES)
        self.environment = Environment(
            "Random-v0", ("state",), lambda end: np.full(len(end), "ended"), {"ended": None}
        )
        self.environment.terms["phi"] = _lookup(phi)

    def kernel(self, algorithm: str, gamma: float) -> RewardKernel:
        reward = RewardConfig(mode="potential", weights={"phi": 1.0})
        training = TrainingConfig(
            algorithm=algorithm, total_timesteps=1, n_envs=8, hyperparameters={"gamma": gamma}
        )
        return training.kernel(self.environment, reward)

    def shaped(self, kernel: RewardKernel, *, truncated: bool) -> Array:
        """Return the learner's reward of every (s, a, s′)."""
        state, action, after = (i.reshape(-1) for i in np.indices(self.reward.shape))
        rewards = kernel(
            Transition(
                obs=state[:, None].astype(float),
                action=action,
                next_obs=after[:, None].astype(float),
                env_reward=self.reward.reshape(-1),
                terminated=after == STATES - 1,
                truncated=np.full(len(state), truncated),
                last_action=action,
            )
        )
        return rewards.shaped.reshape(self.reward.shape)

    def backup(self, reward: Array, values: Array, gamma: float) -> Array:
        """Return Q(s, a) of the states that are not terminal."""
        continues = np.arange(STATES) < STATES - 1
        targets = reward + gamma * continues * values
        return np.asarray((self.next * targets).sum(axis=2)[:-1])


def _lookup(phi: Array) -> Term:
    return Term("phi", "A table.", lambda obs: phi[obs[:, 0].astype(int)], state_only=True)


def bootstrapped(process: Process, reward: Array, gamma: float) -> Sequence[Array]:
    """Return Q of the process without a time limit."""
    values = np.zeros(STATES)
    for _ in range(SWEEPS):
        values[:-1] = process.backup(reward, values, gamma).max(axis=1)
    return [process.backup(reward, values, gamma)]


def cut_off(process: Process, inside: Array, last: Array, gamma: float) -> Sequence[Array]:
    """Return Q for 1, 2, … steps left before a time limit that is an end."""
    values, tables = np.zeros(STATES), []
    for left in range(HORIZON):
        tables.append(process.backup(inside if left else last, values, gamma))
        values[:-1] = tables[-1].max(axis=1)
    return tables


def best_actions(tables: Sequence[Array]) -> npt.NDArray[np.intp]:
    return np.array([table.argmax(axis=1) for table in tables])


@pytest.mark.parametrize("algorithm", LEARNERS)
@each_gamma
def test_best_actions_are_those_of_the_environment(algorithm: str, gamma: float) -> None:
    for seed in range(PROCESSES):
        process = Process(np.random.default_rng(seed))
        kernel = process.kernel(algorithm, gamma)
        inside, last = (process.shaped(kernel, truncated=t) for t in (False, True))
        if LEARNERS[algorithm].has_critic:
            assert np.array_equal(inside, last)  # nothing ends at the limit
            tables = [bootstrapped(process, r, gamma) for r in (process.reward, inside)]
        else:
            own = (process.reward, process.reward)
            tables = [cut_off(process, *r, gamma) for r in (own, (inside, last))]
        unshaped, shaped = map(best_actions, tables)
        assert np.array_equal(unshaped, shaped)


@each_gamma
def test_potential_kept_at_an_end_changes_best_actions(gamma: float) -> None:
    changed = 0
    for seed in range(PROCESSES):
        process = Process(np.random.default_rng(seed))
        kept = process.shaped(process.kernel("PPO", gamma), truncated=True)
        own = cut_off(process, process.reward, process.reward, gamma)
        shaped = cut_off(process, kept, kept, gamma)
        changed += not np.array_equal(best_actions(own), best_actions(shaped))
    assert changed > PROCESSES / 4
