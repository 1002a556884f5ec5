"""Frames -> a file in one of the formats that browsers and slides play: GIF, WebP or MP4."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from shaperun.common.errors import UserError
from shaperun.common.files import write_atomically
from shaperun.report.gif import shared_palette, write_gif

Format = Literal["gif", "mp4", "webp"]
Frames = Sequence[NDArray[np.uint8]]


def require(kind: Format) -> None:
    """Make sure that files of this kind can be written here.

    Raises:
        UserError: says what to install.
    """
    if kind == "mp4" and find_spec("av") is None:
        raise UserError('MP4 needs PyAV, which is not installed: pip install "shaperun[mp4]"')


def write(path: Path, frames: Frames, *, delay_ms: int) -> None:
    """Write frames (height, width, 3) of one size, each shown for `delay_ms`, atomically.

    The path ends in the format. GIF and WebP loop for ever; of an MP4 the player decides that.
    """
    if path.suffix == ".gif":
        write_gif(path, frames, delay_ms=delay_ms)
    else:
        encode = _mp4 if path.suffix == ".mp4" else _webp
        write_atomically(path, encode(frames, delay_ms))


def _webp(frames: Frames, delay_ms: int) -> bytes:
    """The colours of the GIF without loss: smaller than all colours, and than any with loss."""
    buffer, palette = io.BytesIO(), shared_palette(frames)
    shown = list(_stretches(frames))
    first, *others = (
        Image.fromarray(frame).quantize(palette=palette, dither=Image.Dither.NONE).convert("RGB")
        for frame, _ in shown
    )
    first.save(
        buffer,
        "WEBP",
        save_all=True,
        append_images=others,
        duration=[delay_ms * times for _, times in shown],
        loop=0,
        lossless=True,
        method=4,
        kmax=0,  # no frame but the first is stored whole: who loops does not seek
    )
    return buffer.getvalue()


def _stretches(frames: Frames) -> Iterator[tuple[NDArray[np.uint8], int]]:
    """Frames that differ from the one before, and how many times each is shown in a row."""
    times = 0
    for frame, following in zip(frames, [*frames[1:], None], strict=True):
        times += 1
        if following is None or not np.array_equal(frame, following):
            yield frame, times
            times = 0


def _mp4(frames: Frames, delay_ms: int) -> bytes:
    import av

    height, width, _ = frames[0].shape
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=Fraction(1000, delay_ms))
        # Half as many points of colour as pixels is all that every player shows: even sizes.
        stream.width, stream.height = width + width % 2, height + height % 2
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": "20", "preset": "slow"}
        for frame in frames:
            even = np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
            picture = av.VideoFrame.from_ndarray(even, format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    return buffer.getvalue()
