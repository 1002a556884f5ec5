"""Pictures among observations: a whole one, or those within a flattened Dict or Tuple."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

MIN_PICTURE = 36  # pixels on each side, below which the layers of NatureCNN have no room


class Picture(NamedTuple):
    """A picture in a flat row: where it starts, and its shape (channels first or last)."""

    start: int
    shape: tuple[int, ...]

    @property
    def is_large(self) -> bool:
        """True if NatureCNN can look at it."""
        return min(sorted(self.shape)[1:]) >= MIN_PICTURE


def is_picture(space: Any) -> bool:
    """Return whether stable-baselines3 takes a space for pictures.

    As its `is_image_space`, which would import torch.
    """
    if not hasattr(space, "low") or space.dtype != np.uint8 or len(space.shape) != 3:
        return False
    return bool((space.low == 0).all() and (space.high == 255).all())


def find_pictures(space: Any, start: int = 0) -> Iterator[Picture]:
    """Yield the pictures of a space, in the order of gymnasium's `flatten`."""
    from gymnasium import spaces  # slow to import

    if isinstance(space, spaces.Dict | spaces.Tuple):
        entries = space.spaces.values() if isinstance(space, spaces.Dict) else space.spaces
        for entry in entries:
            yield from find_pictures(entry, start)
            start += spaces.flatdim(entry)
    elif is_picture(space):
        yield Picture(start, tuple(map(int, space.shape)))
