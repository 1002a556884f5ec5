"""A study on one self-contained page: verdicts first, then everything that they rest on."""

from __future__ import annotations

from importlib.resources import files

import jinja2

from shaperun.analysis import (
    training_differences,
)
from shaperun.common.text import escape_control_chars, format_number, humanize
from shaperun.report import charts, sweep_section
from shaperun.report.data import MAX_ARMS, ReportData
from shaperun.report.sections import (
    Context,
    cross_reward_matrix,
    curves,
    drawn_arms,
    exploitation_section,
    headline,
    join_names,
    missing_runs,
    outcomes,
    provenance,
    tables,
    term_section,
    training_grid_section,
    training_health,
    verdict_cards,
)


def page(material: ReportData, *, static: bool = False) -> str:
    """The report as one HTML document that needs nothing else.

    Args:
        material: what there is.
        static: whether to leave out all JavaScript; the curves are then a picture.
    """
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: escape_control_chars(value) if type(value) is str else value,
    )
    environment.filters |= {"words": humanize, "number": format_number}
    template = environment.from_string(_read("report.html"))
    return template.render(**_context(material), style=_read("report.css"), **_scripts(static))


def _read(name: str) -> str:
    return files("shaperun.report").joinpath(name).read_text(encoding="utf-8")


def _scripts(static: bool) -> Context:
    if static:
        return {"plotly": "", "script": ""}
    from plotly.offline import get_plotlyjs

    return {"plotly": get_plotlyjs(), "script": _read("report.js")}


def _context(material: ReportData) -> Context:
    shown = material.shown
    arms = list(material.study.arms)
    return {
        "study": material.study,
        "arms": arms,
        "theme": charts.theme(arms),
        "headline": headline(material.summary),
        "algorithms": join_names(training_differences.algorithms(material.study)),
        "recipe_notes": list(training_differences.training_notes(material.study)),
        "grid": training_grid_section(material),
        "cards": verdict_cards(material),
        "drawn": drawn_arms(material),
        "open": arms if len(arms) <= 3 * MAX_ARMS else shown,
        "missing": missing_runs(material),
        **_search(material),
        **tables(material),
        **curves(material, shown),
        "outcomes": outcomes(material),
        "gif": charts.to_data_url(material.gif, "image/gif"),
        "matrix": cross_reward_matrix(material),
        **exploitation_section(material, shown),
        **term_section(material, shown),
        **training_health(material, shown),
        **provenance(material),
    }


def _search(material: ReportData) -> Context:
    if not material.trials:
        return {"search": None, "search_lead": ""}
    return {
        "search": sweep_section.sweep_section(
            material.study, material.trials, material.summary.arms
        ),
        "search_lead": sweep_section.lead(material.trials),
    }


# Verdicts


# Tables


# Charts


# Where it comes from
