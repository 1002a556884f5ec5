"""Weights of terms from pairwise preferences between episodes (Bradley & Terry 1952).

An episode with discounted sums x of the K terms has the value v · x; of two episodes with the same
start, the left one is preferred with probability σ(v · (x_left − x_right)). Answers that call both
equal count half for each. v minimizes

    Σ log(1 + e^(v · d)) − y v · d + λ/2 Σ (σ_k v_k)²

over all answers with difference d and preference y; σ_k is the standard deviation of a term's sums
over all episodes, so that the ridge λ treats all terms alike. λ is chosen by cross-validation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations
from math import comb

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from shaperun.common.errors import UserError
from shaperun.common.text import pluralize
from shaperun.envs.base import Array
from shaperun.preferences.answers import AnswerSheet
from shaperun.rewards.network_term import NetworkTerm

Mask = npt.NDArray[np.bool_]

RIDGES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
MIN_ANSWERS = 10  # that prefer one of two; fewer cannot be cross-validated
COLLINEAR = 0.95  # absolute correlation above which two terms are hardly distinguishable
NEGLIGIBLE = 0.01  # share of a term's standard deviation left by γ, below which it has no weight
FOLDS = 5
TEST_PARTS, TEST_RIDGE = 20, 1.0  # of the test against chance, which any predictor leaves valid
_Z = 1.959964  # 95% quantile of a normal distribution, two-sided


@dataclass(frozen=True)
class Fit:
    """Weights fitted to answers.

    Attributes:
        weights: of the terms that vary after discounting, scaled so that the episodes' values
            vary as much as their discounted environment returns.
        low: lower ends of the weights' 95% intervals (normal approximation at the optimum, with
            the ridge as a prior).
        high: upper ends.
        logit: difference in value of two episodes at which the odds are e to 1.
        ridge: λ.
        accuracy: share of held-out answers that prefer one of two and are predicted correctly;
            weights and ridge are fitted without them.
        p_chance: probability that guesses are predicted as often, see `compute_p_chance`.
        decided: number of answers that prefer one of two.
        equal: number of answers that call both equal.
        constant: terms whose sums are equal in both episodes of every pair.
        negligible: terms of whose variation γ leaves less than `NEGLIGIBLE`, such as outcomes after
            hundreds of steps: any weight, however large, explains the answers equally well.
        collinear: pairs of strongly correlated terms, with their correlation.
    """

    weights: dict[str, float]
    low: dict[str, float]
    high: dict[str, float]
    logit: float
    ridge: float
    accuracy: float
    p_chance: float
    decided: int
    equal: int
    constant: list[str]
    negligible: list[str]
    collinear: list[tuple[str, str, float]]


@dataclass(frozen=True)
class NetworkFit:
    """A network fitted to what the terms leave unexplained.

    Its term has weight 1 next to those of the fit, and is None if held-out answers are most likely
    without it. `accuracy` is that of terms and network together, all ridges refitted, and so is
    `p_chance`, with one ridge.
    """

    term: NetworkTerm | None
    accuracy: float
    p_chance: float
    ridge: float


def fit_answers(sheet: AnswerSheet) -> Fit:
    """Fit weights to answers.

    Raises:
        UserError: too few answers, or no term varies.
    """
    pairs, preferred = sheet.comparisons()
    decided = int((preferred != 0.5).sum())
    if decided < MIN_ANSWERS:
        raise UserError(
            f"{pluralize(decided, 'answer')} prefer{'s' * (decided == 1)} one of two episodes; "
            f"a fit needs at least {MIN_ANSWERS}"
        )
    sums, undiscounted = sheet.sums
    differences = sums[pairs[:, 0]] - sums[pairs[:, 1]]
    differs = np.abs(differences).max(0) > 1e-9 * np.maximum(1.0, np.abs(sums).max(0))
    scale = compute_scales(sums, undiscounted)
    negligible = (scale == 0) & (undiscounted.std(0) > 0)
    varies = differs & ~negligible
    if not varies.any():
        raise UserError(
            "no term differs between the compared episodes, so nothing can be fitted; define terms "
            "that do, and ask again"
        )
    names = _select_names(sheet, varies)
    scaled = differences[:, varies] * scale[varies]
    ridge = select_ridge(scaled, preferred)
    weights = fit_weights(scaled, preferred, ridge)
    error = np.sqrt(np.diag(np.linalg.inv(compute_hessian(scaled, weights, ridge))))
    logit = _return_scale(sheet, varies, weights * scale[varies])
    unit = logit * scale[varies]
    low, high = weights - _Z * error, weights + _Z * error
    by_name = [
        dict(zip(names, (unit * values).tolist(), strict=True)) for values in (weights, low, high)
    ]
    return Fit(
        weights=by_name[0],
        low=by_name[1],
        high=by_name[2],
        logit=logit,
        ridge=ridge,
        accuracy=_held_out_accuracy(scaled, preferred),
        p_chance=compute_p_chance(
            preferred, lambda known: _predict(scaled, preferred, known, TEST_RIDGE)
        ),
        decided=decided,
        equal=len(preferred) - decided,
        constant=_select_names(sheet, ~differs & ~negligible),
        negligible=_select_names(sheet, negligible),
        collinear=list(_find_collinear(names, scaled)),
    )


def compute_scales(sums: Array, undiscounted: Array) -> Array:
    """Return 1 / standard deviation of each term's sums (K,); 0 for constant and negligible terms.

    Both tables have shape (episodes, K); `sums` are discounted by γ.
    """
    spread = sums.std(0)
    varies = (spread > 0) & (spread >= NEGLIGIBLE * undiscounted.std(0))
    return np.where(varies, 1 / np.where(varies, spread, 1.0), 0.0)


def compute_p_chance(preferred: Array, predict: Callable[[Mask], Array]) -> float:
    """Return the probability that guesses are predicted as often as the answers (n,).

    Each part of the answers after the first is predicted from those before it, in their order, at
    `TEST_RIDGE`; `predict` returns the logits (n,) of all, given the mask (n,) of those known. A
    guess is predicted correctly with probability ½, whichever came before, so the number of
    correct predictions is binomial (Dawid 1984, "The prequential approach"). That of
    cross-validation is not: its predictions depend on each other, and 16 of 150 samples of 40
    guesses about 6 terms were predicted well enough for 5%.
    """
    order = np.arange(len(preferred))
    correct = predicted = 0
    for part in np.array_split(order, min(TEST_PARTS, len(order)))[1:]:
        decided = part[preferred[part] != 0.5]
        logits = predict(order < part[0])[decided]
        correct += int((logits * (preferred[decided] - 0.5) > 0).sum())
        predicted += len(decided)
    more = range(correct, predicted + 1)
    return float(sum(comb(predicted, number) for number in more) / 2**predicted)


def fit_document(fit: Fit, sheet: AnswerSheet, network: NetworkFit | None) -> dict[str, object]:
    """Return a fit as plain data."""
    learned = network and {"predicted": network.accuracy, "ridge": network.ridge}
    return {
        "study": sheet.study,
        "answers": {
            "preferring": fit.decided,
            "equal": fit.equal,
            "unsure": sheet.count_answers()["unsure"],
        },
        "weights": {
            name: {"weight": weight, "interval": [fit.low[name], fit.high[name]]}
            for name, weight in fit.weights.items()
        },
        "predicted": fit.accuracy,
        "ridge": fit.ridge,
        "together": [list(pair) for pair in fit.collinear],
        "same": fit.constant,
        "faint": fit.negligible,
        "network": learned,
    }


def fit_weights(differences: Array, preferred: Array, ridge: float) -> Array:
    """Return the maximum a posteriori weights (K,), by Newton's method with halved steps.

    Args:
        differences: left minus right episode, (n, K).
        preferred: 1 if the left one was better, 0 if the right one, ½ if both are equal, (n,).
        ridge: λ.
    """

    def loss(weights: Array) -> float:
        return _log_loss(differences, preferred, weights) + ridge / 2 * float(weights @ weights)

    weights = np.zeros(differences.shape[1])
    for _ in range(50):
        gradient = differences.T @ (expit(differences @ weights) - preferred) + ridge * weights
        step = np.linalg.solve(compute_hessian(differences, weights, ridge), gradient)
        size, before = 1.0, loss(weights)
        while loss(weights - size * step) > before and size > 1e-6:
            size /= 2
        weights = weights - size * step
        if np.abs(step).max() < 1e-9:
            break
    return weights


def compute_hessian(differences: Array, weights: Array, ridge: float) -> Array:
    """Return the Hessian (K, K) of the loss that `fit_weights` minimizes."""
    p = expit(differences @ weights)
    weighted = differences * (p * (1 - p))[:, None]
    return np.asarray(weighted.T @ differences + ridge * np.eye(len(weights)))


def select_ridge(differences: Array, preferred: Array) -> float:
    """Return the ridge with the lowest held-out loss; the largest of equals."""
    losses = [
        sum(
            _log_loss(
                differences[out],
                preferred[out],
                fit_weights(differences[~out], preferred[~out], ridge),
            )
            for out in held_out_folds(len(preferred))
        )
        for ridge in RIDGES
    ]
    return RIDGES[len(RIDGES) - 1 - int(np.argmin(losses[::-1]))]


def _select_names(sheet: AnswerSheet, mask: npt.NDArray[np.bool_]) -> list[str]:
    return [name for name, selected in zip(sheet.terms, mask, strict=True) if selected]


def _log_loss(differences: Array, preferred: Array, weights: Array) -> float:
    logits = differences @ weights
    return float((np.logaddexp(0.0, logits) - preferred * logits).sum())


def _predict(
    differences: Array, preferred: Array, known: Mask, ridge: float | None = None
) -> Array:
    """Return the logits of all answers (n,), fitted to the known ones; so is the ridge if None."""
    answers = differences[known], preferred[known]
    return np.asarray(differences @ fit_weights(*answers, ridge or select_ridge(*answers)))


def _held_out_accuracy(differences: Array, preferred: Array) -> float:
    """Return the share of held-out answers that prefer one of two and are predicted correctly."""
    correct: list[float] = []
    for out in held_out_folds(len(preferred)):
        logits = _predict(differences, preferred, ~out)[out]
        for logit, answer in zip(logits, preferred[out], strict=True):
            if answer != 0.5:
                correct.append(0.5 if logit == 0 else float((logit > 0) == (answer > 0.5)))
    return float(np.mean(correct))


def held_out_folds(count: int) -> Iterator[npt.NDArray[np.bool_]]:
    """Yield the held-out answers of each fold as a mask (n,); the same on every call."""
    order = np.random.default_rng(0).permutation(count)
    for fold in range(FOLDS):
        out = np.zeros(count, dtype=bool)
        out[order[fold::FOLDS]] = True
        yield out


def _find_collinear(names: list[str], differences: Array) -> Iterator[tuple[str, str, float]]:
    for (i, one), (j, other) in combinations(enumerate(names), 2):
        a, b = differences[:, i], differences[:, j]
        # Without centering: the sign of a difference only depends on which episode was left.
        correlation = float(a @ b / np.sqrt((a @ a) * (b @ b)))
        if abs(correlation) >= COLLINEAR:
            yield one, other, correlation


def _return_scale(sheet: AnswerSheet, varies: npt.NDArray[np.bool_], weights: Array) -> float:
    """Return the factor by which values vary as much as discounted environment returns."""
    values = sheet.sums[0][:, varies] @ weights
    returns = np.array([episode.discounted for episode in sheet.episodes])
    if not values.std() or not returns.std():
        return 1.0
    return float(returns.std() / values.std())
