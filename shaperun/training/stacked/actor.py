"""Compute the actions of R runs in numpy on the CPU, wherever they learn.

Stepping environments evicts everything else from the processor's caches, and torch's calls suffer
more from it than numpy's: the actions of 128 landers take a quarter of the time. Values and
log-probabilities are computed later, for a whole rollout.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.preprocessing import is_image_space, preprocess_obs
from torch import nn

from shaperun.training.stacked.distributions import choice_sizes

Array = npt.NDArray[Any]


class StackedActor:
    """The actors of R runs.

    Actions are a function of the networks' outputs and of noise from each run's generator, so they
    do not depend on the other runs.

    Args:
        policy: policy of one run, for its spaces and activation.
        layers: weights (R, outputs, inputs) and biases (R, outputs), padded or not.
        std: standard deviations (R, D) of Gaussian actions.
    """

    def __init__(
        self,
        policy: ActorCriticPolicy,
        layers: Sequence[tuple[Array, Array]],
        std: Array | None,
    ) -> None:
        self._layers = [(weight.transpose(0, 2, 1), bias[:, None]) for weight, bias in layers]
        self._activation = _make_activation(policy.activation_fn)
        self._outputs: int = policy.action_net.out_features  # type: ignore[assignment]
        self._std = None if std is None else std[:, None]
        self._observation_space = policy.observation_space
        self._action_space: spaces.Space[Any] = policy.action_space
        self._sizes = choice_sizes(self._action_space)

    def extract_features(self, obs: Array) -> Array:
        """Return features (R, B, F) of observations (R, B, …), in the policy's precision."""
        dtype = self._layers[0][0].dtype
        return extract_features(obs, self._observation_space).astype(dtype, copy=False)

    @np.errstate(over="ignore", invalid="ignore")  # diverged runs are handled elsewhere
    def compute_actions(self, features: Array, noise: Array | float = 0.0) -> Array:
        """Return actions (R, B, D) for noise (R, B, K); without noise, the most likely ones."""
        outputs = self._forward(features)
        if self._sizes:  # the Gumbel-max trick
            parts = np.split(outputs + noise, np.cumsum(self._sizes)[:-1], axis=-1)
            return np.stack([part.argmax(-1) for part in parts], axis=-1)
        if self._std is not None:
            return np.asarray(outputs + self._std * noise)
        # Logistic noise samples Bernoulli variables as Gumbel noise does categorical ones.
        return (outputs + noise > 0).astype(outputs.dtype)

    def act(self, obs: Array) -> Array:
        """Return the most likely actions (R, B, …) for observations (R, B, …)."""
        return self.to_environment(self.compute_actions(self.extract_features(obs)))

    def to_environment(self, actions: Array) -> Array:
        """Convert actions (R, B, D) to those of environments (R, B, …), clipped to their space."""
        space = self._action_space
        if isinstance(space, spaces.Box):
            clipped: Array = np.clip(actions, space.low, space.high)
            return clipped.reshape(*actions.shape[:2], *space.shape)
        actions = actions.astype(space.dtype)
        return actions[..., 0] if isinstance(space, spaces.Discrete) else actions

    def _forward(self, features: Array) -> Array:
        hidden = features
        *hidden_layers, (weight, bias) = self._layers
        for w, b in hidden_layers:
            hidden = self._activation(np.matmul(hidden, w) + b)
        outputs: Array = np.matmul(hidden, weight) + bias
        return outputs[..., : self._outputs]


def extract_features(obs: Array, space: spaces.Space[Any]) -> Array:
    """Return the inputs (R, B, F) of stable-baselines3's MLPs for observations (R, B, …)."""
    if isinstance(space, spaces.Box) and not is_image_space(space):
        return obs.reshape(*obs.shape[:2], -1)
    features = preprocess_obs(torch.from_numpy(obs).flatten(0, 1), space)
    assert isinstance(features, torch.Tensor)  # noqa: S101 (a dictionary only of a Dict space)
    return features.numpy().reshape(*obs.shape[:2], -1)


def draw_noise(
    space: spaces.Space[Any],
    dtype: torch.dtype,
    shape: tuple[int, ...],
    generator: torch.Generator,
) -> Array:
    """Draw the noise (…, K) of one run's actions: Gumbel, normal or logistic."""
    noise = torch.empty(shape, dtype=dtype)
    if choice_sizes(space):
        return (-noise.exponential_(generator=generator).log()).numpy()
    if isinstance(space, spaces.Box):
        return noise.normal_(generator=generator).numpy()
    uniform = noise.uniform_(generator=generator)
    return (uniform.log() - torch.log1p(-uniform)).numpy()


def _make_activation(kind: type[nn.Module]) -> Callable[[Array], Array]:
    if kind is nn.Tanh:
        return np.tanh
    function = kind()
    return lambda inputs: np.asarray(function(torch.from_numpy(inputs)).numpy())
