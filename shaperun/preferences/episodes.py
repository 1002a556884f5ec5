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

from shaperun.check.behaviours import LONGEST, everywhere
from shaperun.check.filmstrip import Strip, drawing, strip
from shaperun.common.errors import UserError
from shaperun.envs.base import Array, Environment
from shaperun.envs.episodes import Episode, play
from shaperun.preferences.answers import WIDEST, AskedEpisode, Subject, parts
from shaperun.rewards.config import RewardConfig
from shaperun.rewards.kernel import RewardError, RewardKernel
from shaperun.rewards.wrapper import make_environment
from shaperun.runs.plan import planned_runs
from shaperun.runs.run_folder import StudyFolder
from shaperun.study.models import Study
from shaperun.training.replay import alone
from shaperun.training.sb3_model import load_actor

MOST_EPISODES = 200
MOST_STARTS, MOST_TRAINED = 20, 20
_DIGITS = 3  # of what was observed

# Any constant will do that no other starts come from: a reward is not to be fitted to the episodes
# that it is judged by.
_ENTROPY = 0xA5CED

Player = Callable[[], Callable[[Any], Any]]
"""Makes a policy for one episode: from an observation to an action."""


@dataclass(frozen=True)
class Question:
    """An episode, as it is summed up and as it is shown."""

    episode: AskedEpisode
    strip: Strip


Watch = Callable[[int, int], None]
"""Is told how many episodes are played, and of how many."""


def gather(
    study: Study, folder: StudyFolder, tell: Callable[[str], None], watch: Watch
) -> list[Question]:
    """Play and film the episodes that can be asked about.

    Args:
        study: the study.
        folder: its folder, for the policies of finished runs.
        tell: is told who plays, in a sentence.
        watch: is told how far it is.

    Raises:
        UserError: the environment cannot be played or drawn, or a term is not finite.
    """
    env, drawn = make_environment(study.environment), drawing(study.environment)
    if drawn is None:
        env.close()
        raise UserError(
            f"{study.environment.id} cannot draw itself here, and nobody can say which of two "
            "episodes is better without seeing them"
        )
    try:
        return list(_play(study, folder, env, drawn, tell, watch))
    except RewardError as error:
        raise UserError(f"these terms will not do: {error}") from None
    finally:
        env.close()
        drawn.close()


def kernel_of_all_terms(study: Study) -> RewardKernel:
    """Evaluates every term that the environment and the study have, but not its own reward."""
    environment = study.environment.describe()
    weights = dict.fromkeys(Subject.of(study).terms, 1.0)
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
    watch: Watch,
) -> Iterator[Question]:
    environment, kernel = study.environment.describe(), kernel_of_all_terms(study)
    trained = _trained(study, folder)
    players = _players(environment, env) | trained
    again = _players(environment, drawn) | trained  # chance has the same luck twice
    starts = np.random.SeedSequence(_ENTROPY).generate_state(
        min(MOST_STARTS, MOST_EPISODES // len(players)), np.uint32
    )
    each = "1 episode" if len(starts) == 1 else f"{len(starts)} episodes"
    tell(f"{', '.join(players)}: {each} each")
    to_play = list(itertools.product(starts.tolist(), players.items()))
    for number, (seed, (name, player)) in enumerate(to_play, start=1):
        watch(number, len(to_play))
        episode = play(env, environment, player(), seed, most=LONGEST)
        shown = strip(drawn, environment, again[name](), seed, episode)
        if shown:
            yield Question(_summed_up(episode, name, seed, environment, kernel), shown)


def _players(environment: Environment, env: gym.Env[Any, Any]) -> dict[str, Player]:
    return {name: c.make for name, c in (environment.controllers | everywhere(env)).items()}


def _trained(study: Study, folder: StudyFolder) -> dict[str, Player]:
    """Policies of finished runs: seed by seed, so that every arm has its first one before all."""
    found: dict[str, Player] = {}
    for run in planned_runs(study, study.arms):
        own = folder.run(run.arm, run.seed)
        if len(found) < MOST_TRAINED and own.is_done() and own.identity() == run.config.identity:
            act = alone(load_actor(run.config, own))
            found[f"{run.arm}, seed {run.seed}"] = partial(_itself, act)
    return found


def _itself(act: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A policy without memory plays every episode as it is."""
    return act


def _states(episode: Episode) -> list[list[float]]:
    middles = [part[len(part) // 2] for part in parts(len(episode))]
    return [
        [float(f"{value:.{_DIGITS}g}") for value in state]
        for state in episode.transition.next_obs[middles].tolist()
    ]


def _summed_up(
    episode: Episode, by: str, start: int, environment: Environment, kernel: RewardKernel
) -> AskedEpisode:
    transition = episode.transition
    values = kernel(transition).raw
    worth_keeping = not environment.countable and environment.observation_size <= WIDEST
    return AskedEpisode(
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
