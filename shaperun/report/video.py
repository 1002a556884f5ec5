"""Write frames as GIF, WebP or MP4."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import imageio.v3 as imageio
import numpy as np
from numpy.typing import NDArray

from shaperun.common.errors import UserError
from shaperun.common.files import write_atomically
from shaperun.report.gif import quantize, write_gif

Format = Literal["gif", "mp4", "webp"]
Frames = Sequence[NDArray[np.uint8]]


def ensure_supported(kind: Format) -> None:
    """Raise a UserError if a package for this format is missing."""
    if kind == "mp4" and find_spec("av") is None:
        raise UserError('MP4 needs PyAV, which is not installed: pip install "shaperun[mp4]"')


def write_video(path: Path, frames: Frames, *, delay_ms: int) -> None:
    """Write frames (height, width, 3) of one size, each shown for `delay_ms`, atomically.

    The suffix of the path is the format. GIF and WebP loop forever; for MP4 the player decides.
    """
    if path.suffix == ".gif":
        write_gif(path, frames, delay_ms=delay_ms)
    else:
        encode = _encode_mp4 if path.suffix == ".mp4" else _encode_webp
        write_atomically(path, encode(frames, delay_ms))


def _encode_webp(frames: Frames, delay_ms: int) -> bytes:
    """Encode the GIF's colors losslessly, which is smaller than full color, even with loss."""
    indices, palette = quantize(frames)
    colors = np.frombuffer(palette.ljust(768, b"\0"), np.uint8).reshape(-1, 3)
    changed = [True, *(not np.array_equal(a, b) for a, b in itertools.pairwise(indices))]
    starts = np.flatnonzero(changed)
    return imageio.imwrite(
        "<bytes>",
        colors[indices[starts]],
        extension=".webp",
        plugin="pillow",
        is_batch=True,
        duration=(delay_ms * np.diff(starts, append=len(indices))).tolist(),
        loop=0,
        lossless=True,
        method=4,
        kmax=0,  # no key frames after the first, as a loop needs no seeking
    )


def _encode_mp4(frames: Frames, delay_ms: int) -> bytes:
    """Encode with chroma subsampling (yuv420p), which all players support; it needs even sizes."""
    height, width, _ = frames[0].shape
    padding = ((0, 0), (0, height % 2), (0, width % 2), (0, 0))
    return imageio.imwrite(
        "<bytes>",
        np.pad(np.stack(frames), padding, mode="edge"),
        extension=".mp4",
        plugin="pyav",
        is_batch=True,
        codec="libx264",
        fps=1000 / delay_ms,
        out_pixel_format="yuv420p",
    )
