"""Distributions over the actions of R runs at once, as stable-baselines3 has them for one.

Outputs of the actors are (R, B, K), actions (R, B, D), log-probabilities and entropies (R, B).
Gradients are written out: at these sizes an update by hand takes half the time of one that torch
records and plays back. How actions are drawn is told in `stacked_policy`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

import torch
from gymnasium import spaces
from torch import Tensor

_HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


class Distribution(Protocol):
    """Over the actions of R runs in B states each."""

    def log_prob(self, actions: Tensor) -> Tensor:
        """Log-probabilities (R, B) of actions (R, B, D)."""
        ...

    def entropy(self) -> Tensor:
        """Entropies (R, B)."""
        ...

    def gradient(
        self, actions: Tensor, of_log_prob: Tensor, of_entropy: float
    ) -> tuple[Tensor, Tensor | None]:
        """How a loss changes with the outputs (R, B, K), and with log_std (R, D) if there is one.

        Args:
            actions: taken, (R, B, D).
            of_log_prob: how it changes with the log-probability of each (R, B).
            of_entropy: and with the entropy in each state.
        """
        ...


class Categorical:
    """D choices among some options each, whose logits (R, B, K) stand beside one another."""

    def __init__(self, logits: Tensor, sizes: tuple[int, ...]) -> None:
        parts = torch.split(logits, list(sizes), -1)
        self._log_probs = [torch.log_softmax(part, -1) for part in parts]
        self._probs = [log_probs.exp() for log_probs in self._log_probs]
        self._sizes = list(sizes)

    def log_prob(self, actions: Tensor) -> Tensor:
        """The sum over the choices."""
        parts = zip(self._log_probs, _choices(actions), strict=True)
        return sum_of([part.gather(-1, choice).squeeze(-1) for part, choice in parts])

    def entropy(self) -> Tensor:
        """The sum over the choices."""
        return sum_of([_entropy(*part) for part in zip(self._probs, self._log_probs, strict=True)])

    def gradient(
        self, actions: Tensor, of_log_prob: Tensor, of_entropy: float
    ) -> tuple[Tensor, None]:
        """∂log p(a)/∂logit_i = [i = a] − p_i, and ∂H/∂logit_i = −p_i (log p_i + H)."""
        parts, weight = [], of_log_prob[..., None]
        for probs, log_probs, choice in zip(
            self._probs, self._log_probs, _choices(actions), strict=True
        ):
            part = (-weight * probs).scatter_add_(-1, choice, weight)
            if of_entropy:
                from_mean = log_probs + _entropy(probs, log_probs)[..., None]
                part -= of_entropy * probs * from_mean
            parts.append(part)
        return torch.cat(parts, -1), None


def _choices(actions: Tensor) -> tuple[Tensor, ...]:
    return torch.split(actions.long(), 1, -1)


def _entropy(probs: Tensor, log_probs: Tensor) -> Tensor:
    return -(probs * log_probs).sum(-1)


class DiagonalGaussian:
    """Independent normal variables: means (R, B, D), and log_std (R, D) that no state changes."""

    def __init__(self, mean: Tensor, log_std: Tensor) -> None:
        self._mean, self._log_std = mean, log_std[:, None]

    def log_prob(self, actions: Tensor) -> Tensor:
        """The log-density: −½z² − log σ − ½ log 2π, summed over the D dimensions."""
        z = self._standardized(actions)
        return (z * z * -0.5 - self._log_std - _HALF_LOG_2PI).sum(-1)

    def entropy(self) -> Tensor:
        """½ + ½ log 2π + log σ, summed over the D dimensions: the same in every state."""
        entropy = (self._log_std + (0.5 + _HALF_LOG_2PI)).sum(-1).expand(self._mean.shape[:2])
        # Sums over numbers that are there only once in memory round by how many runs there are.
        return entropy.contiguous()

    def gradient(
        self, actions: Tensor, of_log_prob: Tensor, of_entropy: float
    ) -> tuple[Tensor, Tensor]:
        """∂log p/∂mean = z / σ, ∂log p/∂log σ = z² − 1, and ∂H/∂log σ = 1."""
        z, weight = self._standardized(actions), of_log_prob[..., None]
        of_log_std = weight * (z * z - 1) + of_entropy
        return weight * z / self._log_std.exp(), of_log_std.sum(1)

    def _standardized(self, actions: Tensor) -> Tensor:
        return (actions - self._mean) / self._log_std.exp()


class Bernoulli:
    """D switches, each on with the probability sigmoid(logit): logits (R, B, D)."""

    def __init__(self, logits: Tensor) -> None:
        self._logits = logits
        # As a choice of two: the logarithm of torch's sigmoid rounds by where in an array it is.
        pairs = torch.log_softmax(torch.stack([torch.zeros_like(logits), logits], -1), -1)
        self._off, self._on = pairs.unbind(-1)

    def log_prob(self, actions: Tensor) -> Tensor:
        """The sum over the switches."""
        return torch.where(actions > 0, self._on, self._off).sum(-1)

    def entropy(self) -> Tensor:
        """The sum over the switches."""
        return -(self._on.exp() * self._on + self._off.exp() * self._off).sum(-1)

    def gradient(
        self, actions: Tensor, of_log_prob: Tensor, of_entropy: float
    ) -> tuple[Tensor, None]:
        """∂log p(a)/∂logit = a − p, and ∂H/∂logit = −logit · p (1 − p)."""
        on = self._on.exp()
        of_logits = of_log_prob[..., None] * (actions - on)
        return of_logits - of_entropy * self._logits * on * self._off.exp(), None


def sum_of(parts: list[Tensor]) -> Tensor:
    """Their sum, from the left."""
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


def distribution_over(space: spaces.Space[Any]) -> Callable[[Tensor, Tensor | None], Distribution]:
    """The distribution that stable-baselines3 takes for a space, of outputs and log_std.

    Raises:
        ValueError: there is none for such a space.
    """
    sizes = choice_sizes(space)
    if sizes:
        return lambda outputs, _: Categorical(outputs, sizes)
    if isinstance(space, spaces.Box):
        return partial(_gaussian, space)
    if isinstance(space, spaces.MultiBinary):
        return lambda outputs, _: Bernoulli(outputs)
    raise ValueError(f"no policy is trained in lockstep with the actions {space}")


def choice_sizes(space: spaces.Space[Any]) -> tuple[int, ...]:
    """How many options each choice of a discrete space has; empty for other spaces."""
    if isinstance(space, spaces.Discrete):
        return (int(space.n),)
    if isinstance(space, spaces.MultiDiscrete):
        return tuple(int(size) for size in space.nvec)
    return ()


def _gaussian(space: spaces.Box, outputs: Tensor, log_std: Tensor | None) -> Distribution:
    if log_std is None:
        raise ValueError(f"a policy over {space} has no log_std")
    return DiagonalGaussian(outputs, log_std)
