"""Action distributions of R runs, as stable-baselines3 has them for one.

Outputs of the actors are (R, B, K), actions (R, B, D), log-probabilities and entropies (R, B).

`gradient` returns a loss's gradient by the outputs and by log_std (R, D), if any, given its
derivatives by the log-probabilities (R, B) and by each entropy. Written out, it takes half the time
of autograd at these sizes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from gymnasium import spaces
from torch import Tensor

_HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


class Categorical:
    """D categorical variables; `sizes` are their numbers of options, K the sum of these."""

    def __init__(self, logits: Tensor, sizes: tuple[int, ...]) -> None:
        parts = torch.split(logits, list(sizes), -1)
        self._log_probs = [torch.log_softmax(part, -1) for part in parts]
        self._probs = [log_probs.exp() for log_probs in self._log_probs]

    def log_prob(self, actions: Tensor) -> Tensor:
        """Sum over the variables."""
        parts = zip(self._log_probs, _choices(actions), strict=True)
        return sum_in_order([part.gather(-1, choice).squeeze(-1) for part, choice in parts])

    def entropy(self) -> Tensor:
        """Sum over the variables."""
        parts = zip(self._probs, self._log_probs, strict=True)
        return sum_in_order([_entropy(*part) for part in parts])

    def gradient(
        self, actions: Tensor, by_log_prob: Tensor, by_entropy: float
    ) -> tuple[Tensor, None]:
        """Use ∂log p(a)/∂logit_i = [i = a] − p_i and ∂H/∂logit_i = −p_i (log p_i + H)."""
        parts, weight = [], by_log_prob[..., None]
        for probs, log_probs, choice in zip(
            self._probs, self._log_probs, _choices(actions), strict=True
        ):
            part = (-weight * probs).scatter_add_(-1, choice, weight)
            if by_entropy:
                from_mean = log_probs + _entropy(probs, log_probs)[..., None]
                part -= by_entropy * probs * from_mean
            parts.append(part)
        return torch.cat(parts, -1), None


def _choices(actions: Tensor) -> tuple[Tensor, ...]:
    return torch.split(actions.long(), 1, -1)


def _entropy(probs: Tensor, log_probs: Tensor) -> Tensor:
    return -(probs * log_probs).sum(-1)


class DiagonalGaussian:
    """Independent normal variables: means (R, B, D), and log_std (R, D) for all states."""

    def __init__(self, mean: Tensor, log_std: Tensor) -> None:
        self._mean, self._log_std = mean, log_std[:, None]

    def log_prob(self, actions: Tensor) -> Tensor:
        """Sum −½z² − log σ − ½ log 2π over the D dimensions."""
        z = self._standardized(actions)
        return (z * z * -0.5 - self._log_std - _HALF_LOG_2PI).sum(-1)

    def entropy(self) -> Tensor:
        """Sum ½ + ½ log 2π + log σ over the D dimensions."""
        entropy = (self._log_std + (0.5 + _HALF_LOG_2PI)).sum(-1).expand(self._mean.shape[:2])
        # Sums over expanded memory would round depending on the number of runs.
        return entropy.contiguous()

    def gradient(
        self, actions: Tensor, by_log_prob: Tensor, by_entropy: float
    ) -> tuple[Tensor, Tensor]:
        """Use ∂log p/∂mean = z / σ, ∂log p/∂log σ = z² − 1, and ∂H/∂log σ = 1."""
        z, weight = self._standardized(actions), by_log_prob[..., None]
        by_log_std = weight * (z * z - 1) + by_entropy
        return weight * z / self._log_std.exp(), by_log_std.sum(1)

    def _standardized(self, actions: Tensor) -> Tensor:
        return (actions - self._mean) / self._log_std.exp()


class Bernoulli:
    """D binary variables with probabilities sigmoid(logit): logits (R, B, D)."""

    def __init__(self, logits: Tensor) -> None:
        self._logits = logits
        # As two options: torch's logsigmoid rounds depending on the position in the array.
        pairs = torch.log_softmax(torch.stack([torch.zeros_like(logits), logits], -1), -1)
        self._off, self._on = pairs.unbind(-1)

    def log_prob(self, actions: Tensor) -> Tensor:
        """Sum over the variables."""
        return torch.where(actions > 0, self._on, self._off).sum(-1)

    def entropy(self) -> Tensor:
        """Sum over the variables."""
        return -(self._on.exp() * self._on + self._off.exp() * self._off).sum(-1)

    def gradient(
        self, actions: Tensor, by_log_prob: Tensor, by_entropy: float
    ) -> tuple[Tensor, None]:
        """Use ∂log p(a)/∂logit = a − p and ∂H/∂logit = −logit · p (1 − p)."""
        on = self._on.exp()
        by_logits = by_log_prob[..., None] * (actions - on)
        return by_logits - by_entropy * self._logits * on * self._off.exp(), None


Distribution = Categorical | DiagonalGaussian | Bernoulli


def sum_in_order(parts: list[Tensor]) -> Tensor:
    """Add tensors from the left."""
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


def choose_distribution(
    space: spaces.Space[Any],
) -> Callable[[Tensor, Tensor | None], Distribution]:
    """Return stable-baselines3's distribution for a space, a function of outputs and log_std.

    Raises:
        ValueError: the space is not supported.
    """
    sizes = choice_sizes(space)
    if sizes:
        return lambda outputs, _: Categorical(outputs, sizes)
    if isinstance(space, spaces.Box):
        return partial(_gaussian, space)
    if isinstance(space, spaces.MultiBinary):
        return lambda outputs, _: Bernoulli(outputs)
    raise ValueError(f"unsupported action space in lockstep: {space}")


def choice_sizes(space: spaces.Space[Any]) -> tuple[int, ...]:
    """Return the number of options of each variable of a discrete space; empty for others."""
    if isinstance(space, spaces.Discrete):
        return (int(space.n),)
    if isinstance(space, spaces.MultiDiscrete):
        return tuple(int(size) for size in space.nvec)
    return ()


def _gaussian(space: spaces.Box, outputs: Tensor, log_std: Tensor | None) -> Distribution:
    if log_std is None:
        raise ValueError(f"missing log_std of a policy over {space}")
    return DiagonalGaussian(outputs, log_std)
