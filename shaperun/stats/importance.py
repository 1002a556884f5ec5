"""How much of an outcome's variation each of several quantities explains, and how much is chance.

The outcome is fitted by least squares with a straight and a curved part (linear and quadratic) for
every quantity, with no products of them. A quantity's share is what the fit loses of the outcome's
variance when that quantity is left out (the squared semipartial correlation), so that what two of
them can explain equally well is counted for neither.

A fit explains something of any few numbers. What it explains of the same outcomes in random order
is chance, and stands beside every share.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Sample = NDArray[np.float64]

MIN_TRIALS = 16
MIN_TRIALS_PER_QUANTITY = 8
_SHUFFLES = 1000
_LEVEL = 0.95
_SEED = 0


@dataclass(frozen=True)
class ImportanceShare:
    """What a quantity explains of an outcome's variance, from 0 to 1."""

    share: float
    chance: float
    """What it would explain in 19 of 20 random orders of the outcomes at the most."""


def min_trials(quantities: int) -> int:
    """How many outcomes it takes for shares that mean something."""
    return max(MIN_TRIALS, MIN_TRIALS_PER_QUANTITY * quantities)


def explained_variance_shares(
    quantities: Sequence[Sample], outcomes: Sample
) -> list[ImportanceShare]:
    """The share of each quantity; none where there are too few outcomes, or all are the same.

    Args:
        quantities: of each its values, on the scale on which they are spread evenly.
        outcomes: what came out, as many.
    """
    spread = np.ptp(outcomes) if len(outcomes) else 0.0
    if len(outcomes) < min_trials(len(quantities)) or spread == 0:
        return []
    rng = np.random.default_rng(_SEED)
    shuffled = np.stack([outcomes, *(rng.permutation(outcomes) for _ in range(_SHUFFLES))], axis=1)
    parts = [_parts(values) for values in quantities]
    whole = _explained(parts, shuffled)
    found = []
    for place in range(len(parts)):
        lost = whole - _explained([*parts[:place], *parts[place + 1 :]], shuffled)
        chance = float(np.quantile(lost[1:], _LEVEL))
        found.append(ImportanceShare(float(np.clip(lost[0], 0, 1)), chance))
    return found


def _parts(values: Sample) -> Sample:
    """The straight and the curved part of a quantity."""
    spread = np.ptp(values)
    unit = (values - values.min()) / spread * 2 - 1 if spread else np.zeros(len(values))
    return np.stack([unit, unit**2], axis=1)


def _explained(parts: Sequence[Sample], outcomes: Sample) -> Sample:
    """Of every column of outcomes, the part of its variance that the fit explains."""
    centred = outcomes - outcomes.mean(axis=0)
    if not parts:
        return np.zeros(outcomes.shape[1])
    design = np.concatenate(parts, axis=1)
    basis, sizes, _ = np.linalg.svd(design - design.mean(axis=0), full_matrices=False)
    basis = basis[:, sizes > 1e-9 * max(1.0, sizes[0])]  # two values of a grid have no curve
    explained: Sample = ((basis.T @ centred) ** 2).sum(axis=0) / (centred**2).sum(axis=0)
    return explained
