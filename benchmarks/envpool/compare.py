"""Whether two samples of episodes could come from one environment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

from benchmarks.envpool.play import Episodes
from shaperun.stats.permutation import holm

DIGITS = 3  # of a return that count: EnvPool's rewards have only seven, and go into a sum of many
DRAWS = 99_999
TWO_SIDED = 1.96  # standard errors, for 95%


@dataclass(frozen=True)
class Result:
    """One test of one quantity."""

    quantity: str
    name: str
    p: float


@dataclass(frozen=True)
class Compared:
    """One controller in gymnasium's environment and in EnvPool's, and what the tests say of it."""

    env_id: str
    controller: str
    gymnasium: Episodes
    envpool: Episodes
    results: tuple[Result, ...]


def examine(a: Episodes, b: Episodes, rng: np.random.Generator) -> tuple[Result, ...]:
    """Every test that can be made: there is none of what is the same in all episodes of both."""
    returns = [side.returns.round(DIGITS) for side in (a, b)]
    return (
        *_of_numbers("return", *returns),
        *_of_numbers("length", a.lengths, b.lengths),
        *_of_outcomes(a.outcomes, b.outcomes, rng),
    )


def _of_numbers(quantity: str, a: npt.NDArray[Any], b: npt.NDArray[Any]) -> list[Result]:
    """Of the whole distributions, and, as a shift is found sooner by it, of their ranks."""
    if len(np.unique(np.concatenate([a, b]))) == 1:
        return []
    return [
        Result(quantity, "Kolmogorov–Smirnov", float(stats.ks_2samp(a, b).pvalue)),
        Result(quantity, "Mann–Whitney", float(stats.mannwhitneyu(a, b).pvalue)),
    ]


def _of_outcomes(
    a: npt.NDArray[np.str_], b: npt.NDArray[np.str_], rng: np.random.Generator
) -> list[Result]:
    """Chi-square, against tables with the same margins: most outcomes are too rare for theory."""
    kinds = np.unique(np.concatenate([a, b]))
    if len(kinds) == 1:
        return []
    of_a, of_b = (np.array([(side == kind).sum() for kind in kinds]) for side in (a, b))
    together = of_a + of_b
    expected = together * len(a) / (len(a) + len(b))
    drawn = rng.multivariate_hypergeometric(together, len(a), DRAWS)
    far, observed = (((x - expected) ** 2 / expected).sum(axis=-1) for x in (drawn, of_a))
    as_far = int((far >= observed - 1e-9).sum())
    return [Result("outcome", "chi-square", (1 + as_far) / (1 + DRAWS))]


def adjusted(rows: Sequence[Compared]) -> list[list[float]]:
    """Holm's p of every test of every row, over all of them together."""
    p = iter(holm([result.p for row in rows for result in row.results]).tolist())
    return [[next(p) for _ in row.results] for row in rows]


def difference(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> tuple[float, float, float]:
    """mean(b) − mean(a), and the two ends of its 95% interval for samples of hundreds."""
    error = sqrt(a.var(ddof=1) / len(a) + b.var(ddof=1) / len(b))
    middle = float(b.mean() - a.mean())
    return middle, middle - TWO_SIDED * error, middle + TWO_SIDED * error
