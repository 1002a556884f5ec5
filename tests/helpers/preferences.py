"""Simulated answer sheets for tests."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from shaperun.envs.base import Array
from shaperun.preferences import answers
from shaperun.preferences.answers import AnswerSheet

TERMS = {"near": "built in", "calm": "-abs(action)", "upright": "built in"}


def episode_row(
    index: int, *, start: int = 4, sums: list[float] | None = None, **changes: Any
) -> Any:
    """Return an episode as a row of the page's table."""
    values = [0.5, float(index), -0.5 * index] if sums is None else sums
    return {
        "start": start,
        "by": f"player {index}",
        "outcome": "fell",
        "length": 10 + index,
        "env_return": 10.0 + index,
        "discounted": 5.0 + index,
        "sums": values,
        "undiscounted": values,
        "states": [],
        **changes,
    }


def make_sheet(
    rows: list[Any], given: list[tuple[int, int, str]], *, subject: Any = None
) -> dict[str, Any]:
    """Return a file of answers as the page saves it."""
    table = json.dumps(rows)
    default = {"environment": {"id": "CartPole-v1", "options": {}}, "gamma": 0.98, "terms": TERMS}
    return {
        "format": answers.FORMAT,
        "study": "test",
        "subject": subject or default,
        "table": table,
        "digest": answers.compute_digest(table),
        "answers": [{"left": a, "right": b, "answer": answer} for a, b, answer in given],
    }


def simulate_answers(
    weights: list[float],
    count: int,
    *,
    seed: int = 0,
    equal_within: float = -1.0,
    noisy: bool = True,
    spread: Array | None = None,
) -> AnswerSheet:
    """Simulate answers that follow a Bradley-Terry model with some weights.

    Args:
        weights: of the terms.
        count: number of answers, each about another pair.
        seed: of the random numbers.
        equal_within: differences in value up to this are answered as equal.
        noisy: whether answers are random; otherwise the better episode is always preferred.
        spread: standard deviations of the terms' sums.
    """
    rng = np.random.default_rng(seed)
    sums = rng.normal(size=(2 * count, len(weights))) * (1.0 if spread is None else spread)
    rows = [episode_row(i, length=10, sums=row.tolist()) for i, row in enumerate(sums)]
    given = []
    for left in range(0, 2 * count, 2):
        logit = float((sums[left] - sums[left + 1]) @ weights)
        better = rng.random() < 1 / (1 + np.exp(-logit)) if noisy else logit > 0
        choice = "equal" if abs(logit) <= equal_within else "left" if better else "right"
        given.append((left, left + 1, choice))
    subject = {
        "environment": {"id": "CartPole-v1", "options": {}},
        "gamma": 0.98,
        "terms": {f"t{i}": "built in" for i in range(len(weights))},
    }
    return AnswerSheet.model_validate(make_sheet(rows, given, subject=subject))
