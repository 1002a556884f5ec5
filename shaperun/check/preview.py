"""The playground: one page in which the weights of every arm can be moved and the ranking seen."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.resources import files
from itertools import zip_longest
from typing import Any

import numpy as np

from shaperun.check import ranking
from shaperun.check.behaviours import EPISODES, record_behaviours
from shaperun.check.filmstrip import Filmstrip, filmstrips
from shaperun.common.errors import UserError
from shaperun.envs.base import Term
from shaperun.envs.episodes import Episode
from shaperun.rewards.config import RewardConfig
from shaperun.rewards.kernel import RewardError, RewardKernel
from shaperun.study.models import Study

FILMED_EPISODES = 3  # episodes of each behaviour; the others are only counted
TEMPLATE = "preview.html"
PLACEHOLDER = "/*DATA*/null"
"""What the page's data stands in place of."""


def page(study: Study, episodes: int = EPISODES) -> str:
    """The page of a study as HTML: it needs no network and no server.

    Raises:
        UserError: the environment cannot be played, or a term is not finite.
    """
    template = files("shaperun.check").joinpath(TEMPLATE).read_text(encoding="utf-8")
    # Inside a script element only `<` could end it early.
    try:
        text = json.dumps(data(study, episodes), ensure_ascii=False, allow_nan=False)
    except RewardError as error:
        raise UserError(f"these rewards will not do: {error}") from None
    return template.replace(PLACEHOLDER, text.replace("<", "\\u003c"))


def data(study: Study, episodes: int = EPISODES) -> dict[str, Any]:
    """All that the page shows, as it stands in it.

    An episode's `terms` are the values (K, T) of all terms at the state after each step, and
    `env_reward` (T,) what the environment paid: little-endian float64, deflated, in base64. `first`
    are the K values at the first state, 0 for terms of the action.
    """
    environment = study.environment.describe()
    behaviours = record_behaviours(study.environment, episodes)
    arms = {name: study.resolved(reward) for name, reward in study.arms.items()}
    terms, columns = _terms(study, arms)
    filmed = [replace(b, episodes=b.episodes[:FILMED_EPISODES]) for b in behaviours]
    strips = filmstrips(study.environment, filmed)
    return {
        "study": study.study,
        "environment": environment.id,
        "gamma": study.training.gamma,
        "errors": ranking.STANDARD_ERRORS,
        "part": ranking.MIN_SHARE,
        "terms": [
            {"name": t.name, "formula": t.formula, "state_only": t.state_only} for t, _ in terms
        ],
        "arms": {name: _arm(reward, columns[name]) for name, reward in study.arms.items()},
        "behaviours": [
            {
                "name": behaviour.name,
                "description": behaviour.description,
                "episodes": [
                    _episode(episode, terms, environment.outcomes[episode.outcome], strip)
                    for episode, strip in zip_longest(behaviour.episodes, of_behaviour)
                ],
            }
            for behaviour, of_behaviour in zip(behaviours, strips, strict=True)
        ],
    }


def _terms(
    study: Study, arms: Mapping[str, RewardConfig]
) -> tuple[list[tuple[Term, RewardKernel]], dict[str, dict[str, int]]]:
    """Every different term of the arms with a kernel that knows it, and where each arm has its own.

    Arms may define different terms under one name.
    """
    environment, gamma = study.environment.describe(), study.training.gamma
    found: dict[tuple[str, str], tuple[Term, RewardKernel]] = {}
    columns: dict[str, dict[str, int]] = {}
    for arm, reward in arms.items():
        everything = dict.fromkeys([*environment.built_in, *reward.terms], 1.0)
        kernel = RewardKernel(
            environment, RewardConfig(mode="log", weights=everything, terms=reward.terms), gamma
        )
        columns[arm] = {}
        for term in kernel.terms:
            key = (term.name, str(reward.terms.get(term.name, "")))
            found.setdefault(key, (term, kernel))
            columns[arm][term.name] = list(found).index(key)
    return list(found.values()), columns


def _arm(reward: RewardConfig, columns: Mapping[str, int]) -> dict[str, Any]:
    schedule = reward.schedule
    return {
        "mode": reward.mode,
        "scale": reward.scale,
        "weights": dict(reward.weights),
        "columns": dict(columns),
        "terms": {
            name: given if isinstance(given, str) else given.model_dump(mode="json")
            for name, given in reward.terms.items()
        },
        "schedule": None if schedule is None else schedule.model_dump(mode="json"),
        "factor": [1.0 if schedule is None else schedule(step / 100) for step in range(101)],
    }


def _episode(
    episode: Episode,
    terms: Sequence[tuple[Term, RewardKernel]],
    good: bool | None,
    strip: Filmstrip | None,
) -> dict[str, Any]:
    transition = episode.transition
    kernels = {id(kernel): kernel for _, kernel in terms}
    raw = {key: kernel(transition).raw for key, kernel in kernels.items()}
    start = {key: k.state_values(transition.obs[:1])[0] for key, k in kernels.items()}
    places = [(id(kernel), kernel.names.index(term.name)) for term, kernel in terms]
    return {
        "outcome": episode.outcome,
        "success": good,
        "terminated": bool(transition.terminated[-1]),
        "length": len(episode),
        "env_reward": _packed(transition.env_reward),
        "terms": _packed(np.stack([raw[key][:, place] for key, place in places])),
        "first": [float(start[key][place]) for key, place in places],
        "strip": None if strip is None else vars(strip),
    }


def _packed(values: np.ndarray) -> str:
    plain = np.ascontiguousarray(values, dtype="<f8").tobytes()
    return base64.b64encode(zlib.compress(plain, 9)).decode()
