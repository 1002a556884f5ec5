"""What agents without training do: an environment's controllers, recorded once for every reward."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from shaperun.common.errors import UserError
from shaperun.envs.base import Array, Controller, Environment, Transition
from shaperun.envs.episodes import Episode, concatenate_episodes, held_out_seeds, play_episode
from shaperun.study.environment import EnvironmentConfig

EPISODES = 20
# A behaviour that never ends is known after a few long episodes.
MIN_EPISODES, MAX_STEPS, MAX_EPISODE_STEPS = 5, 10_000, 2_000


@dataclass(frozen=True)
class Behaviour:
    """A controller's episodes, on the same starts as everybody else's."""

    name: str
    description: str
    episodes: list[Episode]

    @cached_property
    def _joined(self) -> tuple[Transition, npt.NDArray[np.intp]]:
        return concatenate_episodes(self.episodes)

    @property
    def transition(self) -> Transition:
        """All transitions, one episode after the other."""
        return self._joined[0]

    @property
    def starts(self) -> npt.NDArray[np.intp]:
        """Where each episode begins in `transition`."""
        return self._joined[1]

    @cached_property
    def ages(self) -> npt.NDArray[np.intp]:
        """How many steps of its episode were taken before each transition."""
        lengths = np.diff([*self.starts, len(self.transition)])
        return np.arange(len(self.transition)) - np.repeat(self.starts, lengths)

    def per_episode(self, steps: Array, gamma: float = 1.0) -> Array:
        """Discounted sums over each episode (episodes,) of values of the transitions (N,)."""
        weighted = steps if gamma == 1.0 else steps * gamma**self.ages
        return np.add.reduceat(weighted, self.starts)

    @cached_property
    def returns(self) -> Array:
        """The environment return of each episode, undiscounted."""
        return self.per_episode(self.transition.env_reward)

    @property
    def outcomes(self) -> Counter[str]:
        """How many episodes ended how."""
        return Counter(episode.outcome for episode in self.episodes)

    @property
    def outcome(self) -> str:
        """How most episodes ended."""
        return self.outcomes.most_common(1)[0][0]

    @property
    def length(self) -> float:
        """Mean steps an episode."""
        return len(self.transition) / len(self.episodes)


def record_behaviours(config: EnvironmentConfig, episodes: int = EPISODES) -> list[Behaviour]:
    """Play an environment's controllers, doing nothing, and acting at random, on held-out starts.

    A behaviour whose episodes are long plays fewer of them, the same first ones.

    Raises:
        UserError: the environment cannot be played.
    """
    try:
        return _record(config, episodes)
    except Exception as error:  # whatever the environment's own code raises
        raise UserError(f"{config.id} cannot be played: {error}") from None


def _record(config: EnvironmentConfig, episodes: int) -> list[Behaviour]:
    env = config.make()
    environment = config.describe()
    controllers = environment.controllers | default_controllers(env)
    try:
        return [
            Behaviour(name, c.description, _play(env, environment, c, episodes))
            for name, c in controllers.items()
        ]
    finally:
        env.close()


def default_controllers(env: gym.Env[Any, Any]) -> dict[str, Controller]:
    """The controllers that every environment has."""
    luck = itertools.count()
    still = no_op(env.action_space)
    what = "0" if isinstance(env.action_space, spaces.Discrete) else "of zeros"

    def act_randomly() -> Callable[[Any], Any]:
        env.action_space.seed(next(luck))  # each episode has its own, the same every time
        return lambda obs: env.action_space.sample()

    return {
        "do_nothing": Controller(
            "do_nothing", f"The action {what} at every step.", lambda: lambda obs: still
        ),
        "act_randomly": Controller(
            "act_randomly", "Any action with the same probability.", act_randomly
        ),
    }


def no_op(space: gym.Space[Any]) -> Any:
    """The action that comes nearest to none: 0, or zeros as far as the bounds allow them."""
    if isinstance(space, spaces.Box):
        return np.clip(np.zeros(space.shape, space.dtype), space.low, space.high)
    return 0 if isinstance(space, spaces.Discrete) else np.zeros(space.shape, space.dtype)


def _play(
    env: gym.Env[Any, Any], environment: Environment, controller: Controller, episodes: int
) -> list[Episode]:
    played: list[Episode] = []
    steps = 0
    for seed in held_out_seeds(episodes):
        if steps > MAX_STEPS and len(played) >= MIN_EPISODES:
            break
        act = controller.make()
        played.append(play_episode(env, environment, act, seed, max_steps=MAX_EPISODE_STEPS))
        steps += len(played[-1])
    return played
