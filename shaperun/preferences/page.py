"""The page that asks which of two episodes is better, and fits weights to the answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from shaperun.check.page import render_self_contained
from shaperun.common.errors import UserError
from shaperun.preferences import answers
from shaperun.preferences.episodes import (
    FilmedEpisode,
    OnProgress,
    collect_episodes,
    make_kernel,
)
from shaperun.preferences.fit import MIN_ANSWERS, compute_scales
from shaperun.runs.study_folder import StudyFolder
from shaperun.study.models import Study


def render_page(
    study: Study, folder: StudyFolder, log: Callable[[str], None], on_progress: OnProgress
) -> str:
    """Return the page of a study as HTML that needs no network and no server.

    Raises:
        UserError: fewer than two episodes could be filmed.
    """
    filmed = collect_episodes(study, folder, log, on_progress)
    if len(filmed) < 2:
        raise UserError(f"{study.environment.id} did not repeat its episodes exactly: no pictures")
    return render_self_contained("shaperun.preferences", "ask", page_data(study, filmed))


def page_data(study: Study, filmed: list[FilmedEpisode]) -> dict[str, Any]:
    """Return the data of the page, ready for JSON."""
    episodes = [item.episode for item in filmed]
    table = answers.serialize_episodes(episodes)
    return {
        "format": answers.FORMAT,
        "study": study.study,
        "subject": answers.Subject.from_study(study).model_dump(mode="json"),
        "formulas": [term.formula for term in make_kernel(study).terms],
        "fewest": MIN_ANSWERS,
        "scales": compute_scales(*answers.stack_sums(episodes)).tolist(),
        "table": table,
        "digest": answers.compute_digest(table),
        "strips": [vars(item.strip) for item in filmed],
    }
