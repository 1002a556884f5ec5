"""The frozen protocol: the same held-out episodes for every policy, on the environment's reward."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt

from shaperun.episodes import episode_seeds
from shaperun.reward import RewardError, RewardKernel, check_identity
from shaperun.study import RunConfig
from shaperun.terms import Array, Transition
from shaperun.wrapper import make_environment, rows

Act = Callable[[npt.NDArray[Any]], npt.NDArray[Any]]
"""Observations (N, …) as the environments return them -> actions (N, …)."""

# A policy always sees batches of this size, padded where fewer episodes are left: the same
# observation then gives the same bits whether it is evaluated in a crowd or replayed for a GIF.
WIDTH = 16

Row = dict[str, object]
REWARDS = ("return", "shaping", "shaped_return")


def columns(kernel: RewardKernel) -> list[str]:
    """The columns of a recorded evaluation episode.

    `return`, `shaping` and `shaped_return` are undiscounted sums over the episode. A term has its
    `sum_` over the states after each step, and its values at the `first_` and the `last_` state,
    from which any arm's shaped return can be had without another rollout. Where the reward has a
    schedule, `schedule` is its factor, that of the moment of training throughout the episode.
    """
    kinds = ("sum", "first", "last")
    per_term = [f"{kind}_{term}" for kind in kinds for term in kernel.names]
    schedule = ["schedule"] if kernel.scheduled else []
    own = ["episode", "seed", "length", "outcome", "terminated"]
    return [*own, *REWARDS, *schedule, *per_term]


@dataclass
class _Slot:
    """An episode under way: where it is, and its sums so far."""

    env: gym.Env[Any, Any]
    episode: int
    seed: int
    obs: npt.NDArray[Any]
    last_action: npt.NDArray[Any] | None  # None before the first step
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
        self.environment = config.environment.describe()
        self.kernel = RewardKernel(self.environment, config.reward, config.training.gamma)
        self._progress = 1.0
        self._envs = [make_environment(config.environment) for _ in range(WIDTH)]

    def close(self) -> None:
        """Close the environments."""
        for env in self._envs:
            env.close()

    def __call__(self, act: Act, episodes: int, progress: float) -> list[Row]:
        """One row an episode, in the order of the episodes; columns as `columns` says.

        Args:
            act: the policy.
            episodes: how many of the held-out episodes to play.
            progress: the share of training that is done, for rewards with a schedule.

        Raises:
            RewardError: the reward is not finite; the message says where.
            ArithmeticError: the recorded columns do not add up.
        """
        playing = self.play(episodes, progress)
        actions: Any = None
        while True:
            try:
                actions = act(playing.send(actions))
            except StopIteration as end:
                return list(end.value)

    def play(
        self, episodes: int, progress: float
    ) -> Generator[npt.NDArray[Any], npt.NDArray[Any], list[Row]]:
        """The same with whoever it may be who acts: yields observations, is sent actions.

        Both have `WIDTH` rows, however many episodes are under way.
        """
        self._progress = progress
        waiting = deque(enumerate(episode_seeds(episodes)))
        slots = [self._start(env, *waiting.popleft()) for env in self._envs[:episodes]]
        obs = np.zeros((WIDTH, *slots[0].obs.shape), slots[0].obs.dtype)
        running = list(range(len(slots)))
        rows: dict[int, Row] = {}
        while running:
            for place in running:
                obs[place] = slots[place].obs
            actions = yield obs
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
        first = self.kernel.state_values(rows([obs]))[0]
        zeros = np.zeros_like(first)
        return _Slot(env, episode, seed, np.asarray(obs), None, first, zeros, np.zeros(3))

    def _step(self, slots: list[_Slot], actions: npt.NDArray[Any]) -> Transition:
        before = rows([slot.obs for slot in slots])
        last_actions = [
            action if slot.last_action is None else slot.last_action
            for slot, action in zip(slots, actions, strict=True)
        ]
        steps = [slot.env.step(action) for slot, action in zip(slots, actions, strict=True)]
        obs, env_reward, terminated, truncated, _ = zip(*steps, strict=True)
        transition = Transition(
            obs=before,
            action=actions,
            next_obs=rows(obs),
            env_reward=np.array(env_reward, dtype=np.float64),
            terminated=np.array(terminated),
            truncated=np.array(truncated),
            last_action=np.array(last_actions),
        )
        try:
            rewards = self.kernel(transition, (self._progress, self._progress))
        except RewardError as error:
            slot = slots[error.row or 0]
            raise error.at(slot.episode, slot.length) from None
        three = np.stack([rewards.env_reward, rewards.shaping, rewards.shaped], axis=1)
        for row, slot in enumerate(slots):
            slot.obs, slot.last_action = np.asarray(obs[row]), actions[row]
            slot.raw += rewards.raw[row]
            slot.rewards += three[row]
            slot.length += 1
        return transition

    def _row(self, slot: _Slot, end: Transition) -> Row:
        last = self.kernel.state_values(end.next_obs)[0]
        factor = self.kernel.factor(self._progress)
        self._check(slot, last, end, factor)
        values = {"sum": slot.raw, "first": slot.first, "last": last}
        rewards = zip(REWARDS, slot.rewards.tolist(), strict=True)
        return {
            "episode": slot.episode,
            "seed": slot.seed,
            "length": slot.length,
            "outcome": str(self.environment.outcome(end)[0]),
            "terminated": int(end.terminated[0]),
            **dict(rewards),
            **({"schedule": factor} if self.kernel.scheduled else {}),
            **{
                f"{kind}_{name}": float(value)
                for kind, numbers in values.items()
                for name, value in zip(self.kernel.names, numbers, strict=True)
            },
        }

    def _check(self, slot: _Slot, last: Array, end: Transition, factor: float) -> None:
        """The totals of an episode must follow from its recorded columns."""
        shaping = self.kernel.episode_shaping(
            slot.raw[None], slot.first[None], last[None], end.terminated.astype(float), factor
        )
        shaped = self.kernel.shaped(slot.rewards[:1], shaping, factor)
        check_identity("shaping", slot.rewards[1:2], shaping)
        check_identity("shaped return", slot.rewards[2:], shaped)
