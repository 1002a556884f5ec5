"""Evaluate policies: the same held-out episodes for all, on the environment's reward."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from shaperun.common.errors import ContractError
from shaperun.envs.base import Array, Transition
from shaperun.envs.episodes import (
    EpisodeBuilder,
    ObservationError,
    check_observations,
    held_out_seeds,
)
from shaperun.envs.metrics import measure_episode
from shaperun.rewards.kernel import RewardError, RewardKernel, check_sums
from shaperun.study.environment import MAX_EPISODE_STEPS
from shaperun.study.models import RunConfig

Act = Callable[[npt.NDArray[Any]], npt.NDArray[Any]]
"""Observations (N, …) as the environments return them -> actions (N, …)."""

# Every batch is padded to this size: the same observation then gives the same bits whether it is
# evaluated beside others or replayed for a GIF.
EVAL_BATCH_SIZE = 16

Row = dict[str, object]
REWARDS = ("return", "shaping", "shaped_return")


def evaluation_columns(kernel: RewardKernel, metrics: Iterable[str] = ()) -> list[str]:
    """Return the columns of a recorded evaluation episode.

    `return`, `shaping` and `shaped_return` are undiscounted sums over the episode. Each term has
    its `sum_` over the states after each step, and its values at the `first_` and the `last_`
    state: any arm's shaped return follows from these without another rollout. With a schedule,
    `schedule` is its factor at this point of training, constant over the episode. `metrics` are
    those that do not follow from these columns.
    """
    kinds = ("sum", "first", "last")
    per_term = [f"{kind}_{term}" for kind in kinds for term in kernel.names]
    schedule = ["schedule"] if kernel.scheduled else []
    episode = ["episode", "seed", "length", "outcome", "terminated"]
    return [*episode, *REWARDS, *schedule, *metrics, *per_term]


class Evaluation:
    """Rollouts of policies on the held-out episodes of a study, several episodes at a time."""

    def __init__(self, config: RunConfig) -> None:
        self.environment = config.evaluated_environment.describe()
        self.kernel = config.training.kernel(self.environment, config.reward)
        self._envs = [config.evaluated_environment.make() for _ in range(EVAL_BATCH_SIZE)]

    def close(self) -> None:
        """Close the environments."""
        for env in self._envs:
            env.close()

    def __call__(self, act: Act, episodes: int, progress: float) -> list[Row]:
        """Return one row per episode, in the columns of `evaluation_columns`.

        Raises:
            RewardError: the reward is not finite; the message says where.
            ContractError: an observation is not finite, or an episode does not end.
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
        """Yield observations, receive actions, and return the rows, as a call does.

        Observations and actions always have `EVAL_BATCH_SIZE` rows.
        """
        waiting = deque(enumerate(held_out_seeds(episodes)))
        builders = [EpisodeBuilder.begin(env, *waiting.popleft()) for env in self._envs[:episodes]]
        first = builders[0].obs
        obs = np.zeros((EVAL_BATCH_SIZE, *first.shape), first.dtype)
        running = list(range(len(builders)))
        rows: dict[int, Row] = {}
        while running:
            for slot in running:
                obs[slot] = builders[slot].obs
            self._check_playing(obs, builders)
            actions = yield obs
            # Environments check a plain integer in a tenth of the time of numpy's.
            each = actions.tolist() if actions.ndim == 1 else actions.copy()
            for slot in [slot for slot in running if builders[slot].step(each[slot])]:
                builder = builders[slot]
                rows[builder.index] = self._evaluate_episode(builder, progress)
                if waiting:
                    builders[slot] = EpisodeBuilder.begin(builder.env, *waiting.popleft())
                else:
                    running.remove(slot)
        return [rows[episode] for episode in range(episodes)]

    def _check_playing(self, obs: npt.NDArray[Any], builders: list[EpisodeBuilder]) -> None:
        """Raise ContractError if an observation is not finite, or an episode does not end."""
        try:
            check_observations(obs, self.environment.id)
        except ObservationError as error:
            builder = builders[error.row]
            raise error.at(builder.index, len(builder.actions)) from None
        if max(len(builder.actions) for builder in builders) > MAX_EPISODE_STEPS:
            raise ContractError(
                f"an episode has not ended after {MAX_EPISODE_STEPS:,} steps; set a time limit, as "
                "in environment.options: {max_episode_steps: 500}"
            )

    def _evaluate_episode(self, episode: EpisodeBuilder, progress: float) -> Row:
        """Return the row of a finished episode."""
        transition = episode.transitions()
        try:
            rewards = self.kernel(transition, (progress, progress))
            first = self.kernel.check_states(transition.obs[:1])[0]
        except RewardError as error:
            raise error.at(episode.index, error.row or 0) from error.__cause__
        totals = np.stack([rewards.env_reward, rewards.shaping, rewards.shaped], axis=1).sum(axis=0)
        end, factor = transition.take(np.array([-1])), self.kernel.factor(progress)
        values = {
            "sum": rewards.raw.sum(axis=0),
            "first": first,
            "last": self.kernel.state_values(end.next_obs)[0],
        }
        self._check_totals(totals, values, end, factor)
        return {
            "episode": episode.index,
            "seed": episode.seed,
            "length": len(transition),
            "outcome": str(self.environment.name_outcomes(transition)[0]),
            "terminated": int(end.terminated[0]),
            **dict(zip(REWARDS, totals.tolist(), strict=True)),
            **({"schedule": factor} if self.kernel.scheduled else {}),
            **measure_episode(self.environment, transition),
            **{
                f"{kind}_{name}": float(value)
                for kind, numbers in values.items()
                for name, value in zip(self.kernel.names, numbers, strict=True)
            },
        }

    def _check_totals(
        self, totals: Array, values: dict[str, Array], end: Transition, factor: float
    ) -> None:
        """Raise ArithmeticError unless an episode's totals follow from its recorded columns."""
        sums, first, last = (numbers[None] for numbers in values.values())
        final = self.kernel.is_final(end).astype(float)
        parts = self.kernel.contributions_from_sums(sums, first, last, final, factor)
        shaping = parts.sum(axis=1)
        shaped = self.kernel.shaped_reward(totals[:1], shaping, factor)
        check_sums("shaping", totals[1:2], shaping)
        check_sums("shaped return", totals[2:], shaped)
