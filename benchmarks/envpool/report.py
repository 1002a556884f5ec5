"""The tables of docs/envpool.md."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy.typing as npt
from scipy.stats import mannwhitneyu

from benchmarks.doc_tables import format_table, list_versions
from benchmarks.envpool.compare import ComparedEpisodes, adjust_p_values, difference_of_means
from benchmarks.envpool.play import Episodes
from benchmarks.envpool.terrain import CONTROLLER, TerrainComparison, resting_height
from shaperun.envs.builtin import environments

PACKAGES = ("envpool", "gymnasium", "Box2D", "numpy")
LISTED_TESTS = 8
ALPHA = 0.05  # smaller p-values are bold

Rows = Iterator[list[str]]


def format_report(rows: Sequence[ComparedEpisodes], terrains: Sequence[TerrainComparison]) -> str:
    """Return the text with all tables."""
    tests = sum(len(row.tests) for row in rows)
    parts = [
        f"{len(rows[0].gymnasium):,} episodes per side and row, {tests} tests. "
        f"With {list_versions(PACKAGES)}.",
        format_table(list(_controller_rows(rows)), left=11),
        "The smallest p-values, before and after Holm's correction:",
        format_table(list(_smallest_rows(rows)), left=4),
        f"`{CONTROLLER}` in gymnasium's lander, in gymnasium's lander on EnvPool's terrain, and in "
        "EnvPool's lander: median height (y) at rest on the pad, mean length, and the p-values of "
        "lengths (Mann–Whitney, uncorrected):",
        format_table(list(_terrain_rows(terrains))),
    ]
    return "\n\n".join(parts)


def _controller_rows(rows: Sequence[ComparedEpisodes]) -> Rows:
    yield [
        *("environment", "controller"),
        *("mean return, gymnasium", "EnvPool − gymnasium", "p"),
        *("mean length, gymnasium", "EnvPool − gymnasium", "p"),
        *("outcomes, gymnasium", "outcomes, EnvPool", "p"),
    ]
    for row, adjusted in zip(rows, adjust_p_values(rows), strict=True):
        smallest: dict[str, float] = {}
        for result, p in zip(row.tests, adjusted, strict=True):
            smallest[result.quantity] = min(p, smallest.get(result.quantity, 1.0))
        sides = row.gymnasium, row.envpool
        yield [
            *(row.env_id, row.controller),
            *_format_means(*(side.returns for side in sides), digits=2),
            _format_p(smallest.get("return")),
            *_format_means(*(side.lengths for side in sides), digits=1),
            _format_p(smallest.get("length")),
            *(_count_outcomes(row.env_id, side) for side in sides),
            _format_p(smallest.get("outcome")),
        ]


def _smallest_rows(rows: Sequence[ComparedEpisodes]) -> Rows:
    yield ["environment", "controller", "quantity", "test", "p", "p, Holm"]
    tests = [
        (result.p, p, row.env_id, row.controller, result.quantity, result.test)
        for row, adjusted in zip(rows, adjust_p_values(rows), strict=True)
        for result, p in zip(row.tests, adjusted, strict=True)
    ]
    for p, holm, *names in sorted(tests)[:LISTED_TESTS]:
        yield [*names, f"{p:.2g}", _format_p(holm)]


def _terrain_rows(terrains: Sequence[TerrainComparison]) -> Rows:
    yield [
        *("environment", "y at rest, gymnasium", "on EnvPool's terrain", "EnvPool"),
        *("mean length, gymnasium", "on EnvPool's terrain", "EnvPool"),
        *("p, this terrain against gymnasium", "p, against EnvPool"),
    ]
    for terrain in terrains:
        lengths = [side.lengths for side in terrain.sides]
        yield [
            terrain.env_id,
            *(_format_number(resting_height(side), 4) for side in terrain.sides),
            *(_format_number(float(side.mean()), 1) for side in lengths),
            *(
                _format_p(float(mannwhitneyu(lengths[1], lengths[other]).pvalue))
                for other in (0, 2)
            ),
        ]


def _format_means(a: npt.NDArray[Any], b: npt.NDArray[Any], *, digits: int) -> tuple[str, str]:
    """Return mean(a), and mean(b) − mean(a) with its interval, unless both are constant."""
    difference, low, high = (_format_signed(x, digits) for x in difference_of_means(a, b))
    interval = "" if low == high else f" [{low}, {high}]"
    return _format_number(float(a.mean()), digits), f"{difference}{interval}"


def _count_outcomes(env_id: str, side: Episodes) -> str:
    counts = {kind: int((side.outcomes == kind).sum()) for kind in environments()[env_id].outcomes}
    return ", ".join(f"{count:,} {kind}" for kind, count in counts.items() if count)


def _format_signed(value: float, digits: int) -> str:
    number = _format_number(value, digits)
    return f"+{number}" if round(value, digits) > 0 else number


def _format_number(value: float, digits: int) -> str:
    return f"{round(value, digits) or 0.0:.{digits}f}".replace("-", "−")


def _format_p(p: float | None) -> str:
    if p is None:
        return "–"
    number = "<0.0001" if p < 0.0001 else f"{p:.2g}"
    return f"**{number}**" if p < ALPHA else number
