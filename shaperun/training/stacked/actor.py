"""The actors of R runs as they act: in numpy and on the CPU, wherever they learn.

While environments are stepped everything else leaves the processor's caches, and the first calls
after that are dear, torch's more than numpy's: 128 landers are given their actions in a quarter of
the time so. Values and log-probabilities can wait until a rollout is complete.
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
    """From observations to actions, for all runs at once.

    An action is a function of the outputs of the network and of noise that is drawn before, a run
    from its own generator: nothing about it depends on who is beside the run.

    Args:
        policy: one of the run's, for its spaces and its activation.
        layers: weights (R, outputs, inputs) and biases (R, outputs), widened or not.
        std: (R, D), where actions are normally distributed.
    """

    def __init__(
        self,
        policy: ActorCriticPolicy,
        layers: Sequence[tuple[Array, Array]],
        std: Array | None,
    ) -> None:
        self._layers = [(weight.transpose(0, 2, 1), bias[:, None]) for weight, bias in layers]
        self._activation = _activation(policy.activation_fn)
        self._outputs: int = policy.action_net.out_features  # type: ignore[assignment]
        self._std = None if std is None else std[:, None]
        self._observation_space = policy.observation_space
        self._action_space: spaces.Space[Any] = policy.action_space
        self._sizes = choice_sizes(self._action_space)

    def features(self, obs: Array) -> Array:
        """What the networks see (R, B, F) of observations (R, B, …), as stable-baselines3 does."""
        dtype = self._layers[0][0].dtype
        return features_of(obs, self._observation_space).astype(dtype, copy=False)

    @np.errstate(over="ignore", invalid="ignore")  # a run that has diverged is found out elsewhere
    def actions(self, features: Array, noise: Array | float = 0.0) -> Array:
        """Actions (R, B, D) that the noise (R, B, K) makes; without any, the likeliest."""
        outputs = self._forward(features)
        if self._sizes:  # the largest logit with Gumbel noise on it, of each choice
            parts = np.split(outputs + noise, np.cumsum(self._sizes)[:-1], axis=-1)
            return np.stack([part.argmax(-1) for part in parts], axis=-1)
        if self._std is not None:
            return np.asarray(outputs + self._std * noise)
        # On where the logit and logistic noise come to more than 0.
        return (outputs + noise > 0).astype(outputs.dtype)

    def act(self, obs: Array) -> Array:
        """The likeliest actions (R, B, …) for observations (R, B, …), as environments take them."""
        return self.to_environment(self.actions(self.features(obs)))

    def to_environment(self, actions: Array) -> Array:
        """Actions (R, B, D) as environments take them (R, B, …): clipped to their space."""
        space = self._action_space
        if isinstance(space, spaces.Box):
            within: Array = np.clip(actions, space.low, space.high)
            return within.reshape(*actions.shape[:2], *space.shape)
        choices = actions.astype(space.dtype)
        return np.asarray(choices[..., 0] if isinstance(space, spaces.Discrete) else choices)

    def _forward(self, features: Array) -> Array:
        hidden = features
        *first, (weight, bias) = self._layers
        for w, b in first:
            hidden = self._activation(np.matmul(hidden, w) + b)
        outputs: Array = np.matmul(hidden, weight) + bias
        return outputs[..., : self._outputs]


def features_of(obs: Array, space: spaces.Space[Any]) -> Array:
    """Observations (R, B, …) of a space as stable-baselines3 lets an MLP see them (R, B, F)."""
    if isinstance(space, spaces.Box) and not is_image_space(space):
        return obs.reshape(*obs.shape[:2], -1)
    seen = preprocess_obs(torch.from_numpy(obs).flatten(0, 1), space)
    assert isinstance(seen, torch.Tensor)  # noqa: S101 (several come only from dictionaries)
    return seen.numpy().reshape(*obs.shape[:2], -1)


def draw_noise(
    space: spaces.Space[Any],
    dtype: torch.dtype,
    shape: tuple[int, ...],
    generator: torch.Generator,
) -> Array:
    """What one run's actions are made of, for a whole rollout in one draw.

    Args:
        space: of the actions.
        dtype: of the policy.
        shape: of the noise, K last.
        generator: the run's own.
    """
    noise = torch.empty(shape, dtype=dtype)
    if choice_sizes(space):
        return (-noise.exponential_(generator=generator).log()).numpy()
    if isinstance(space, spaces.Box):
        return noise.normal_(generator=generator).numpy()
    uniform = noise.uniform_(generator=generator)
    return (uniform.log() - torch.log1p(-uniform)).numpy()


def _activation(kind: type[nn.Module]) -> Callable[[Array], Array]:
    if kind is nn.Tanh:
        return np.tanh
    function = kind()
    return lambda inputs: np.asarray(function(torch.from_numpy(inputs)).numpy())
