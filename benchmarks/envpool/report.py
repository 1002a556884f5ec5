"""The page that keeps what was found: docs/envpool.md."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy.typing as npt
from scipy.stats import mannwhitneyu

from benchmarks.envpool.compare import Compared, adjusted, difference
from benchmarks.envpool.play import Episodes
from benchmarks.envpool.terrain import CONTROLLER, Grounds, height
from shaperun.common.files import write_atomically
from shaperun.envs.builtin import environments

PAGE = Path(__file__).parents[2] / "docs" / "envpool.md"
PACKAGES = ("envpool", "gymnasium", "Box2D", "numpy")
BEGIN, END = "<!-- physics: begin -->", "<!-- physics: end -->"

SMALLEST = 8  # so many tests are shown one by one
SHOWN = 0.05  # from here down a p stands in bold

Table = Sequence[Sequence[str]]


def keep(rows: Sequence[Compared], grounds: Sequence[Grounds], page: Path = PAGE) -> None:
    """Put the tables between their marks; whoever reads the page meanwhile sees all or nothing."""
    text = replaced(page.read_text(encoding="utf-8"), written(rows, grounds))
    write_atomically(page, text.encode())


def replaced(page: str, text: str) -> str:
    """The page with `text` between the marks.

    Raises:
        ValueError: the marks are not there.
    """
    pattern = re.compile(f"{re.escape(BEGIN)}.*{re.escape(END)}", re.DOTALL)
    if not pattern.search(page):
        raise ValueError(f"the page has no {BEGIN} with {END} after it")
    return pattern.sub(lambda _: f"{BEGIN}\n{text}\n{END}", page)


def written(rows: Sequence[Compared], grounds: Sequence[Grounds]) -> str:
    """Everything that stands between the marks."""
    made = sum(len(row.results) for row in rows)
    packages = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    parts = [
        f"{len(rows[0].gymnasium):,} episodes a side and row, {made} tests. With {packages}.",
        markdown(list(_rows(rows))),
        "The smallest p of all, before Holm's correction and after:",
        markdown(list(_smallest(rows))),
        f"`{CONTROLLER}` in gymnasium's lander, in the same on EnvPool's ground, and in EnvPool's: "
        "the height (y) at rest on the pad, medians, and lengths; p of lengths, by Mann–Whitney, "
        "uncorrected:",
        markdown(list(_grounds(grounds))),
    ]
    return "\n\n".join(parts)


def markdown(table: Table) -> str:
    """A table whose first row is its head."""
    head, *rows = table
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _rows(rows: Sequence[Compared]) -> Iterator[list[str]]:
    """One controller a row."""
    yield [
        *("environment", "controller"),
        *("mean return, gymnasium", "EnvPool's less gymnasium's", "p"),
        *("mean length, gymnasium", "EnvPool's less gymnasium's", "p"),
        *("outcomes, gymnasium", "outcomes, EnvPool", "p"),
    ]
    for row, ps in zip(rows, adjusted(rows), strict=True):
        smallest = {
            quantity: min(
                (
                    p
                    for result, p in zip(row.results, ps, strict=True)
                    if result.quantity == quantity
                ),
                default=None,
            )
            for quantity in ("return", "length", "outcome")
        }
        mine, theirs = row.gymnasium, row.envpool
        yield [
            *(row.env_id, row.controller),
            *_means(mine.returns, theirs.returns, digits=2),
            _p(smallest["return"]),
            *_means(mine.lengths, theirs.lengths, digits=1),
            _p(smallest["length"]),
            *(_outcomes(row.env_id, side) for side in (mine, theirs)),
            _p(smallest["outcome"]),
        ]


def _smallest(rows: Sequence[Compared]) -> Iterator[list[str]]:
    """The tests that come closest to finding something, or found it."""
    yield ["environment", "controller", "quantity", "test", "p", "p, Holm"]
    every = [
        (result.p, holm, row.env_id, row.controller, result.quantity, result.name)
        for row, ps in zip(rows, adjusted(rows), strict=True)
        for result, holm in zip(row.results, ps, strict=True)
    ]
    for p, holm, *names in sorted(every)[:SMALLEST]:
        yield [*names, f"{p:.2g}", _p(holm)]


def _grounds(grounds: Sequence[Grounds]) -> Iterator[list[str]]:
    """Whether landings are like EnvPool's once the ground is."""
    yield [
        *("environment", "y at rest, gymnasium", "on EnvPool's ground", "EnvPool"),
        *("mean length, gymnasium", "on EnvPool's ground", "EnvPool"),
        *("p, this ground against gymnasium", "p, against EnvPool"),
    ]
    for ground in grounds:
        lengths = [side.lengths for side in ground.sides]
        yield [
            ground.env_id,
            *(_number(height(side), 4) for side in ground.sides),
            *(_number(float(side.mean()), 1) for side in lengths),
            *(_p(float(mannwhitneyu(lengths[1], lengths[other]).pvalue)) for other in (0, 2)),
        ]


def _means(a: npt.NDArray[Any], b: npt.NDArray[Any], digits: int) -> tuple[str, str]:
    """The mean of `a`, and how much higher that of `b` is, with its interval."""
    ends = [_signed(value, digits) for value in difference(a, b)]
    middle, low, high = ends
    # Where all of a side's episodes are alike there is no interval, nor any need of one.
    return _number(
        float(a.mean()), digits
    ), middle if low == high else f"{middle} ({low} to {high})"


def _outcomes(env_id: str, side: Episodes) -> str:
    counts = {kind: int((side.outcomes == kind).sum()) for kind in environments()[env_id].outcomes}
    return ", ".join(f"{count:,} {kind}" for kind, count in counts.items() if count)


def _signed(value: float, digits: int) -> str:
    number = _number(value, digits)
    return f"+{number}" if round(value, digits) > 0 else number


def _number(value: float, digits: int) -> str:
    return f"{round(value, digits) or 0.0:.{digits}f}".replace("-", "−")


def _p(value: float | None) -> str:
    if value is None:
        return "–"
    shown = "<0.0001" if value < 0.0001 else f"{value:.2g}"
    return f"**{shown}**" if value < SHOWN else shown
