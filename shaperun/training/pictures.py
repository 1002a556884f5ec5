"""Network that looks at the pictures of a flattened Dict or Tuple."""

from __future__ import annotations

from math import prod

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, NatureCNN

from shaperun.envs.base import Picture
from shaperun.envs.wrappers import PicturesSpace
from shaperun.study.training import PICTURE_FEATURES


class PicturesExtractor(BaseFeaturesExtractor):
    """Features of each picture by its own NatureCNN, and all other numbers as they are.

    As `CombinedExtractor` of stable-baselines3, which its MultiInputPolicy uses, but from flat rows
    (N, size); so rollouts, checkpoints and normalization are those of any other observation.
    """

    def __init__(self, observation_space: PicturesSpace, *, is_scaled: bool) -> None:
        """Take pixels as bytes, or as normalized numbers if they are scaled already."""
        pictures = observation_space.pictures
        is_other = np.ones(observation_space.shape, dtype=bool)
        for start, shape in pictures:
            is_other[start : start + prod(shape)] = False
        super().__init__(observation_space, is_other.sum() + PICTURE_FEATURES * len(pictures))
        self._pictures, self._divisor = pictures, 1 if is_scaled else 255
        self._others = torch.from_numpy(np.flatnonzero(is_other))
        self.networks = torch.nn.ModuleList(
            NatureCNN(spaces.Box(0, 255, _channels_first(shape), dtype=np.uint8), PICTURE_FEATURES)
            for _, shape in pictures
        )

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        """Return features (N, features) of observations (N, size)."""
        features = [
            network(_cut(observations, picture) / self._divisor)
            for picture, network in zip(self._pictures, self.networks, strict=True)
        ]
        return torch.cat([*features, observations[:, self._others]], dim=1)


def _cut(observations: torch.Tensor, picture: Picture) -> torch.Tensor:
    """Return a picture (N, channels, height, width) of observations (N, size)."""
    start, shape = picture
    pixels = observations[:, start : start + prod(shape)].reshape(-1, *shape)
    return pixels if _channels_first(shape) == shape else pixels.permute(0, 3, 1, 2)


def _channels_first(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return a picture's shape with its channels, the smallest dimension, in front."""
    return shape if shape[0] == min(shape) else (shape[2], *shape[:2])
