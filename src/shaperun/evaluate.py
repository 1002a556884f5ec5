"""The frozen protocol: the same held-out episodes for every policy, on the environment's reward."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt

from shaperun.envs import environments
from shaperun.reward import RewardKernel, check_identity
from shaperun.study import RunConfig
from shaperun.terms import Array, Environment, Transition
from shaperun.wrapper import make_environment

Act = Callable[[npt.NDArray[Any]], npt.NDArray[Any]]
"""Observations (N, …) as the environments return them -> actions (N, …)."""

# A policy always sees batches of this size, padded where fewer episodes are left: the same
# observation then gives the same bits whether it is evaluated in a crowd or replayed for a GIF.
WIDTH = 16

# Any constant will do, as long as it stays: the held-out episodes of all studies come from it.
_ENTROPY = 0x5EED_0F_E7A1

Row = dict[str, object]
REWARDS = ("return", "shaping", "shaped_return")


def episode_seeds(count: int) -> list[int]:
    """Reset seeds of the held-out episodes; fewer episodes are the first of more.

    They are below 2³²; the environments that a policy is trained on are seeded above that.
    """
    words = np.random.SeedSequence(_ENTROPY).generate_state(count, np.uint32)
    return [int(word) for word in words]


def columns(environment: Environment) -> list[str]:
    """The columns of a recorded evaluation episode.

    `return`, `shaping` and `shaped_return` are undiscounted sums over the episode. A term has its
    `sum_` over the states after each step, and its values at the `first_` and the `last_` state,
    from which any arm's shaped return can be had without another rollout.
    """
    kinds = ("sum", "first", "last")
    per_term = [f"{kind}_{term}" for kind in kinds for term in environment.terms]
    return ["episode", "seed", "length", "outcome", "terminated", *REWARDS, *per_term]


@dataclass
class _Slot:
    """An episode under way: where it is, and its sums so far."""

    env: gym.Env[Any, Any]
    episode: int
    seed: int
    obs: npt.NDArray[Any]
    first: Array  # raw state-term values at the first state (K,)
    raw: Array  # sums of the raw term values (K,)
    rewards: Array  # sums of environment reward, shaping and shaped reward (3,)
    length: int = 0


class Evaluation:
    """Rolls policies out on the held-out episodes of a study, several episodes at a time.

    The configuration names the environment, and the reward whose parts are recorded beside the
    environment's own.
    """

    def __init__(self, config: RunConfig) -> None:
        self.environment = environments()[config.environment.id]
        self.kernel = RewardKernel(self.environment, config.reward, config.training.gamma)
        self._envs = [make_environment(config.environment) for _ in range(WIDTH)]

    def close(self) -> None:
        """Close the environments."""
        for env in self._envs:
            env.close()

    def __call__(self, act: Act, episodes: int) -> list[Row]:
        """One row an episode, in the order of the episodes; columns as `columns` says.

        Raises:
            ArithmeticError: the recorded columns do not add up.
        """
        waiting = deque(enumerate(episode_seeds(episodes)))
        slots = [self._start(env, *waiting.popleft()) for env in self._envs[:episodes]]
        obs = np.zeros((WIDTH, *slots[0].obs.shape), slots[0].obs.dtype)
        running = list(range(len(slots)))
        rows: dict[int, Row] = {}
        while running:
            for place in running:
                obs[place] = slots[place].obs
            actions = act(obs)
            transition = self._step([slots[place] for place in running], actions[running])
            done = np.flatnonzero(transition.terminated | transition.truncated)
            for row, place in [(row, running[row]) for row in done]:
                slot = slots[place]
                rows[slot.episode] = self._row(slot, transition.take(np.array([row])))
                if waiting:
                    slots[place] = self._start(slot.env, *waiting.popleft())
                else:
                    running.remove(place)
        return [rows[episode] for episode in range(episodes)]

    def _start(self, env: gym.Env[Any, Any], episode: int, seed: int) -> _Slot:
        obs, _ = env.reset(seed=seed)
        first = self.kernel.state_values(np.array([obs], dtype=np.float64))[0]
        return _Slot(env, episode, seed, obs, first, np.zeros_like(first), np.zeros(3))

    def _step(self, slots: list[_Slot], actions: npt.NDArray[Any]) -> Transition:
        before = np.array([slot.obs for slot in slots], dtype=np.float64)
        steps = [slot.env.step(action) for slot, action in zip(slots, actions, strict=True)]
        obs, env_reward, terminated, truncated, _ = zip(*steps, strict=True)
        transition = Transition(
            obs=before,
            action=actions,
            next_obs=np.array(obs, dtype=np.float64),
            env_reward=np.array(env_reward, dtype=np.float64),
            terminated=np.array(terminated),
            truncated=np.array(truncated),
        )
        rewards = self.kernel(transition)
        three = np.stack([rewards.env_reward, rewards.shaping, rewards.shaped], axis=1)
        for row, slot in enumerate(slots):
            slot.obs = obs[row]
            slot.raw += rewards.raw[row]
            slot.rewards += three[row]
            slot.length += 1
        return transition

    def _row(self, slot: _Slot, end: Transition) -> Row:
        last = self.kernel.state_values(end.next_obs)[0]
        self._check(slot, last, end)
        values = {"sum": slot.raw, "first": slot.first, "last": last}
        rewards = zip(REWARDS, slot.rewards.tolist(), strict=True)
        return {
            "episode": slot.episode,
            "seed": slot.seed,
            "length": slot.length,
            "outcome": str(self.environment.outcome(end)[0]),
            "terminated": int(end.terminated[0]),
            **dict(rewards),
            **{
                f"{kind}_{name}": float(value)
                for kind, numbers in values.items()
                for name, value in zip(self.kernel.names, numbers, strict=True)
            },
        }

    def _check(self, slot: _Slot, last: Array, end: Transition) -> None:
        """The totals of an episode must follow from its recorded columns."""
        shaping = self.kernel.episode_shaping(
            slot.raw[None], slot.first[None], last[None], end.terminated.astype(float)
        )
        shaped = self.kernel.shaped(slot.rewards[:1], shaping)
        check_identity("shaping", slot.rewards[1:2], shaping)
        check_identity("shaped return", slot.rewards[2:], shaped)
