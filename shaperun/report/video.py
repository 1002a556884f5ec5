"""Write frames as GIF, WebP or MP4."""

from __future__ import annotations

import io
import itertools
from collections.abc import Sequence
from fractions import Fraction
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
    colours = np.frombuffer(palette.ljust(768, b"\0"), np.uint8).reshape(-1, 3)
    changed = [True, *(not np.array_equal(a, b) for a, b in itertools.pairwise(indices))]
    starts = np.flatnonzero(changed)
    return imageio.imwrite(
        "<bytes>",
        colours[indices[starts]],
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
    import av

    height, width, _ = frames[0].shape
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=Fraction(1000, delay_ms))
        # All players support chroma subsampling (yuv420p), which needs even sizes.
        stream.width, stream.height = width + width % 2, height + height % 2
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": "20", "preset": "slow"}
        for frame in frames:
            padded = np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
            container.mux(stream.encode(av.VideoFrame.from_ndarray(padded, format="rgb24")))
        container.mux(stream.encode())
    return buffer.getvalue()
