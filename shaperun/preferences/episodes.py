"""Episodes to ask about: those of controllers, random actions and trained policies.

All players play the same starts, so that two episodes differ only in the actions.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np

from shaperun.check.behaviors import MAX_EPISODE_STEPS, all_controllers
from shaperun.check.filmstrip import (
    Filmstrip,
    check_rendering,
    make_renderable_env,
    record_filmstrip,
)
from shaperun.common.errors import UserError
from shaperun.envs.base import Array, Environment
from shaperun.envs.episodes import Episode, play_episode
from shaperun.envs.make import explain_playing_error
from shaperun.preferences.answers import MAX_OBSERVATION_SIZE, EpisodeSummary, Subject, split_steps
from shaperun.rewards.config import RewardConfig
from shaperun.rewards.kernel import RewardError, RewardKernel
from shaperun.runs.plan import plan_runs
from shaperun.runs.study_folder import StudyFolder
from shaperun.study.environment import EnvironmentConfig
from shaperun.study.models import Study
from shaperun.training.replay import single_observation_policy
from shaperun.training.sb3_model import load_policy

MAX_EPISODES = 200
MAX_STARTS, MAX_POLICIES = 20, 20
_DIGITS = 3  # significant digits of stored observations

# Entropy of the starts. It differs from that of all others, so that rewards are never fitted to the
# episodes that they are evaluated on.
_ENTROPY = 0xA5CED

Envs = tuple[gym.Env[Any, Any], gym.Env[Any, Any]]
"""An environment to play in, and one to film."""
Player = Callable[[], Callable[[Any], Any]]
"""Makes a policy for one episode: a function from an observation to an action."""


@dataclass(frozen=True)
class FilmedEpisode:
    """Episode with its summary and its filmstrip."""

    episode: EpisodeSummary
    strip: Filmstrip


OnProgress = Callable[[int, int], None]
"""Callback with the number of the current episode and the total."""


def collect_episodes(
    study: Study, folder: StudyFolder, log: Callable[[str], None], on_progress: OnProgress
) -> list[FilmedEpisode]:
    """Play and film the episodes of the page.

    `log` receives one sentence about the players.

    Raises:
        UserError: the environment cannot be played or rendered, or a term is not finite.
    """
    check_rendering(study.environment)
    with ExitStack() as stack:
        try:
            for_controllers, for_policies = (
                _make_envs(study.environment, stack, for_controller=controller)
                for controller in (True, False)
            )
            played = _play_episodes(study, folder, for_controllers, for_policies, log, on_progress)
            return list(played)
        except RewardError as error:
            raise UserError(f"invalid terms: {error}") from error
        except UserError:
            raise
        except Exception as error:  # the environment's code may raise anything
            why = explain_playing_error(error, study.environment.options)
            raise UserError(f"{study.environment.id} cannot be played: {why}") from error


def _make_envs(config: EnvironmentConfig, stack: ExitStack, *, for_controller: bool) -> Envs:
    """Make two environments, the second one renderable, which `stack` closes."""
    env = stack.enter_context(closing(config.make(for_controller=for_controller)))
    renderable = make_renderable_env(config, for_controller=for_controller)
    if renderable is None:
        raise UserError(
            f"{config.id} cannot be rendered here; without pictures, episodes cannot be compared"
        )
    return env, stack.enter_context(closing(renderable))


def make_kernel(study: Study) -> RewardKernel:
    """Return a kernel of all terms of environment and study, without the environment's reward."""
    environment = study.environment.describe()
    weights = dict.fromkeys(Subject.from_study(study).terms, 1.0)
    reward = RewardConfig(mode="log", weights=weights, terms=study.terms)
    return RewardKernel(environment, reward, study.training.gamma)


def discount(values: Array, gamma: float) -> Array:
    """Return Σ γ^t v_t of values (T, …) at the steps of an episode."""
    return np.asarray(np.tensordot(gamma ** np.arange(len(values)), values, axes=1))


def _play_episodes(
    study: Study,
    folder: StudyFolder,
    for_controllers: Envs,
    for_policies: Envs,
    log: Callable[[str], None],
    on_progress: OnProgress,
) -> Iterator[FilmedEpisode]:
    environment, kernel = study.environment.describe(), make_kernel(study)
    policies = _load_policies(study, folder, for_policies[0])
    # A second set, so that random actions repeat while filming.
    played, filmed = (_make_controllers(environment, env) for env in for_controllers)
    players = {name: (played[name], filmed[name], for_controllers) for name in played}
    players |= {name: (policy, policy, for_policies) for name, policy in policies.items()}
    starts = np.random.SeedSequence(_ENTROPY).generate_state(
        min(MAX_STARTS, MAX_EPISODES // len(players)), np.uint32
    )
    each = "1 episode" if len(starts) == 1 else f"{len(starts)} episodes"
    log(f"{', '.join(players)}: {each} each")
    planned = list(itertools.product(starts.tolist(), players.items()))
    for number, (seed, (name, (player, filmed_player, envs))) in enumerate(planned, start=1):
        on_progress(number, len(planned))
        env, renderable = envs
        episode = play_episode(env, environment, player(), seed, max_steps=MAX_EPISODE_STEPS)
        strip = record_filmstrip(renderable, environment, filmed_player(), seed, episode)
        if strip:
            yield FilmedEpisode(_summarize(episode, name, seed, environment, kernel), strip)


def _make_controllers(environment: Environment, env: gym.Env[Any, Any]) -> dict[str, Player]:
    controllers = all_controllers(environment, env)
    return {name: controller.make for name, controller in controllers.items()}


def _load_policies(study: Study, folder: StudyFolder, env: gym.Env[Any, Any]) -> dict[str, Player]:
    """Return policies of finished runs in the order of seeds, so that each arm is represented."""
    policies: dict[str, Player] = {}
    for run in plan_runs(study, study.arms):
        if len(policies) == MAX_POLICIES:
            break
        run_folder = folder.run(run.arm, run.seed)
        if run_folder.is_done() and run_folder.read_identity() == run.config.identity:
            act = single_observation_policy(load_policy(run.config, run_folder), env)
            policies[f"{run.arm}, seed {run.seed}"] = partial(_return_policy, act)
    return policies


def _return_policy(act: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return a policy as it is: without memory, it can be used for every episode."""
    return act


def _sample_states(episode: Episode) -> list[list[float]]:
    middles = [part[len(part) // 2] for part in split_steps(len(episode))]
    return [
        [float(f"{value:.{_DIGITS}g}") for value in state]
        for state in episode.transition.next_obs[middles].tolist()
    ]


def _summarize(
    episode: Episode, by: str, start: int, environment: Environment, kernel: RewardKernel
) -> EpisodeSummary:
    transition = episode.transition
    values = kernel(transition).raw
    is_small = environment.observation_size <= MAX_OBSERVATION_SIZE
    has_states = is_small and not environment.discrete_observations
    return EpisodeSummary(
        start=start,
        by=by,
        outcome=episode.outcome,
        length=len(episode),
        env_return=float(transition.env_reward.sum()),
        discounted=float(discount(transition.env_reward, kernel.gamma)),
        sums=discount(values, kernel.gamma).tolist(),
        undiscounted=values.sum(0).tolist(),
        states=_sample_states(episode) if has_states else [],
    )
