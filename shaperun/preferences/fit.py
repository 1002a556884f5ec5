"""Weights of terms from answers which of two episodes was better (Bradley & Terry 1952).

An episode with the discounted sums x of the K terms is worth v · x, and of two with the same start
the left one is preferred with the probability σ(v · (x_left − x_right)). Answers that call both
equal count half for each. v is where

    Σ log(1 + e^(v · d)) − y v · d + λ/2 Σ (σ_k v_k)²

is least, over all answers with the difference d and the answer y; σ_k is the standard deviation of
a term's sums over all episodes, so that the ridge λ bears on all terms alike. It is the one of a
few under which answers that were left out are the likeliest.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import expit

from shaperun.common.errors import UserError
from shaperun.envs.base import Array
from shaperun.preferences.answers import AnswerSheet
from shaperun.rewards.network_term import NetworkTerm

RIDGES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
MIN_ANSWERS = (
    10  # answers for one of the two; of fewer nothing can be left out to try the weights on
)
COLLINEAR = 0.95  # correlation from which on two terms are hardly told apart
NEGLIGIBLE = (
    0.01  # of how a term's sums vary: if no more is left of it with γ, a weight says nothing
)
FOLDS = 5
_Z = 1.959964  # of a normal distribution, for 95%


@dataclass(frozen=True)
class Fit:
    """What answers come to.

    Attributes:
        weights: of the terms that vary between the episodes as a learner sees them; under them the
            episodes' worths spread as widely as their discounted environment returns.
        low: lower ends of the weights' 95% intervals (normal approximation at the optimum, with
            the ridge as a prior).
        high: upper ends.
        logit: what the worths of two episodes differ by where the odds are e to 1.
        ridge: λ.
        predicted: the share of answers for one of the two that is predicted by weights which were
            fitted, ridge included, without them.
        decided: how many such answers there are.
        equal: how many called both equal.
        same: terms whose sums are the same in both episodes of every pair.
        faint: terms that vary, but of whose variation γ leaves less than `FAINT`, as of what comes
            after hundreds of steps: any weight explains the answers as well, a huge one too.
        together: pairs of terms that hardly differ otherwise than together, with their correlation.
    """

    weights: dict[str, float]
    low: dict[str, float]
    high: dict[str, float]
    logit: float
    ridge: float
    predicted: float
    decided: int
    equal: int
    constant: list[str]
    negligible: list[str]
    collinear: list[tuple[str, str, float]]


@dataclass(frozen=True)
class NetworkFit:
    """What a network adds.

    Attributes:
        term: the network, as it stands in a study file; its weight is 1 beside those of the fit.
            None where answers that were left out are likeliest without it.
        predicted: the share of answers for one of two that the terms and it predict, fitted,
            ridges included, without them.
        ridge: λ.
    """

    term: NetworkTerm | None
    predicted: float
    ridge: float


def fit(sheet: AnswerSheet) -> Fit:
    """Weights from answers.

    Raises:
        UserError: there are too few answers, or no term varies.
    """
    pairs, preferred = sheet.compared()
    decided = int((preferred != 0.5).sum())
    if decided < MIN_ANSWERS:
        raise UserError(
            f"{decided} answers prefer one of two episodes, and weights need {MIN_ANSWERS} at least; "
            "answer more and save again"
        )
    sums, undiscounted = sheet.sums
    differences = sums[pairs[:, 0]] - sums[pairs[:, 1]]
    differs = np.abs(differences).max(0) > 1e-9 * np.maximum(1.0, np.abs(sums).max(0))
    scale = scales(sums, undiscounted)
    faint = (scale == 0) & (undiscounted.std(0) > 0)
    varies = differs & ~faint
    if not varies.any():
        raise UserError(
            "no term differs between the episodes that were asked about, so nothing can be fitted; "
            "define terms that do, and ask again"
        )
    names = _names(sheet, varies)
    scaled = differences[:, varies] * scale[varies]
    ridge = select_ridge(scaled, preferred)
    weights = fit_weights(scaled, preferred, ridge)
    error = np.sqrt(np.diag(np.linalg.inv(curvature(scaled, weights, ridge))))
    logit = _logit(sheet, varies, weights * scale[varies])
    unit = logit * scale[varies]
    low, high = weights - _Z * error, weights + _Z * error
    by_name = [
        dict(zip(names, (unit * part).tolist(), strict=True)) for part in (weights, low, high)
    ]
    return Fit(
        weights=by_name[0],
        low=by_name[1],
        high=by_name[2],
        logit=logit,
        ridge=ridge,
        predicted=_predicted(scaled, preferred),
        decided=decided,
        equal=len(preferred) - decided,
        constant=_names(sheet, ~differs & ~faint),
        negligible=_names(sheet, faint),
        collinear=list(_collinear_terms(names, scaled)),
    )


def scales(sums: Array, undiscounted: Array) -> Array:
    """One over the standard deviation of each term's sums (K,); 0 where hardly anything varies.

    Args:
        sums: of every episode and term, with γ (episodes, K).
        undiscounted: the same without.
    """
    spread = sums.std(0)
    varies = (spread > 0) & (spread >= NEGLIGIBLE * undiscounted.std(0))
    return np.where(varies, 1 / np.where(varies, spread, 1.0), 0.0)


def document(fit: Fit, sheet: AnswerSheet, network: NetworkFit | None) -> dict[str, object]:
    """A fit as plain data."""
    own = network and {"predicted": network.predicted, "ridge": network.ridge}
    return {
        "study": sheet.study,
        "answers": {
            "preferring": fit.decided,
            "equal": fit.equal,
            "unsure": sheet.counts()["unsure"],
        },
        "weights": {
            name: {"weight": weight, "interval": [fit.low[name], fit.high[name]]}
            for name, weight in fit.weights.items()
        },
        "predicted": fit.predicted,
        "ridge": fit.ridge,
        "together": [list(pair) for pair in fit.collinear],
        "same": fit.constant,
        "faint": fit.negligible,
        "network": own,
    }


def fit_weights(differences: Array, preferred: Array, ridge: float) -> Array:
    """The weights (K,) under which answers are likeliest, less the ridge.

    Args:
        differences: of the left episode and the right, (n, K).
        preferred: 1 where the left one was better, 0 where the right one was, ½ where neither.
        ridge: λ.
    """

    def loss(weights: Array) -> tuple[float, Array]:
        worth = differences @ weights
        value = np.logaddexp(0.0, worth) - preferred * worth
        gradient = differences.T @ (expit(worth) - preferred) + ridge * weights
        return float(value.sum() + ridge / 2 * weights @ weights), gradient

    found = minimize(
        loss,
        np.zeros(differences.shape[1]),
        jac=True,
        hess=lambda weights: curvature(differences, weights, ridge),
        method="trust-exact",
        options={"gtol": 1e-8},
    )
    return np.asarray(found.x)


def curvature(differences: Array, weights: Array, ridge: float) -> Array:
    """The second derivatives (K, K) of what is least at the maximum."""
    likely = expit(differences @ weights)
    weighed = differences * (likely * (1 - likely))[:, None]
    return np.asarray(weighed.T @ differences + ridge * np.eye(len(weights)))


def select_ridge(differences: Array, preferred: Array) -> float:
    """The ridge under which answers that were left out are likeliest; the largest of equals."""
    losses = [
        sum(
            _loss(
                differences[out], preferred[out], fit_weights(differences[~out], preferred[~out], r)
            )
            for out in folds(len(preferred))
        )
        for r in RIDGES
    ]
    return RIDGES[len(RIDGES) - 1 - int(np.argmin(losses[::-1]))]


def _names(sheet: AnswerSheet, which: npt.NDArray[np.bool_]) -> list[str]:
    return [name for name, is_one in zip(sheet.terms, which, strict=True) if is_one]


def _loss(differences: Array, preferred: Array, weights: Array) -> float:
    worth = differences @ weights
    return float((np.logaddexp(0.0, worth) - preferred * worth).sum())


def _predicted(differences: Array, preferred: Array) -> float:
    """The share of answers for one of two that weights foresee which do not know them."""
    right: list[float] = []
    for out in folds(len(preferred)):
        known, answers = differences[~out], preferred[~out]
        worth = differences[out] @ fit_weights(known, answers, select_ridge(known, answers))
        for value, answer in zip(worth, preferred[out], strict=True):
            if answer != 0.5:
                right.append(0.5 if value == 0 else float((value > 0) == (answer > 0.5)))
    return float(np.mean(right))


def folds(count: int) -> Iterator[npt.NDArray[np.bool_]]:
    """Which answers are left out at a time (n,): each one once, the same every time."""
    order = np.random.default_rng(0).permutation(count)
    for fold in range(FOLDS):
        out = np.zeros(count, dtype=bool)
        out[order[fold::FOLDS]] = True
        yield out


def _collinear_terms(names: list[str], differences: Array) -> Iterator[tuple[str, str, float]]:
    for (i, one), (j, other) in combinations(enumerate(names), 2):
        a, b = differences[:, i], differences[:, j]
        # Not about their means: a difference of two episodes has no side of its own.
        alike = float(a @ b / np.sqrt((a @ a) * (b @ b)))
        if abs(alike) >= COLLINEAR:
            yield one, other, alike


def _logit(sheet: AnswerSheet, varies: npt.NDArray[np.bool_], weights: Array) -> float:
    """By what to multiply weights, so that worths spread as discounted environment returns do."""
    worths = sheet.sums[0][:, varies] @ weights
    returns = np.array([episode.discounted for episode in sheet.episodes])
    if not worths.std() or not returns.std():
        return 1.0
    return float(returns.std() / worths.std())
