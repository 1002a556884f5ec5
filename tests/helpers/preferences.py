"""Answer sheets that nobody filled in, for tests."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from shaperun.envs.base import Array
from shaperun.preferences import answers
from shaperun.preferences.answers import AnswerSheet

TERMS = {"near": "built in", "calm": "-abs(action)", "upright": "built in"}


def asked(place: int, *, start: int = 4, sums: list[float] | None = None, **changes: Any) -> Any:
    """An episode as a row of a page's table."""
    own = [0.5, float(place), -0.5 * place] if sums is None else sums
    return {
        "start": start,
        "by": f"player {place}",
        "outcome": "fell",
        "length": 10 + place,
        "env_return": 10.0 + place,
        "discounted": 5.0 + place,
        "sums": own,
        "undiscounted": own,
        "states": [],
        **changes,
    }


def sheet_of(
    rows: list[Any], given: list[tuple[int, int, str]], *, subject: Any = None
) -> dict[str, Any]:
    """A file as a page saves it."""
    table = json.dumps(rows)
    about = {"environment": {"id": "CartPole-v1", "options": {}}, "gamma": 0.98, "terms": TERMS}
    return {
        "format": answers.FORMAT,
        "study": "test",
        "subject": subject or about,
        "table": table,
        "digest": answers.digest(table),
        "answers": [{"left": a, "right": b, "answer": answer} for a, b, answer in given],
    }


def simulated(
    weights: list[float],
    count: int,
    *,
    seed: int = 0,
    equal_within: float = -1.0,
    wrong: bool = True,
    spread: Array | None = None,
) -> AnswerSheet:
    """Answers of somebody who has weights, and errs as Bradley and Terry think one does.

    Args:
        weights: of the terms.
        count: of answers, each about another pair.
        seed: of chance.
        equal_within: two worths that are as near as this are called equal.
        wrong: whether somebody errs at all.
        spread: standard deviations of the terms' sums.
    """
    luck = np.random.default_rng(seed)
    sums = luck.normal(size=(2 * count, len(weights))) * (1.0 if spread is None else spread)
    rows = [asked(place, length=10, sums=row.tolist()) for place, row in enumerate(sums)]
    given = []
    for left in range(0, 2 * count, 2):
        worth = float((sums[left] - sums[left + 1]) @ weights)
        better = luck.random() < 1 / (1 + np.exp(-worth)) if wrong else worth > 0
        choice = "equal" if abs(worth) <= equal_within else "left" if better else "right"
        given.append((left, left + 1, choice))
    subject = {
        "environment": {"id": "CartPole-v1", "options": {}},
        "gamma": 0.98,
        "terms": {f"t{place}": "built in" for place in range(len(weights))},
    }
    return AnswerSheet.model_validate(sheet_of(rows, given, subject=subject))
