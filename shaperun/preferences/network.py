"""A small network of the state for what the terms leave unexplained (Christiano et al. 2017).

The value of an episode is v · x, the terms' discounted sums as in `fit`, plus Σ γ^t f(s_t+1) with a
network f. The weights v are fitted first and stay fixed. The parameters θ of f minimize

    Σ log(1 + e^w) − y w + λ/2 |θ|²,  w = v · d + the difference of both sums of f,

over all answers y. The page stores one state per part of an episode, which represents all steps of
its part.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from shaperun.common.errors import UserError
from shaperun.envs.base import Array
from shaperun.preferences import fit
from shaperun.preferences.answers import AnswerSheet, EpisodeSummary, split_steps
from shaperun.rewards.network_term import Layer, NetworkTerm

HIDDEN_UNITS = 16
VANISHING_RIDGE = 10.0  # shrinks a network to nothing
RIDGES = (0.3, 1.0, VANISHING_RIDGE)
_DIGITS = 4
_MAX_ITERATIONS = 40

Parameters = list[Tensor]
"""Weights (HIDDEN_UNITS, size), bias (UNITS,), weights (UNITS,), bias ()."""

OnProgress = Callable[[int, int], None]
"""Callback with the number of finished fits and the total."""

N_FITS = (len(RIDGES) * fit.FOLDS + 1) * (fit.FOLDS + 1) + fit.TEST_PARTS - 1


@dataclass(frozen=True)
class _Dataset:
    """The answers, and all E episodes with at most S states."""

    states: Tensor  # (E, S, size), standardized
    shares: Tensor  # (E, S), weight of a state in its episode; they sum to 1 in an average episode
    pairs: npt.NDArray[np.intp]  # (n, 2)
    differences: Array  # (n, K), of the terms' scaled sums
    preferred: Array  # (n,)


def fit_network(
    sheet: AnswerSheet, linear: fit.Fit, on_progress: OnProgress = lambda *_: None
) -> fit.NetworkFit:
    """Fit a network to what the weights of the terms leave unexplained.

    Raises:
        UserError: the episodes have no stored states.
    """
    if not sheet.observation_size:
        raise UserError(
            f"no observations of {sheet.subject.environment['id']} are stored with the answers "
            "(discrete or too large); fit without --network"
        )
    torch.set_num_threads(1)
    data, center, spread, unit = _prepare_data(sheet, linear)
    trainer = _Trainer(data, on_progress)
    accuracy, p_chance = trainer.held_out_accuracy(), trainer.p_chance()
    ridge, parameters = trainer.fit_best(np.ones(len(data.preferred), dtype=bool))
    if ridge == VANISHING_RIDGE:
        return fit.NetworkFit(None, accuracy, p_chance, ridge)
    first, bias, last, constant = (part.numpy() for part in parameters)
    scale = linear.logit / unit
    weights = (first / spread, scale * last[None])
    biases = (bias - first @ (center / spread), scale * constant[None])
    layers = [
        Layer(weights=_round_values(weight), bias=_round_values(bias))
        for weight, bias in zip(weights, biases, strict=True)
    ]
    term = NetworkTerm(kind="network", layers=layers)
    return fit.NetworkFit(term, accuracy, p_chance, ridge)


class _Trainer:
    """Fits networks to subsets of the answers."""

    def __init__(self, data: _Dataset, on_progress: OnProgress) -> None:
        self._data, self._on_progress, self._done = data, on_progress, 0

    def held_out_accuracy(self) -> float:
        """Return the held-out accuracy of terms and network, as `Fit.accuracy` counts it."""
        correct: list[float] = []
        preferred = self._data.preferred
        for out in fit.held_out_folds(len(preferred)):
            _, parameters = self.fit_best(~out)
            logits = (self._linear_logits(~out) + self._network_logits(parameters).numpy())[out]
            decided = preferred[out] != 0.5
            hits = np.where(logits == 0, 0.5, (logits > 0) == (preferred[out] > 0.5))
            correct += hits[decided].tolist()
        return float(np.mean(correct))

    def p_chance(self) -> float:
        """Return `NetworkFit.p_chance`."""

        def predict(known: npt.NDArray[np.bool_]) -> Array:
            linear = self._linear_logits(known)
            parameters = self._fit_parameters(known, linear, fit.TEST_RIDGE)
            return np.asarray(linear + self._network_logits(parameters).numpy())

        return fit.compute_p_chance(self._data.preferred, predict)

    def fit_best(self, known: npt.NDArray[np.bool_]) -> tuple[float, Parameters]:
        """Return the ridge with the lowest held-out loss among these answers, and its fit."""
        indices, losses = np.flatnonzero(known), np.zeros(len(RIDGES))
        for out in fit.held_out_folds(len(indices)):
            rest = np.zeros_like(known)
            rest[indices[~out]] = True
            linear, answers = self._linear_logits(rest), self._data.preferred[indices[out]]
            for number, ridge in enumerate(RIDGES):
                parameters = self._fit_parameters(rest, linear, ridge)
                logits = (linear + self._network_logits(parameters).numpy())[indices[out]]
                losses[number] += (np.logaddexp(0.0, logits) - answers * logits).sum()
        ridge = RIDGES[len(RIDGES) - 1 - int(np.argmin(losses[::-1]))]
        return ridge, self._fit_parameters(known, self._linear_logits(known), ridge)

    def _linear_logits(self, known: npt.NDArray[np.bool_]) -> Array:
        """Return the logits of all pairs (n,) by the terms alone, fitted to some answers."""
        differences, preferred = self._data.differences[known], self._data.preferred[known]
        weights = fit.fit_weights(differences, preferred, fit.select_ridge(differences, preferred))
        return np.asarray(self._data.differences @ weights)

    def _fit_parameters(
        self, known: npt.NDArray[np.bool_], linear: Array, ridge: float
    ) -> Parameters:
        """Fit the network to some answers, in addition to the logits of the terms (n,)."""
        parameters = _initial_parameters(self._data.states.shape[2])
        offset, mask = torch.from_numpy(linear[known]), torch.from_numpy(known)
        preferred = torch.from_numpy(self._data.preferred[known])
        optimizer: Any = torch.optim.LBFGS(
            parameters, max_iter=_MAX_ITERATIONS, line_search_fn="strong_wolfe"
        )

        def loss() -> Any:
            optimizer.zero_grad()
            logits = offset + self._network_logits(parameters)[mask]
            value = torch.nn.functional.softplus(logits) - preferred * logits
            size = torch.stack([part.square().sum() for part in parameters]).sum()
            total: Any = value.sum() + ridge / 2 * size
            total.backward()
            return total

        optimizer.step(loss)
        self._done += 1
        self._on_progress(self._done, N_FITS)
        return [part.detach() for part in parameters]

    def _network_logits(self, parameters: Parameters) -> Tensor:
        """Return the contribution of the network to the logits of all pairs (n,)."""
        first, bias, last, constant = parameters
        values = torch.tanh(self._data.states @ first.T + bias) @ last + constant
        totals = (values * self._data.shares).sum(1)
        pairs = torch.from_numpy(self._data.pairs)
        return totals[pairs[:, 0]] - totals[pairs[:, 1]]


def _initial_parameters(size: int) -> Parameters:
    """Return the initial parameters of every fit, with outputs near 0."""
    rng = np.random.default_rng(0)
    values = (
        rng.normal(size=(HIDDEN_UNITS, size)) / np.sqrt(size),
        np.zeros(HIDDEN_UNITS),
        0.1 * rng.normal(size=HIDDEN_UNITS) / np.sqrt(HIDDEN_UNITS),
        np.zeros(()),
    )
    return [torch.from_numpy(value).requires_grad_() for value in values]


def _prepare_data(sheet: AnswerSheet, linear: fit.Fit) -> tuple[_Dataset, Array, Array, float]:
    """Return the data, the center and spread of the states, and the unit of the shares."""
    episodes, max_states = sheet.episodes, max(len(e.states) for e in sheet.episodes)
    observations = np.array([state for episode in episodes for state in episode.states])
    center, spread = observations.mean(0), observations.std(0)
    spread = np.where(spread > 0, spread, 1.0)
    states = np.zeros((len(episodes), max_states, sheet.observation_size))
    shares = np.zeros((len(episodes), max_states))
    for i, episode in enumerate(episodes):
        count = len(episode.states)
        states[i, :count] = (np.array(episode.states) - center) / spread
        shares[i, :count] = _discount_shares(episode, sheet.subject.gamma)
    unit = float(shares.sum(1).mean())
    pairs, preferred = sheet.comparisons()
    sums = sheet.sums[0][:, [sheet.terms.index(name) for name in linear.weights]]
    scaled = sums / sums.std(0)
    data = _Dataset(
        torch.from_numpy(states),
        torch.from_numpy(shares / unit),
        pairs,
        scaled[pairs[:, 0]] - scaled[pairs[:, 1]],
        preferred,
    )
    return data, center, spread, unit


def _discount_shares(episode: EpisodeSummary, gamma: float) -> Array:
    """Return Σ γ^t over the steps of each part (S,)."""
    return np.array([(gamma**part).sum() for part in split_steps(episode.length)])


def _round_values(values: Array) -> list[float] | list[list[float]]:
    """Return values with as many digits as a study file needs."""
    rounded = np.vectorize(lambda value: float(f"{value:.{_DIGITS}g}"))(values)
    short: list[float] | list[list[float]] = rounded.tolist()
    return short
