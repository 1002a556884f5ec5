"""The page that asks which of two episodes is better, and fits weights to the answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.resources import files
from typing import Any

from shaperun.common.errors import UserError
from shaperun.preferences import answers
from shaperun.preferences.episodes import (
    FilmedEpisode,
    OnProgress,
    collect_episodes,
    kernel_of_all_terms,
)
from shaperun.preferences.fit import MIN_ANSWERS, scales
from shaperun.runs.study_folder import StudyFolder
from shaperun.study.models import Study

TEMPLATE = "ask.html"
PLACEHOLDER = "/*DATA*/null"
"""What the page's data stands in place of."""


def page(
    study: Study, folder: StudyFolder, log: Callable[[str], None], on_progress: OnProgress
) -> str:
    """The page of a study as HTML: it needs no network and no server.

    Raises:
        UserError: there is nothing that could be asked.
    """
    questions = collect_episodes(study, folder, log, on_progress)
    if len(questions) < 2:
        raise UserError(f"{study.environment.id} did not play the same episode twice: no pictures")
    template = files("shaperun.preferences").joinpath(TEMPLATE).read_text(encoding="utf-8")
    # Inside a script element only `<` could end it early.
    text = json.dumps(data(study, questions), ensure_ascii=False, allow_nan=False)
    return template.replace(PLACEHOLDER, text.replace("<", "\\u003c"))


def data(study: Study, questions: list[FilmedEpisode]) -> dict[str, Any]:
    """All that the page shows, as it stands in it."""
    episodes = [question.episode for question in questions]
    table = answers.table(episodes)
    return {
        "format": answers.FORMAT,
        "study": study.study,
        "subject": answers.Subject.from_study(study).model_dump(mode="json"),
        "formulas": [term.formula for term in kernel_of_all_terms(study).terms],
        "fewest": MIN_ANSWERS,
        "scales": scales(*answers.sums(episodes)).tolist(),
        "table": table,
        "digest": answers.digest(table),
        "strips": [vars(question.strip) for question in questions],
    }
