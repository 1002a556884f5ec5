"""Charts of the report: data of the interactive chart, and figures that follow the theme."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from shaperun.report.plots import style

DARK = "#1b1e23"  # background of the cards in the dark theme


def make_curve_data(
    curves: pl.DataFrame, center: pl.DataFrame, labels: Mapping[str, str], shown: Sequence[str]
) -> list[dict[str, Any]]:
    """Return the data of the interactive curves, one entry per arm.

    The curves have one row per evaluation of a run: arm, seed, timesteps, return; `center` has arm,
    timesteps, return_center, return_low, return_high, runs. Labels go by arm, in the order of the
    colors; `shown` are the arms that are visible at first.
    """
    return [
        {
            "label": label,
            "shown": arm in shown,
            "runs": [
                {"seed": seed, "x": run["timesteps"].to_list(), "y": _rounded(run["return"])}
                for (seed,), run in curves.filter(arm=arm).group_by("seed", maintain_order=True)
            ],
            "center": _center(center.filter(arm=arm).sort("timesteps")),
        }
        for arm, label in labels.items()
    ]


def _center(points: pl.DataFrame) -> dict[str, Any]:
    return {
        "x": points["timesteps"].to_list(),
        "runs": points["runs"].to_list(),
        "y": _rounded(points["return_center"]),
        "low": _rounded(points["return_low"]),
        "high": _rounded(points["return_high"]),
    }


def _rounded(values: pl.Series) -> list[float | None]:
    return values.cast(pl.Float64).round_sig_figs(6).to_list()


def to_data_url(data: bytes | None, kind: str) -> str:
    """Return a picture as a data URL, or an empty string without one."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}" if data else ""


def theme_colors(arms: Sequence[str]) -> list[tuple[str, str]]:
    """Return the colors of the arms in the light and in the dark theme."""
    return [(color, _on_dark(color)) for color in style.assign_colors(arms).values()]


def _on_dark(color: str) -> str:
    """Mix white into a color until its contrast with a dark page is at least 4.5:1."""
    rgb = to_rgb(color)
    if max(rgb) - min(rgb) < 0.05:  # gray would look disabled
        return "#eceef1"
    for white in range(0, 100, 5):
        mixed = [x + (1 - x) * white / 100 for x in rgb]
        if _contrast(mixed, to_rgb(DARK)) >= 4.5:
            break
    return "#" + "".join(f"{round(255 * x):02x}" for x in mixed)


def _contrast(a: Sequence[float], b: Sequence[float]) -> float:
    """Return the contrast ratio of WCAG 2.2."""
    light, dark = sorted((_luminance(a), _luminance(b)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def _luminance(rgb: Sequence[float]) -> float:
    red, green, blue = (x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in rgb)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def inline_svg(figure: Figure, arms: Sequence[str]) -> str:
    """Return a figure as an SVG element that uses the page's color variables."""
    svg = style.render(figure, "svg").decode()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(
        r"<!--.*?-->|<metadata>.*?</metadata>|<style[^>]*>.*?</style>", "", svg, flags=re.DOTALL
    )
    svg = re.sub(r'<g id="[^"]*">', "<g>", svg)  # ids repeat across figures
    # The page sets the width; the view box keeps the aspect ratio.
    svg = re.sub(
        r'<svg [^>]*?(viewBox="[^"]*")[^>]*>', r'<svg \1 aria-hidden="true">', svg, count=1
    )
    for color, variable in _variables(arms).items():
        svg = svg.replace(color, variable)
    return svg


def _variables(arms: Sequence[str]) -> dict[str, str]:
    fixed = {
        "#ffffff": "none",
        "#000000": "var(--ink)",
        style.MUTED: "var(--muted)",
        "#e6e6e6": "var(--line)",
    }
    palette = {
        c.lower(): f"var(--arm-{k})" for k, c in enumerate(style.assign_colors(arms).values())
    }
    return {color.lower(): variable for color, variable in (fixed | palette).items()}
