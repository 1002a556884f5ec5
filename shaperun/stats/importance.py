"""Share of an outcome's variance that each of several quantities explains, compared with chance.

The outcome is fitted by least squares with a linear and a quadratic part per quantity and no
interactions. The share of a quantity is the explained variance that the fit loses without it (the
squared semipartial correlation); variance that two quantities explain equally well counts for
neither.

A fit explains some variance of any small sample, so every share comes with the share that the fit
explains of the same outcomes in random order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from shaperun.stats.sample import Sample

MIN_TRIALS = 16
MIN_TRIALS_PER_QUANTITY = 8
_SHUFFLES = 1000
_LEVEL = 0.95
_SEED = 0


@dataclass(frozen=True)
class ImportanceShare:
    """Share of an outcome's variance that a quantity explains, from 0 to 1."""

    share: float
    chance: float
    """The 95th percentile of the share over random orders of the outcomes."""


def min_trials(quantities: int) -> int:
    """Return the number of outcomes from which on shares are meaningful."""
    return max(MIN_TRIALS, MIN_TRIALS_PER_QUANTITY * quantities)


def explained_variance_shares(
    quantities: Sequence[Sample], outcomes: Sample
) -> list[ImportanceShare]:
    """Return the share of each quantity; none if there are too few outcomes or all are equal.

    Quantities and outcomes have shape (n,); quantities are on a scale on which they are uniform.
    """
    spread = np.ptp(outcomes) if len(outcomes) else 0.0
    if len(outcomes) < min_trials(len(quantities)) or spread == 0:
        return []
    rng = np.random.default_rng(_SEED)
    shuffled = np.stack([outcomes, *(rng.permutation(outcomes) for _ in range(_SHUFFLES))], axis=1)
    parts = [_linear_and_quadratic(values) for values in quantities]
    full = _explained_variance(parts, shuffled)
    shares = []
    for index in range(len(parts)):
        lost = full - _explained_variance([*parts[:index], *parts[index + 1 :]], shuffled)
        chance = float(np.quantile(lost[1:], _LEVEL))
        shares.append(ImportanceShare(float(np.clip(lost[0], 0, 1)), chance))
    return shares


def _linear_and_quadratic(values: Sample) -> Sample:
    """Return both parts of a quantity (n, 2), with its values scaled to [-1, 1]."""
    spread = np.ptp(values)
    unit = (values - values.min()) / spread * 2 - 1 if spread else np.zeros(len(values))
    return np.stack([unit, unit**2], axis=1)


def _explained_variance(parts: Sequence[Sample], outcomes: Sample) -> Sample:
    """Return the share of its variance that the fit explains, for each column of outcomes."""
    centered = outcomes - outcomes.mean(axis=0)
    if not parts:
        return np.zeros(outcomes.shape[1])
    design = np.concatenate(parts, axis=1)
    basis, sizes, _ = np.linalg.svd(design - design.mean(axis=0), full_matrices=False)
    basis = basis[
        :, sizes > 1e-9 * max(1.0, sizes[0])
    ]  # a quantity with two values has no quadratic part
    explained: Sample = ((basis.T @ centered) ** 2).sum(axis=0) / (centered**2).sum(axis=0)
    return explained
