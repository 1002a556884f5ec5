"""What somebody is asked about: episodes of controllers, of chance and of trained policies.

Everybody plays the same starts, so that two episodes can be told apart by what was done in them.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np

from shaperun.check.behaviours import MAX_EPISODE_STEPS, default_controllers
from shaperun.check.filmstrip import Filmstrip, filmstrip, make_renderable
from shaperun.common.errors import UserError
from shaperun.envs.base import Array, Environment
from shaperun.envs.episodes import Episode, play_episode
from shaperun.preferences.answers import MAX_WIDTH, EpisodeSummary, Subject, parts
from shaperun.rewards.config import RewardConfig
from shaperun.rewards.kernel import RewardError, RewardKernel
from shaperun.runs.plan import planned_runs
from shaperun.runs.study_folder import StudyFolder
from shaperun.study.models import Study
from shaperun.training.replay import single_observation_policy
from shaperun.training.sb3_model import load_policy

MAX_EPISODES = 200
MAX_STARTS, MAX_TRAINED = 20, 20
_DIGITS = 3  # of what was observed

# Any constant will do that no other starts come from: a reward is not to be fitted to the episodes
# that it is judged by.
_ENTROPY = 0xA5CED

Player = Callable[[], Callable[[Any], Any]]
"""Makes a policy for one episode: from an observation to an action."""


@dataclass(frozen=True)
class FilmedEpisode:
    """An episode, as it is summed up and as it is shown."""

    episode: EpisodeSummary
    strip: Filmstrip


OnProgress = Callable[[int, int], None]
"""Is told how many episodes are played, and of how many."""


def collect_episodes(
    study: Study, folder: StudyFolder, log: Callable[[str], None], on_progress: OnProgress
) -> list[FilmedEpisode]:
    """Play and film the episodes that can be asked about.

    Args:
        study: the study.
        folder: its folder, for the policies of finished runs.
        tell: is told who plays, in a sentence.
        watch: is told how far it is.

    Raises:
        UserError: the environment cannot be played or drawn, or a term is not finite.
    """
    env, drawn = study.environment.make(), make_renderable(study.environment)
    if drawn is None:
        env.close()
        raise UserError(
            f"{study.environment.id} cannot draw itself here, and nobody can say which of two "
            "episodes is better without seeing them"
        )
    try:
        return list(_play(study, folder, env, drawn, log, on_progress))
    except RewardError as error:
        raise UserError(f"these terms will not do: {error}") from None
    finally:
        env.close()
        drawn.close()


def kernel_of_all_terms(study: Study) -> RewardKernel:
    """Evaluates every term that the environment and the study have, but not its own reward."""
    environment = study.environment.describe()
    weights = dict.fromkeys(Subject.from_study(study).terms, 1.0)
    reward = RewardConfig(mode="log", weights=weights, terms=study.terms)
    return RewardKernel(environment, reward, study.training.gamma)


def discounted(values: Array, gamma: float) -> Array:
    """Σ γ^t of values at the steps of an episode (T, …)."""
    return np.asarray(np.tensordot(gamma ** np.arange(len(values)), values, axes=1))


def _play(
    study: Study,
    folder: StudyFolder,
    env: gym.Env[Any, Any],
    drawn: gym.Env[Any, Any],
    tell: Callable[[str], None],
    watch: OnProgress,
) -> Iterator[FilmedEpisode]:
    environment, kernel = study.environment.describe(), kernel_of_all_terms(study)
    trained = _trained(study, folder)
    players = _players(environment, env) | trained
    again = _players(environment, drawn) | trained  # chance has the same luck twice
    starts = np.random.SeedSequence(_ENTROPY).generate_state(
        min(MAX_STARTS, MAX_EPISODES // len(players)), np.uint32
    )
    each = "1 episode" if len(starts) == 1 else f"{len(starts)} episodes"
    tell(f"{', '.join(players)}: {each} each")
    to_play = list(itertools.product(starts.tolist(), players.items()))
    for number, (seed, (name, player)) in enumerate(to_play, start=1):
        watch(number, len(to_play))
        episode = play_episode(env, environment, player(), seed, max_steps=MAX_EPISODE_STEPS)
        shown = filmstrip(drawn, environment, again[name](), seed, episode)
        if shown:
            yield FilmedEpisode(_summarize(episode, name, seed, environment, kernel), shown)


def _players(environment: Environment, env: gym.Env[Any, Any]) -> dict[str, Player]:
    return {
        name: c.make for name, c in (environment.controllers | default_controllers(env)).items()
    }


def _trained(study: Study, folder: StudyFolder) -> dict[str, Player]:
    """Policies of finished runs: seed by seed, so that every arm has its first one before all."""
    found: dict[str, Player] = {}
    for run in planned_runs(study, study.arms):
        own = folder.run(run.arm, run.seed)
        if len(found) < MAX_TRAINED and own.is_done() and own.identity() == run.config.identity:
            act = single_observation_policy(load_policy(run.config, own))
            found[f"{run.arm}, seed {run.seed}"] = partial(_as_player, act)
    return found


def _as_player(act: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A policy without memory plays every episode as it is."""
    return act


def _states(episode: Episode) -> list[list[float]]:
    middles = [part[len(part) // 2] for part in parts(len(episode))]
    return [
        [float(f"{value:.{_DIGITS}g}") for value in state]
        for state in episode.transition.next_obs[middles].tolist()
    ]


def _summarize(
    episode: Episode, by: str, start: int, environment: Environment, kernel: RewardKernel
) -> EpisodeSummary:
    transition = episode.transition
    values = kernel(transition).raw
    worth_keeping = (
        not environment.discrete_observations and environment.observation_size <= MAX_WIDTH
    )
    return EpisodeSummary(
        start=start,
        by=by,
        outcome=episode.outcome,
        length=len(episode),
        env_return=float(transition.env_reward.sum()),
        discounted=float(discounted(transition.env_reward, kernel.gamma)),
        sums=discounted(values, kernel.gamma).tolist(),
        undiscounted=values.sum(0).tolist(),
        states=_states(episode) if worth_keeping else [],
    )
