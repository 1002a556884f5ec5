"""Charts of the report: the data of the interactive one, and figures that follow the theme."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from shaperun.report.plots import style

DARK = "#1b1e23"  # the page's cards where it is dark


def curve_data(
    curves: pl.DataFrame, centre: pl.DataFrame, labels: Mapping[str, str], shown: Sequence[str]
) -> list[dict[str, Any]]:
    """What the interactive curves are drawn from, one entry an arm.

    Args:
        curves: arm, seed, timesteps, return: one row an evaluation of a run.
        centre: arm, timesteps, return_centre, return_low, return_high, runs.
        labels: arm -> how it is written; its order is that of the colours.
        shown: the arms that are drawn at first.
    """
    return [
        {
            "label": label,
            "shown": arm in shown,
            "runs": [
                {"seed": seed, "x": run["timesteps"].to_list(), "y": _rounded(run["return"])}
                for (seed,), run in curves.filter(arm=arm).group_by("seed", maintain_order=True)
            ],
            "centre": _centre(centre.filter(arm=arm).sort("timesteps")),
        }
        for arm, label in labels.items()
    ]


def _centre(points: pl.DataFrame) -> dict[str, Any]:
    return {
        "x": points["timesteps"].to_list(),
        "runs": points["runs"].to_list(),
        **{
            key: _rounded(points[column])
            for key, column in (
                ("y", "return_centre"),
                ("low", "return_low"),
                ("high", "return_high"),
            )
        },
    }


def _rounded(values: pl.Series) -> list[float | None]:
    return values.cast(pl.Float64).round(2).to_list()


def to_data_url(data: bytes | None, kind: str) -> str:
    """A picture as an address that holds all of it; empty where there is none."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}" if data else ""


def theme(arms: Sequence[str]) -> list[tuple[str, str]]:
    """The colours of the arms on a light and on a dark page."""
    return [(colour, _on_dark(colour)) for colour in style.colours(arms).values()]


def _on_dark(colour: str) -> str:
    """The colour, with as much white as it takes to stand out from a dark page (4.5 : 1)."""
    rgb = to_rgb(colour)
    if max(rgb) - min(rgb) < 0.05:  # a grey would look switched off
        return "#eceef1"
    for white in range(0, 100, 5):
        mixed = [x + (1 - x) * white / 100 for x in rgb]
        if _contrast(mixed, to_rgb(DARK)) >= 4.5:
            break
    return "#" + "".join(f"{round(255 * x):02x}" for x in mixed)


def _contrast(a: Sequence[float], b: Sequence[float]) -> float:
    """WCAG 2.2's contrast ratio."""
    light, dark = sorted((_luminance(a), _luminance(b)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def _luminance(rgb: Sequence[float]) -> float:
    red, green, blue = (x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in rgb)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@style.styled
def inline_svg(figure: Figure, arms: Sequence[str]) -> str:
    """A figure as an SVG element whose colours are the page's variables."""
    style.finish_layout(figure)
    data = io.StringIO()
    figure.savefig(data, format="svg", metadata={"Date": None, "Creator": None})
    svg = data.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(
        r"<!--.*?-->|<metadata>.*?</metadata>|<style[^>]*>.*?</style>", "", svg, flags=re.DOTALL
    )
    svg = re.sub(r'<g id="[^"]*">', "<g>", svg)  # which would repeat from figure to figure
    # The width is the page's; the view box keeps the shape.
    svg = re.sub(
        r'<svg [^>]*?(viewBox="[^"]*")[^>]*>', r'<svg \1 aria-hidden="true">', svg, count=1
    )
    for colour, variable in _variables(arms).items():
        svg = svg.replace(colour, variable)
    return svg


def _variables(arms: Sequence[str]) -> dict[str, str]:
    fixed = {
        "#ffffff": "none",
        "#000000": "var(--ink)",
        style.MUTED: "var(--muted)",
        "#e6e6e6": "var(--line)",
    }
    palette = {c.lower(): f"var(--arm-{k})" for k, c in enumerate(style.colours(arms).values())}
    return {colour.lower(): variable for colour, variable in (fixed | palette).items()}
