"""What answers say beyond the terms, as a small network of the state (Christiano et al. 2017).

The worth of an episode is v · x, of the terms' discounted sums as in `preferences`, plus
Σ γ^t f(s_t+1) with a network f. The weights v are fitted first and stay; f has to explain what they
do not. It is where

    Σ log(1 + e^w) − y w + λ/2 |θ|²,  w = v · d + the difference of the two sums of f,

is least by its parameters θ, over all answers y. Of an episode the page keeps a state for each of a
number of parts, which stands for all steps of its part.
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
from shaperun.preferences.answers import AnswerSheet, EpisodeSummary, parts
from shaperun.preferences.fit import FOLDS, Fit, NetworkFit, fit_weights, folds, select_ridge
from shaperun.rewards.network_term import Layer, NetworkTerm

UNITS = 16
NO_CHANGE = 10.0  # the ridge that leaves nothing of a network
RIDGES = (0.3, 1.0, NO_CHANGE)
_DIGITS = 4
_ITERATIONS = 40

Parameters = list[Tensor]
"""Weights (UNITS, size), bias (UNITS,), weights (UNITS,), bias ()."""

OnProgress = Callable[[int, int], None]
"""Is told how many fits are done, and of how many."""

FITS = (len(RIDGES) * FOLDS + 1) * (FOLDS + 1)


@dataclass(frozen=True)
class _Data:
    """What is known of the answers, and of all E episodes with at most S parts."""

    states: Tensor  # (E, S, size), in units of their standard deviations
    shares: Tensor  # (E, S), what a state counts in its episode; 1 in an average episode
    pairs: npt.NDArray[np.intp]  # (n, 2)
    differences: Array  # (n, K), of the terms' sums
    preferred: Array  # (n,)


def fit_network(sheet: AnswerSheet, linear: Fit, watch: OnProgress = lambda *_: None) -> NetworkFit:
    """A network for what the weights of the terms leave open.

    Args:
        sheet: the answers.
        linear: what the terms come to.
        watch: is told how far it is.

    Raises:
        UserError: no states are known of the episodes.
    """
    if not sheet.width:
        raise UserError(
            f"the page kept no observations of {sheet.subject.environment['id']}: they are none "
            "that a network could learn from"
        )
    torch.set_num_threads(1)
    asked, centre, spread, unit = _prepare_data(sheet, linear)
    trainer = _Trainer(asked, watch)
    predicted = trainer.predicted()
    ridge, found = trainer.best(np.ones(len(asked.preferred), dtype=bool))
    if ridge == NO_CHANGE:
        return NetworkFit(None, predicted, ridge)
    first, bias, last, constant = (part.numpy() for part in found)
    worth = linear.logit / unit
    layers = [
        Layer(weights=_short(first / spread), bias=_short(bias - first @ (centre / spread))),
        Layer(weights=_short(worth * last[None]), bias=_short(worth * constant[None])),
    ]
    return NetworkFit(NetworkTerm(kind="network", layers=layers), predicted, ridge)


class _Trainer:
    """Fits networks to some of the answers."""

    def __init__(self, asked: _Data, watch: OnProgress) -> None:
        self._asked, self._watch, self._done = asked, watch, 0

    def predicted(self) -> float:
        """The share of answers for one of two that is foreseen by fits that do not know them."""
        right: list[float] = []
        preferred = self._asked.preferred
        for out in folds(len(preferred)):
            _, found = self.best(~out)
            worth = (self._linear(~out) + self._differences(found).numpy())[out]
            decided = preferred[out] != 0.5
            right += ((worth > 0) == (preferred[out] > 0.5))[decided].tolist()
        return float(np.mean(right))

    def best(self, known: npt.NDArray[np.bool_]) -> tuple[float, Parameters]:
        """The ridge under which answers that are left out of these are likeliest, and its fit."""
        places, losses = np.flatnonzero(known), np.zeros(len(RIDGES))
        for out in folds(len(places)):
            rest = np.zeros_like(known)
            rest[places[~out]] = True
            linear, answers = self._linear(rest), self._asked.preferred[places[out]]
            for number, ridge in enumerate(RIDGES):
                found = self._trained(rest, linear, ridge)
                worth = (linear + self._differences(found).numpy())[places[out]]
                losses[number] += (np.logaddexp(0.0, worth) - answers * worth).sum()
        ridge = RIDGES[len(RIDGES) - 1 - int(np.argmin(losses[::-1]))]
        return ridge, self._trained(known, self._linear(known), ridge)

    def _linear(self, known: npt.NDArray[np.bool_]) -> Array:
        """How far apart the terms alone put all pairs (n,), fitted to some."""
        own, preferred = self._asked.differences[known], self._asked.preferred[known]
        weights = fit_weights(own, preferred, select_ridge(own, preferred))
        return np.asarray(self._asked.differences @ weights)

    def _trained(self, known: npt.NDArray[np.bool_], linear: Array, ridge: float) -> Parameters:
        """The network that some of the answers come to, beside what the terms say (n,)."""
        asked, parameters = self._asked, _initial_parameters(self._asked.states.shape[2])
        offset = torch.from_numpy(linear[known])
        preferred, places = torch.from_numpy(asked.preferred[known]), torch.from_numpy(known)
        optimizer: Any = torch.optim.LBFGS(
            parameters, max_iter=_ITERATIONS, line_search_fn="strong_wolfe"
        )

        def loss() -> Any:
            optimizer.zero_grad()
            worth = offset + self._differences(parameters)[places]
            value = torch.nn.functional.softplus(worth) - preferred * worth
            size = torch.stack([part.square().sum() for part in parameters]).sum()
            total: Any = value.sum() + ridge / 2 * size
            total.backward()
            return total

        optimizer.step(loss)
        self._done += 1
        self._watch(self._done, FITS)
        return [part.detach() for part in parameters]

    def _differences(self, parameters: Parameters) -> Tensor:
        """How far apart the network puts all pairs (n,)."""
        first, bias, last, constant = parameters
        values = torch.tanh(self._asked.states @ first.T + bias) @ last + constant
        worths = (values * self._asked.shares).sum(1)
        pairs = torch.from_numpy(self._asked.pairs)
        return worths[pairs[:, 0]] - worths[pairs[:, 1]]


def _initial_parameters(size: int) -> Parameters:
    """Where every fit begins: with hardly anything to say."""
    luck = np.random.default_rng(0)
    values = (
        luck.normal(size=(UNITS, size)) / np.sqrt(size),
        np.zeros(UNITS),
        0.1 * luck.normal(size=UNITS) / np.sqrt(UNITS),
        np.zeros(()),
    )
    return [torch.from_numpy(value).requires_grad_() for value in values]


def _prepare_data(sheet: AnswerSheet, linear: Fit) -> tuple[_Data, Array, Array, float]:
    """The answers, and what states and shares were divided by: centre, spread and unit."""
    episodes, most = sheet.episodes, max(len(e.states) for e in sheet.episodes)
    every = np.array([state for episode in episodes for state in episode.states])
    centre, spread = every.mean(0), every.std(0)
    spread = np.where(spread > 0, spread, 1.0)
    states = np.zeros((len(episodes), most, sheet.width))
    shares = np.zeros((len(episodes), most))
    for place, episode in enumerate(episodes):
        count = len(episode.states)
        states[place, :count] = (np.array(episode.states) - centre) / spread
        shares[place, :count] = _shares(episode, sheet.subject.gamma)
    unit = float(shares.sum(1).mean())
    pairs, preferred = sheet.compared()
    sums = sheet.sums[0][:, [sheet.terms.index(name) for name in linear.weights]]
    scaled = sums / sums.std(0)
    asked = _Data(
        torch.from_numpy(states),
        torch.from_numpy(shares / unit),
        pairs,
        scaled[pairs[:, 0]] - scaled[pairs[:, 1]],
        preferred,
    )
    return asked, centre, spread, unit


def _shares(episode: EpisodeSummary, gamma: float) -> Array:
    """Σ γ^t over the steps of each part (S,)."""
    return np.array([(gamma**part).sum() for part in parts(episode.length)])


def _short(values: Array) -> list[float] | list[list[float]]:
    """Numbers as they are to stand in a file."""
    rounded = np.vectorize(lambda value: float(f"{value:.{_DIGITS}g}"))(values)
    short: list[float] | list[list[float]] = rounded.tolist()
    return short
