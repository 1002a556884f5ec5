"""Tests of the hypothesis that two samples of episodes are from the same environment."""

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

DIGITS = 3  # of returns that count: EnvPool's rewards have seven, and returns sum many of them
RESAMPLES = 99_999
Z_95 = 1.96  # standard errors of a two-sided 95% interval


@dataclass(frozen=True)
class QuantityTest:
    """One test of one quantity."""

    quantity: str
    test: str
    p: float


@dataclass(frozen=True)
class ComparedEpisodes:
    """Episodes of one controller in gymnasium's environment and in EnvPool's, and the tests."""

    env_id: str
    controller: str
    gymnasium: Episodes
    envpool: Episodes
    tests: tuple[QuantityTest, ...]


def run_tests(a: Episodes, b: Episodes, rng: np.random.Generator) -> tuple[QuantityTest, ...]:
    """Run all tests; quantities that are the same in all episodes of both sides have none."""
    returns = [side.returns.round(DIGITS) for side in (a, b)]
    return (
        *_test_numbers("return", *returns),
        *_test_numbers("length", a.lengths, b.lengths),
        *_test_outcomes(a.outcomes, b.outcomes, rng),
    )


def _test_numbers(quantity: str, a: npt.NDArray[Any], b: npt.NDArray[Any]) -> list[QuantityTest]:
    """Test whole distributions, and ranks, which reveal shifts sooner."""
    if len(np.unique(np.concatenate([a, b]))) == 1:
        return []
    return [
        QuantityTest(quantity, "Kolmogorov–Smirnov", float(stats.ks_2samp(a, b).pvalue)),
        QuantityTest(quantity, "Mann–Whitney", float(stats.mannwhitneyu(a, b).pvalue)),
    ]


def _test_outcomes(
    a: npt.NDArray[np.str_], b: npt.NDArray[np.str_], rng: np.random.Generator
) -> list[QuantityTest]:
    """Compare chi-square with tables of the same margins: most outcomes are too rare for theory."""
    kinds = np.unique(np.concatenate([a, b]))
    if len(kinds) == 1:
        return []
    counts_a, counts_b = (np.array([(side == kind).sum() for kind in kinds]) for side in (a, b))
    totals = counts_a + counts_b
    expected = totals * len(a) / (len(a) + len(b))
    tables = rng.multivariate_hypergeometric(totals, len(a), RESAMPLES)
    chi2, observed = (((x - expected) ** 2 / expected).sum(axis=-1) for x in (tables, counts_a))
    extreme = int((chi2 >= observed - 1e-9).sum())
    return [QuantityTest("outcome", "chi-square", (1 + extreme) / (1 + RESAMPLES))]


def adjust_p_values(rows: Sequence[ComparedEpisodes]) -> list[list[float]]:
    """Return Holm's p of every test of every row, adjusted over all of them together."""
    p = iter(holm([result.p for row in rows for result in row.tests]).tolist())
    return [[next(p) for _ in row.tests] for row in rows]


def difference_of_means(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> tuple[float, float, float]:
    """Return mean(b) − mean(a) and the ends of its 95% interval, for samples of hundreds."""
    error = sqrt(a.var(ddof=1) / len(a) + b.var(ddof=1) / len(b))
    difference = float(b.mean() - a.mean())
    return difference, difference - Z_95 * error, difference + Z_95 * error
