"""The interactive page of `preview`: move the weights of an arm and see the ranking change."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import zip_longest
from typing import Any

import numpy as np

from shaperun.check import ranking
from shaperun.check.behaviors import EPISODES, record_behaviors
from shaperun.check.filmstrip import Filmstrip, record_filmstrips
from shaperun.check.page import render_self_contained
from shaperun.common.errors import UserError
from shaperun.envs.base import Term
from shaperun.envs.episodes import Episode
from shaperun.rewards.config import RewardConfig
from shaperun.rewards.kernel import RewardError, RewardKernel
from shaperun.study.models import Study

FILMED_EPISODES = 3  # per behavior; the page shows only the numbers of the others


def render_page(study: Study, episodes: int = EPISODES) -> str:
    """Return the page of a study as HTML that needs no network and no server.

    Raises:
        UserError: the environment cannot be played, or a term is not finite.
    """
    try:
        return render_self_contained("shaperun.check", "preview", page_data(study, episodes))
    except RewardError as error:
        raise UserError(f"invalid rewards: {error}") from None


def page_data(study: Study, episodes: int = EPISODES) -> dict[str, Any]:
    """Return the data of the page, ready for JSON.

    An episode's `terms` are the values (K, T) of all terms at the state after each step, and
    `env_reward` (T,) the environment's rewards: little-endian float64, deflated, in base64. `first`
    are the K values at the first state, 0 for terms of the action.
    """
    environment = study.environment.describe()
    behaviors = record_behaviors(study.environment, episodes)
    arms = {name: study.resolve_reward(reward) for name, reward in study.arms.items()}
    terms, columns = _collect_terms(study, arms)
    filmed = [replace(b, episodes=b.episodes[:FILMED_EPISODES]) for b in behaviors]
    strips = record_filmstrips(study.environment, filmed)
    return {
        "study": study.study,
        "environment": environment.id,
        "gamma": study.training.gamma,
        "bootstraps": study.training.learner.has_critic,
        "errors": ranking.STANDARD_ERRORS,
        "part": ranking.MIN_SHARE,
        "terms": [
            {"name": t.name, "formula": t.formula, "state_only": t.state_only} for t, _ in terms
        ],
        "arms": {name: _describe_arm(reward, columns[name]) for name, reward in study.arms.items()},
        "behaviors": [
            {
                "name": behavior.name,
                "description": behavior.description,
                "episodes": [
                    _describe_episode(episode, terms, environment.outcomes[episode.outcome], strip)
                    for episode, strip in zip_longest(behavior.episodes, filmed_strips)
                ],
            }
            for behavior, filmed_strips in zip(behaviors, strips, strict=True)
        ],
    }


def _collect_terms(
    study: Study, arms: Mapping[str, RewardConfig]
) -> tuple[list[tuple[Term, RewardKernel]], dict[str, dict[str, int]]]:
    """Return all distinct terms with a kernel that evaluates each, and each arm's term indices.

    Arms may define different terms under the same name.
    """
    environment, gamma = study.environment.describe(), study.training.gamma
    terms: dict[tuple[str, str], tuple[Term, RewardKernel]] = {}
    columns: dict[str, dict[str, int]] = {}
    for arm, reward in arms.items():
        weights = dict.fromkeys([*environment.built_in, *reward.terms], 1.0)
        config = RewardConfig(mode="log", weights=weights, terms=reward.terms)
        kernel = RewardKernel(environment, config, gamma)
        columns[arm] = {}
        for term in kernel.terms:
            key = (term.name, str(reward.terms.get(term.name, "")))
            terms.setdefault(key, (term, kernel))
            columns[arm][term.name] = list(terms).index(key)
    return list(terms.values()), columns


def _describe_arm(reward: RewardConfig, columns: Mapping[str, int]) -> dict[str, Any]:
    schedule = reward.schedule
    return {
        "mode": reward.mode,
        "scale": reward.scale,
        "weights": dict(reward.weights),
        "columns": dict(columns),
        "terms": {
            name: term if isinstance(term, str) else term.model_dump(mode="json")
            for name, term in reward.terms.items()
        },
        "schedule": None if schedule is None else schedule.model_dump(mode="json"),
        "factor": [1.0 if schedule is None else schedule(step / 100) for step in range(101)],
    }


def _describe_episode(
    episode: Episode,
    terms: Sequence[tuple[Term, RewardKernel]],
    success: bool | None,
    strip: Filmstrip | None,
) -> dict[str, Any]:
    transition = episode.transition
    kernels = {id(kernel): kernel for _, kernel in terms}
    raw = {key: kernel(transition).raw for key, kernel in kernels.items()}
    start = {key: k.state_values(transition.obs[:1])[0] for key, k in kernels.items()}
    columns = [(id(kernel), kernel.names.index(term.name)) for term, kernel in terms]
    return {
        "outcome": episode.outcome,
        "success": success,
        "terminated": bool(transition.terminated[-1]),
        "length": len(episode),
        "env_reward": _pack(transition.env_reward),
        "terms": _pack(np.stack([raw[key][:, column] for key, column in columns])),
        "first": [float(start[key][column]) for key, column in columns],
        "strip": None if strip is None else vars(strip),
    }


def _pack(values: np.ndarray) -> str:
    plain = np.ascontiguousarray(values, dtype="<f8").tobytes()
    return base64.b64encode(zlib.compress(plain, 9)).decode()
