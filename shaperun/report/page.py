"""The report as one self-contained HTML page."""

from __future__ import annotations

from importlib.resources import files

import jinja2

from shaperun.analysis import training_differences
from shaperun.analysis.comparison import evaluation_notes
from shaperun.common.text import escape_control_chars, format_number, humanize, pluralize
from shaperun.report import cards, charts, provenance, sections, sweep_section
from shaperun.report.data import MAX_ARMS, ReportData
from shaperun.report.sections import Context


def render_page(data: ReportData, *, static: bool = False) -> str:
    """Return the report as one self-contained HTML document; `static` is without JavaScript."""
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: escape_control_chars(value) if type(value) is str else value,
    )
    environment.filters |= {"words": humanize, "number": format_number, "plural": pluralize}
    template = environment.from_string(_read("report.html"))
    return template.render(**_make_context(data), style=_read("report.css"), **_scripts(static))


def _read(name: str) -> str:
    return files("shaperun.report").joinpath(name).read_text(encoding="utf-8")


def _scripts(static: bool) -> Context:
    if static:
        return {"plotly": "", "script": ""}
    from plotly.offline import get_plotlyjs

    return {"plotly": get_plotlyjs(), "script": _read("report.js")}


def _make_context(data: ReportData) -> Context:
    arms = list(data.study.arms)
    return {
        "study": data.study,
        "arms": arms,
        "theme": charts.theme_colors(arms),
        "headline": sections.write_headline(data),
        "algorithms": sections.join_names(training_differences.algorithms(data.study)),
        "training_notes": [
            *evaluation_notes(data.study),
            *training_differences.training_notes(data.study),
            *data.code,
        ],
        "grid": sections.make_training_grid(data),
        "cards": cards.make_cards(data),
        "drawn": sections.describe_drawn_arms(data),
        "listed": arms if len(arms) <= 3 * MAX_ARMS else data.drawn_arms,
        "missing": sections.describe_missing_runs(data),
        "sweep": sweep_section.make_sweep_section(data.study, data.sweep, data.summary.arms),
        "sweep_headline": sweep_section.write_headline(data.sweep),
        **sections.make_tables(data),
        **sections.make_curves(data),
        **sections.make_outcomes(data),
        "gif": charts.to_data_url(data.gif, "image/gif"),
        "matrix": sections.make_matrix(data),
        **sections.make_exploitation(data),
        **sections.make_terms(data),
        **sections.make_health(data),
        **provenance.make_provenance(data),
    }
