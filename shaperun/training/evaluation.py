"""The frozen protocol: the same held-out episodes for every policy, on the environment's reward."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator
from typing import Any

import numpy as np
import numpy.typing as npt

from shaperun.envs.base import Array, Transition
from shaperun.envs.episodes import EpisodeBuilder, held_out_seeds
from shaperun.rewards.kernel import RewardError, RewardKernel, check_identity
from shaperun.study.models import RunConfig

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


class Evaluation:
    """Rolls policies out on the held-out episodes of a study, several episodes at a time.

    The configuration names the environment, and the reward whose parts are recorded beside the
    environment's own.
    """

    def __init__(self, config: RunConfig) -> None:
        self.environment = config.environment.describe()
        self.kernel = RewardKernel(self.environment, config.reward, config.training.gamma)
        self._envs = [config.environment.make() for _ in range(WIDTH)]

    def close(self) -> None:
        """Close the environments."""
        for env in self._envs:
            env.close()

    def __call__(self, act: Act, episodes: int, progress: float) -> list[Row]:
        """One row an episode, in the order of the episodes; columns as `component_columns` says.

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
        waiting = deque(enumerate(held_out_seeds(episodes)))
        slots = [EpisodeBuilder.begin(env, *waiting.popleft()) for env in self._envs[:episodes]]
        obs = np.zeros((WIDTH, *slots[0].states[0].shape), slots[0].states[0].dtype)
        running = list(range(len(slots)))
        rows: dict[int, Row] = {}
        while running:
            for place in running:
                obs[place] = slots[place].states[-1]
            actions = yield obs
            # A plain integer is checked by an environment in a tenth of the time.
            each = actions.tolist() if actions.ndim == 1 else actions.copy()
            for place in [place for place in running if slots[place].step(each[place])]:
                slot = slots[place]
                rows[slot.number] = self._row(slot, progress)
                if waiting:
                    slots[place] = EpisodeBuilder.begin(slot.env, *waiting.popleft())
                else:
                    running.remove(place)
        return [rows[episode] for episode in range(episodes)]

    def _row(self, slot: EpisodeBuilder, progress: float) -> Row:
        """Shape an episode that is over, all of it at once."""
        transition = slot.transitions()
        try:
            rewards = self.kernel(transition, (progress, progress))
        except RewardError as error:
            raise error.at(slot.number, error.row or 0) from None
        three = np.stack([rewards.env_reward, rewards.shaping, rewards.shaped], axis=1).sum(axis=0)
        end, factor = transition.take(np.array([-1])), self.kernel.factor(progress)
        values = {
            "sum": rewards.raw.sum(axis=0),
            "first": self.kernel.state_values(transition.obs[:1])[0],
            "last": self.kernel.state_values(end.next_obs)[0],
        }
        self._check(three, values, end, factor)
        return {
            "episode": slot.number,
            "seed": slot.seed,
            "length": len(transition),
            "outcome": str(self.environment.outcome(end)[0]),
            "terminated": int(end.terminated[0]),
            **dict(zip(REWARDS, three.tolist(), strict=True)),
            **({"schedule": factor} if self.kernel.scheduled else {}),
            **{
                f"{kind}_{name}": float(value)
                for kind, numbers in values.items()
                for name, value in zip(self.kernel.names, numbers, strict=True)
            },
        }

    def _check(
        self, rewards: Array, values: dict[str, Array], end: Transition, factor: float
    ) -> None:
        """The totals of an episode must follow from its recorded columns."""
        sums, first, last = (numbers[None] for numbers in values.values())
        terminated = end.terminated.astype(float)
        shaping = self.kernel.episode_shaping(sums, first, last, terminated, factor)
        shaped = self.kernel.shaped(rewards[:1], shaping, factor)
        check_identity("shaping", rewards[1:2], shaping)
        check_identity("shaped return", rewards[2:], shaped)
