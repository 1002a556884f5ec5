"""Compare the runs of an arm with those of a baseline."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, nan, sqrt

import numpy as np
from numpy.typing import ArrayLike

from shaperun.stats.intervals import differences, row_correlations, trusted_correlations
from shaperun.stats.permutation import min_runs, p_values, smallest_p
from shaperun.stats.sample import as_sample, iqm, rounding_error, significance_level

MAX_SEEDS = 100  # a side; nobody trains more to settle a comparison

POWER = 0.8

EFFICIENCY = 0.84  # of the IQM: var(mean) / var(IQM) in a normal population


@dataclass(frozen=True)
class Comparison:
    """A sample `a` against a baseline `b`.

    Attributes:
        difference: iqm(a) − iqm(b).
        low: lower end of the interval for the difference; NaN, like `high`, for fewer than three
            runs on either side.
        high: upper end.
        level: confidence of the interval.
        p_value: two-sided p of the permutation test.
        improvement: P(A > B) + ½ P(A = B), over all pairs (paired: over the given ones).
        verdict: "better", "worse", "no difference shown" or "underpowered".
        seeds_needed: runs a side that would probably settle it; None unless underpowered.
    """

    difference: float
    low: float
    high: float
    level: float
    p_value: float
    improvement: float
    verdict: str
    seeds_needed: int | None


def compare(
    a: ArrayLike,
    b: ArrayLike,
    *,
    paired: bool,
    level: float = 0.95,
    rng: np.random.Generator,
) -> Comparison | None:
    """Compare `a`, shape (n,), with the baseline `b`, shape (m,); paired needs n = m.

    The test is that of `p_values`, the interval that of `differences`. "better" and "worse" need
    both: p at most 1 − level, and an interval without 0. The test alone asks whether the arms are
    one population, and may answer no where only their spreads differ. Where there is no winner,
    the verdict is "underpowered" if `seeds_needed` knows a number of seeds, else "no difference
    shown".

    Returns:
        None when `a` or `b` is empty.

    Raises:
        ValueError: paired samples of different lengths.
    """
    alpha = significance_level(level)
    a, b = as_sample(a), as_sample(b)
    if paired and len(a) != len(b):
        raise ValueError(f"paired samples have one length, not {len(a)} and {len(b)}")
    if not len(a) or not len(b):
        return None
    found = differences(a[None], b[None], paired=paired, level=level, rng=rng)
    low, high = (float(found.low[0]), float(found.high[0])) if found else (nan, nan)
    p = float(p_values(a[None], b[None], paired=paired, rng=rng)[0])
    winner = _winner(p <= alpha, low, high)
    needed = None if winner else seeds_needed(a, b, paired=paired, alpha=alpha)
    signs = np.sign(a - b) if paired else np.sign(a[:, None] - b[None, :])
    return Comparison(
        difference=iqm(a) - iqm(b),
        low=low,
        high=high,
        level=level,
        p_value=p,
        improvement=float(0.5 + 0.5 * signs.mean()),
        verdict=winner or ("underpowered" if needed else "no difference shown"),
        seeds_needed=needed,
    )


def _winner(significant: bool, low: float, high: float) -> str | None:
    if significant and low > 0:
        return "better"
    if significant and high < 0:
        return "worse"
    return None


def seeds_needed(a: ArrayLike, b: ArrayLike, *, paired: bool, alpha: float) -> int | None:
    """Runs a side with which `compare` would find so large a difference in about 80% of cases.

    (z(1 − α/2) + z(0.8))² · (s_a² + s_b²) / (0.84 d²) + z(1 − α/2)² / 2, with d = iqm(a) − iqm(b):
    the normal approximation with the small-sample term of Guenther 1981 for one mean, as either
    arm's interval has its own n − 1 degrees of freedom; 0.84 is the efficiency of the IQM. Paired
    samples have less of their covariance, as far as `differences` trusts it. It is at least the
    number that the test needs for any outcome to reach `alpha`, and more than there are.

    Returns:
        None where there is no difference, or one so small that it takes more than 100 runs a side;
        but what the test needs at least, where there are fewer runs than that.
    """
    from scipy.special import ndtri

    a, b = as_sample(a), as_sample(b)
    n, fewest = min(len(a), len(b)), min_runs(alpha, paired)
    if n < 2:
        return fewest
    difference = abs(iqm(a) - iqm(b))
    if difference <= rounding_error(np.concatenate([a, b])):
        return None
    spread_a, spread_b = float(a.std(ddof=1)), float(b.std(ddof=1))
    r = float(trusted_correlations(row_correlations(a[None], b[None]), n)[0]) if paired else 0.0
    variance = max(0.0, spread_a**2 + spread_b**2 - 2 * r * spread_a * spread_b)
    z = float(ndtri(1 - alpha / 2))
    effect = sqrt(EFFICIENCY / variance) * difference if variance else np.inf
    needed = ((z + float(ndtri(POWER))) / effect) ** 2 + z**2 / 2
    number = max(ceil(min(needed, MAX_SEEDS + 1)), fewest, n + 1)
    if number <= MAX_SEEDS:
        return number
    return fewest if smallest_p(len(a), len(b), paired) > alpha else None
