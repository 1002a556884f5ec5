"""Behaviors without training: an environment's controllers, recorded once for every reward."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property, partial
from statistics import fmean
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from shaperun.common.errors import ContractError, UserError, describe_exception
from shaperun.envs.base import Array, Controller, Environment, Transition
from shaperun.envs.episodes import (
    Episode,
    ObservationError,
    check_observations,
    concatenate_episodes,
    held_out_seeds,
    play_episode,
)
from shaperun.envs.make import explain_playing_error
from shaperun.envs.metrics import environment_metrics, measure_episode
from shaperun.study.environment import EnvironmentConfig

EPISODES = 20
# A controller with long episodes plays fewer of them.
MIN_EPISODES, MAX_STEPS, MAX_EPISODE_STEPS = 5, 10_000, 2_000
# Environments take a hundred times as long to draw pictures.
MIN_PICTURE_EPISODES, MAX_PICTURE_STEPS = 2, 1_000


@dataclass(frozen=True)
class Behavior:
    """A controller's episodes, on the same starts as every other controller's."""

    name: str
    description: str
    episodes: list[Episode]
    metrics: Mapping[str, float]
    """Means of the environment's own metrics."""

    @cached_property
    def _concatenated(self) -> tuple[Transition, npt.NDArray[np.intp]]:
        return concatenate_episodes(self.episodes)

    @property
    def transition(self) -> Transition:
        """All transitions (N,), one episode after the other."""
        return self._concatenated[0]

    @property
    def starts(self) -> npt.NDArray[np.intp]:
        """Index of each episode's first transition in `transition`."""
        return self._concatenated[1]

    @property
    def ends(self) -> npt.NDArray[np.intp]:
        """Index of each episode's last transition in `transition`."""
        return np.append(self.starts[1:], len(self.transition)) - 1

    @cached_property
    def ages(self) -> npt.NDArray[np.intp]:
        """Number of steps of its episode before each transition (N,)."""
        lengths = self.ends - self.starts + 1
        return np.arange(len(self.transition)) - np.repeat(self.starts, lengths)

    def sum_per_episode(self, steps: Array, gamma: float = 1.0) -> Array:
        """Return the discounted sum over each episode (episodes,) of values (N,) per transition."""
        weighted = steps if gamma == 1.0 else steps * gamma**self.ages
        return np.add.reduceat(weighted, self.starts)

    @cached_property
    def returns(self) -> Array:
        """The undiscounted environment return of each episode."""
        return self.sum_per_episode(self.transition.env_reward)

    @property
    def outcomes(self) -> Counter[str]:
        """Number of episodes per outcome."""
        return Counter(episode.outcome for episode in self.episodes)

    @property
    def outcome(self) -> str:
        """The most frequent outcome."""
        return self.outcomes.most_common(1)[0][0]

    @property
    def length(self) -> float:
        """Mean number of steps per episode."""
        return len(self.transition) / len(self.episodes)


def record_behaviors(config: EnvironmentConfig, episodes: int = EPISODES) -> list[Behavior]:
    """Record an environment's controllers, doing nothing and acting randomly, on held-out starts.

    A controller with long episodes plays only the first few of the starts.

    Raises:
        UserError: the environment cannot be played.
    """
    try:
        with closing(config.make(for_controller=True)) as env:
            environment = config.describe()
            controllers = all_controllers(environment, env)
            see_all = not config.wrappers  # which may make numbers finite for a learner
            return [
                _play(env, environment, c, episodes, see_all=see_all) for c in controllers.values()
            ]
    except UserError:
        raise
    except Exception as error:  # the environment's code may raise anything
        raise UserError(
            f"{config.id} cannot be played: {explain_playing_error(error, config.options)}"
        ) from error


def all_controllers(environment: Environment, env: gym.Env[Any, Any]) -> dict[str, Controller]:
    """Return an environment's controllers, and those that every one has: no action, and any.

    An action that is an index may do something where it is 0, unless the environment is declared.
    """
    seeds = itertools.count()
    null_action = no_op(env.action_space)
    description = "0" if isinstance(env.action_space, spaces.Discrete) else "of zeros"
    is_idle = bool(environment.controllers) or isinstance(env.action_space, spaces.Box)
    idle = "do_nothing" if is_idle else "repeat_action_0"

    def act_randomly() -> Callable[[Any], Any]:
        env.action_space.seed(next(seeds))  # one per episode, the same every time
        return lambda obs: env.action_space.sample()

    return environment.controllers | {
        idle: Controller(
            idle,
            f"The action {description} at every step.",
            lambda: lambda obs: null_action,
        ),
        "act_randomly": Controller(
            "act_randomly", "Any action with the same probability.", act_randomly
        ),
    }


def no_op(space: gym.Space[Any]) -> Any:
    """Return action 0, or zeros clipped to the bounds of the space."""
    if isinstance(space, spaces.Box):
        return np.clip(np.zeros(space.shape, space.dtype), space.low, space.high)
    return 0 if isinstance(space, spaces.Discrete) else np.zeros(space.shape, space.dtype)


def _play(
    env: gym.Env[Any, Any],
    environment: Environment,
    controller: Controller,
    episodes: int,
    *,
    see_all: bool,
) -> Behavior:
    played = _play_controller(env, environment, controller, episodes, see_all=see_all)
    measured = [environment_metrics(environment, episode.transition) for episode in played]
    metrics = {name: fmean(each[name] for each in measured) for name in environment.metrics}
    return Behavior(controller.name, controller.description, played, metrics)


def _play_controller(
    env: gym.Env[Any, Any],
    environment: Environment,
    controller: Controller,
    episodes: int,
    *,
    see_all: bool,
) -> list[Episode]:
    least, most = MIN_EPISODES, MAX_STEPS
    if environment.learner_view.pictures:
        least, most = MIN_PICTURE_EPISODES, MAX_PICTURE_STEPS
    played: list[Episode] = []
    steps = 0
    for seed in held_out_seeds(episodes):
        if steps > most and len(played) >= least:
            break
        act = _named(controller)
        played.append(play_episode(env, environment, act, seed, max_steps=MAX_EPISODE_STEPS))
        _check_episode(environment, played[-1], len(played) - 1, see_all=see_all)
        steps += len(played[-1])
    return played


def _check_episode(
    environment: Environment, episode: Episode, number: int, *, see_all: bool
) -> None:
    """Report errors before training: observations that learners cannot use, and metrics."""
    transition = episode.transition
    if see_all:
        states = np.concatenate([transition.obs[:1], transition.next_obs])
        try:
            check_observations(states, environment.id)
        except ObservationError as error:
            raise error.at(number, error.row) from None
    measure_episode(environment, transition)


def _named(controller: Controller) -> Callable[[Any], Any]:
    """Return a controller's policy for one episode, whose errors name the controller."""

    def call(function: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return function(*arguments)
        except Exception as error:  # the controller's code may raise anything
            why = describe_exception(error)
            raise ContractError(f"the controller {controller.name} failed: {why}") from error

    return partial(call, call(controller.make))
