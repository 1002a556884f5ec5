"""Draw rendered episodes with captions and bars, side by side, and write them as a GIF."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

import imageio.v3 as imageio
import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from shaperun.common.files import write_atomically
from shaperun.common.text import count_decimals, format_fixed, humanize
from shaperun.training.replay import film_speed, steps_per_frame

PANEL_WIDTH = 400  # pixels, including the margin
MAX_RATIO = 20  # of the sides of a picture
MAX_BARS = 8  # of more terms, the smallest are drawn as one
COLORS = 64  # one palette per GIF; the last entry is transparent

PAPER, LINE, INK, FADED = "#ffffff", "#d0d7de", "#1f2328", "#656d76"
BADGES = {True: "#1a7f37", False: "#cf222e", None: "#6e7781"}
FONTS = Path(matplotlib.get_data_path(), "fonts", "ttf")


@dataclass(frozen=True)
class Clip:
    """A rendered episode of one arm, with the numbers for its caption and bars."""

    arm: str  # display name
    color: str  # "#rrggbb", as in all figures
    frames: Sequence[NDArray[np.uint8]]  # (height, width, 3) each; frames[k] is after k steps
    returns: Sequence[float]  # cumulative environment return at each frame
    outcome: str  # shown in the last frame
    success: bool | None  # None if the outcome is neither success nor failure
    fps: int  # of the environment, frames per second
    speed: int = 1  # at which its frames were rendered
    note: str = ""  # seed and episode, and more on further lines
    # Term -> cumulative contribution at each frame, in the units of the arm's reward.
    contributions: Mapping[str, Sequence[float] | NDArray[np.float64]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.frames or len(self.frames) != len(self.returns):
            raise ValueError(
                f"clip {self.arm!r} needs one return per frame and at least one frame, "
                f"got {len(self.frames)} frames and {len(self.returns)} returns"
            )
        if not (math.isfinite(self.fps) and self.fps > 0):
            raise ValueError(f"clip {self.arm!r} needs a positive number of frames per second")
        for frame in self.frames:
            height, width = frame.shape[:2] if frame.ndim == 3 and frame.shape[2] == 3 else (0, 0)
            if not min(height, width) * MAX_RATIO >= max(height, width) > 0:
                raise ValueError(
                    f"clip {self.arm!r} needs pictures (height, width, 3) with sides in a ratio of "
                    f"at most {MAX_RATIO}, got {frame.shape}"
                )
        if not np.isfinite([*self.returns, *itertools.chain(*self.contributions.values())]).all():
            raise ValueError(f"clip {self.arm!r} has returns or contributions that are not finite")
        for term, values in self.contributions.items():
            if len(values) != len(self.frames):
                raise ValueError(
                    f"clip {self.arm!r} needs one value of {term} per frame, "
                    f"got {len(self.frames)} frames and {len(values)} values"
                )

    @property
    def length(self) -> int:
        """The number of steps of the episode."""
        return len(self.frames) - 1


@dataclass(frozen=True)
class _Layout:
    """The layout that all panels of a GIF share, so that their pictures are aligned."""

    width: int  # pixels of a panel
    speed: int
    notes: int  # lines of the longest note
    rows: int  # of bars

    @property
    def top(self) -> int:
        """The pixels above the picture."""
        return round(self.width * (0.14 + 0.045 * self.notes))

    @property
    def row(self) -> int:
        """The pixels of a bar, and of the heading above the bars."""
        return round(self.width * 0.046)

    @property
    def bottom(self) -> int:
        """The pixels below the picture."""
        bars = (self.rows + 1) * self.row + _margin(self.width) if self.rows else 0
        return bars + _margin(self.width)


def shrink(frame: NDArray[np.uint8], panel_width: int = PANEL_WIDTH) -> NDArray[np.uint8]:
    """Scale a frame (height, width, 3) to the size of a panel's picture.

    `compose` scales every frame it draws; scaling while recording saves memory.
    """
    width = panel_width - 2 * _margin(panel_width)
    height = round(frame.shape[0] * width / frame.shape[1])
    if frame.shape[:2] == (height, width):
        return frame
    return np.asarray(Image.fromarray(frame).resize((width, height), Image.Resampling.HAMMING))


def compose(
    clips: Sequence[Clip],
    *,
    panel_width: int = PANEL_WIDTH,
    stride: int | None = None,
    hold_seconds: float = 1.5,
) -> tuple[list[NDArray[np.uint8]], int]:
    """Return frames (height, width, 3) with the clips side by side, and their delay in ms.

    Every clip has a caption above its picture, and below it one bar per term with the cumulative
    contribution of the term. The bars of a clip share a scale; clips do not, as every arm has
    units of its own.

    Every `stride`-th step is drawn, by default about 25 per second of the environment's time. The
    last frame of the longest clip is always drawn and repeated for `hold_seconds`. A clip that ends
    earlier keeps its last frame, dimmed until all have ended.

    Raises:
        ValueError: there is no clip, or an argument is out of range.
    """
    if not clips:
        raise ValueError("no clips to draw")
    if panel_width < 100 or (stride is not None and stride < 1) or not 0 <= hold_seconds < 3600:
        raise ValueError(
            "panel_width must be at least 100, stride at least 1, and hold_seconds from 0 to 3600, "
            f"got {panel_width}, {stride} and {hold_seconds}"
        )
    longest = max(clip.length for clip in clips)
    stride = stride or steps_per_frame(clips[0].fps)
    delay_ms = max(20, 10 * round(100 * stride / clips[0].fps))
    speed = max(film_speed(clips[0].fps, longest), *(clip.speed for clip in clips))

    clips = [replace(clip, contributions=_limit_terms(clip.contributions)) for clip in clips]
    rows = max(len(clip.contributions) for clip in clips)
    notes = max(len(clip.note.splitlines()) for clip in clips)
    layout = _Layout(panel_width, speed, notes, rows)

    ended = [_draw_panel(clip, clip.length, layout) for clip in clips]
    dimmed = [_draw_panel(clip, clip.length, layout, dim=True) for clip in clips]
    drawn = [
        _tile(
            [
                dimmed[i] if step >= clip.length else _draw_panel(clip, step, layout)
                for i, clip in enumerate(clips)
            ]
        )
        for step in range(0, longest, stride * speed)
    ]
    hold = max(1, round(1000 * hold_seconds / delay_ms))
    return drawn + [_tile(ended)] * hold, delay_ms


def write_gif(path: Path, frames: Sequence[NDArray[np.uint8]], *, delay_ms: int) -> None:
    """Write frames (height, width, 3) of one size as an endless GIF, atomically.

    All frames share one palette, so that only changed pixels are stored; equal consecutive frames
    are merged.
    """
    indices, palette = quantize(frames)
    data = imageio.imwrite(
        "<bytes>",
        indices,
        extension=".gif",
        plugin="pillow",
        mode="P",
        is_batch=True,
        palette=palette.ljust(3 * COLORS, b"\0"),
        transparency=COLORS - 1,
        optimize=True,  # unchanged pixels become transparent, which compresses well
        disposal=1,
        duration=delay_ms,
        loop=0,
    )
    write_atomically(path, data)


def quantize(frames: Sequence[NDArray[np.uint8]]) -> tuple[NDArray[np.uint8], bytes]:
    """Return palette indices (frames, height, width) and the palette, of RGB bytes."""
    palette = _make_palette(frames)
    images = (
        Image.fromarray(frame).quantize(palette=palette, dither=Image.Dither.NONE)
        for frame in frames
    )
    return np.stack([np.asarray(image) for image in images]), bytes(palette.getpalette() or ())


def _make_palette(frames: Sequence[NDArray[np.uint8]]) -> Image.Image:
    """Return an image with a palette for all frames that keeps the colors of small details.

    The palette is made from every seventh pixel of twelve frames. One round of k-means gives large
    areas their exact color, which the method alone misses by up to 16 of 255.
    """
    chosen = np.unique(np.linspace(0, len(frames) - 1, 12).round().astype(int))
    pixels = [frames[i].reshape(-1, 3)[k % 7 :: 7] for k, i in enumerate(chosen)]
    sample = Image.fromarray(np.concatenate(pixels)[np.newaxis])
    return sample.quantize(COLORS - 1, method=Image.Quantize.MAXCOVERAGE, kmeans=1)


def _limit_terms(
    contributions: Mapping[str, Sequence[float] | NDArray[np.float64]],
) -> dict[str, NDArray[np.float64]]:
    """Return the terms of the largest peak contribution, in order, and the sum of the others."""
    values = {term: np.asarray(series, dtype=float) for term, series in contributions.items()}
    if len(values) <= MAX_BARS:
        return values
    by_size = sorted(values, key=lambda term: -float(np.abs(values[term]).max()))
    largest = {term: values[term] for term in values if term in by_size[: MAX_BARS - 1]}
    others = np.sum([values[term] for term in by_size[MAX_BARS - 1 :]], axis=0)
    return largest | {f"{len(values) - len(largest)} others": others}


def _draw_panel(clip: Clip, step: int, layout: _Layout, *, dim: bool = False) -> Image.Image:
    """Draw a clip after `step` steps: caption, picture and bars."""
    margin, top, width = _margin(layout.width), layout.top, layout.width
    picture = Image.fromarray(shrink(clip.frames[step], width))
    if dim:
        picture = Image.blend(picture, Image.new("RGB", picture.size, PAPER), 0.4)
    panel = Image.new("RGB", (width, top + picture.height + layout.bottom), PAPER)
    panel.paste(picture, (margin, top))
    draw = ImageDraw.Draw(panel)
    draw.rectangle((margin - 1, top - 1, width - margin, top + picture.height), outline=LINE)
    _draw_caption(draw, clip, step, layout)
    if clip.contributions:
        _draw_bars(draw, clip, step, top + picture.height + margin, layout)
    return panel


def _draw_caption(draw: ImageDraw.ImageDraw, clip: Clip, step: int, layout: _Layout) -> None:
    """Write the arm and, at the end, the outcome; then step and return; then the note."""
    width = layout.width
    left, right = _margin(width), width - _margin(width)
    upper, lower = round(width * 0.043), round(width * 0.102)  # centers of the first two lines
    large, small = _font(width // 25, bold=True), _font(width // 29)
    bar, end = max(2, width // 80), layout.top - round(width * 0.014)
    draw.rectangle((left, round(width * 0.018), left + bar - 1, end), clip.color)
    left += 2 * bar + 1

    badge = math.ceil(small.getlength(clip.outcome)) + width // 25
    name = _truncate(clip.arm, large, right - badge - bar - left)
    draw.text((left, upper), name, INK, large, "lm")
    if step == clip.length:
        height = width * 0.026
        box = (right - badge, upper - height, right, upper + height)
        draw.rounded_rectangle(box, width // 100, BADGES[clip.success])
        draw.text((right - badge / 2, upper), clip.outcome, PAPER, small, "mm")

    pace = f"  ·  {layout.speed}×" if layout.speed > 1 else ""
    total = _format_step(clip.returns, step)
    draw.text((left, lower), f"step {step}{pace}", FADED, small, "lm")
    draw.text((right, lower), total, INK, small, "rm")
    # So that the label does not move:
    ends = (np.argmin(clip.returns), np.argmax(clip.returns))
    texts = [_format_step(clip.returns, int(end)) for end in ends]
    digits = max(small.getlength(text) for text in (*texts, "−000.0"))
    draw.text((right - digits - width // 50, lower), "environment return", FADED, small, "rm")
    tiny = _font(width // 33)
    for line, note in enumerate(clip.note.splitlines()):
        middle = round(width * (0.153 + 0.045 * line))
        draw.text((left, middle), _truncate(note, tiny, right - left), FADED, tiny, "lm")


def _draw_bars(draw: ImageDraw.ImageDraw, clip: Clip, step: int, top: int, layout: _Layout) -> None:
    """Draw the cumulative contribution of each term as a bar from zero, and their sum above."""
    width, font = layout.width, _font(layout.width // 31)
    left, right = _margin(width), width - _margin(width)
    zero, reach = round(width * 0.56), width * 0.22  # position of zero, length of the longest bar
    scale = max(float(np.abs(values).max()) for values in clip.contributions.values()) or 1.0
    middle = top + layout.row // 2
    total = np.sum([np.asarray(values) for values in clip.contributions.values()], axis=0)
    draw.text((left, middle), "shaped return so far, by term", FADED, font, "lm")
    draw.text((right, middle), _format_step(total, step), INK, font, "rm")
    for term, values in clip.contributions.items():
        middle += layout.row
        value = float(values[step])
        draw.text(
            (left, middle), _truncate(humanize(term), font, round(width * 0.3)), INK, font, "lm"
        )
        draw.text((right, middle), _format_step(values, step), INK, font, "rm")
        low, high = sorted((zero, zero + round(reach * value / scale)))
        if low < high:
            half = round(layout.row * 0.32)
            draw.rectangle((low, middle - half, high, middle + half), clip.color)
    draw.line((zero, top + layout.row, zero, middle + layout.row // 2), FADED)


def _format_step(series: Sequence[float] | NDArray[np.float64], step: int) -> str:
    """Return a number with decimals that are the same at every step of its series."""
    return format_fixed(float(series[step]), count_decimals(map(float, series), 3))


def _truncate(text: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    """Shorten a text to fit, keeping both ends, as the arms of a sweep differ at the end."""
    if font.getlength(text) <= width:
        return text
    for length in range(len(text) - 1, 0, -1):
        short = text[: length - length // 2] + "…" + text[len(text) - length // 2 :]
        if font.getlength(short) <= width:
            return short
    return "…"


def _tile(panels: Sequence[Image.Image]) -> NDArray[np.uint8]:
    """Arrange up to three panels in a row, more in a nearly square grid."""
    columns = len(panels) if len(panels) <= 3 else math.ceil(math.sqrt(len(panels)))
    width, height = panels[0].width, max(panel.height for panel in panels)
    rows = math.ceil(len(panels) / columns)
    sheet = Image.new("RGB", (columns * width, rows * height), PAPER)
    for i, panel in enumerate(panels):
        sheet.paste(panel, (i % columns * width, i // columns * height))
    return np.asarray(sheet)


def _margin(panel_width: int) -> int:
    return max(2, panel_width // 50)


@cache
def _font(size: int, *, bold: bool = False) -> ImageFont.FreeTypeFont:
    file = FONTS / f"DejaVuSans{'-Bold' * bold}.ttf"
    return ImageFont.truetype(file, size, layout_engine=ImageFont.Layout.BASIC)
