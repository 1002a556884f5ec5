"""Rendered episodes -> frames with captions and bars, side by side -> one GIF that loops for ever.

Nothing here knows of policies or environments: a `Clip` is pictures and numbers.
"""

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from shaperun.common.files import write_atomically

PANEL_WIDTH = 400  # pixels of one clip, its margin included
DRAWN_PER_SECOND = 25  # 40 ms a frame; viewers slow down below 20 ms
MAX_DRAWN = 250  # frames; a longer episode plays faster, and its caption says so
MAX_BARS = 8  # of more, the smallest are drawn as one
COLOURS = 64  # one palette for the whole GIF; the last entry means "as before"

PAPER, LINE, INK, FADED = "#ffffff", "#d0d7de", "#1f2328", "#656d76"
BADGES = {True: "#1a7f37", False: "#cf222e", None: "#6e7781"}
FONTS = Path(matplotlib.get_data_path(), "fonts", "ttf")


@dataclass(frozen=True)
class Clip:
    """One recorded episode of one arm, ready to be drawn."""

    arm: str  # display name
    colour: str  # the arm's colour in every figure, "#rrggbb"
    frames: Sequence[NDArray[np.uint8]]  # (height, width, 3) each; frames[k] is after k steps
    returns: Sequence[float]  # environment return so far at each frame
    outcome: str  # how the episode ended, shown from the last frame on
    success: bool | None  # None where the environment does not say
    fps: int  # of the environment, frames per second
    note: str = ""  # which run and episode this is
    # By term: what it has paid the learner so far at each frame, in the units of the arm's reward.
    contributions: Mapping[str, Sequence[float] | NDArray[np.float64]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.frames or len(self.frames) != len(self.returns):
            raise ValueError(
                f"clip {self.arm!r} needs one return a frame and at least one frame, "
                f"got {len(self.frames)} frames and {len(self.returns)} returns"
            )
        for term, values in self.contributions.items():
            if len(values) != len(self.frames):
                raise ValueError(
                    f"clip {self.arm!r} needs one value a frame of {term}, "
                    f"got {len(self.frames)} frames and {len(values)} values"
                )

    @property
    def length(self) -> int:
        """Steps of the episode."""
        return len(self.frames) - 1


@dataclass(frozen=True)
class _Sheet:
    """What the panels of a GIF have in common, so that their pictures stand in line."""

    width: int  # pixels of a panel
    speed: int
    noted: bool  # whether there is a line for notes
    rows: int  # of bars

    @property
    def top(self) -> int:
        """Pixels above the picture."""
        return round(self.width * (0.185 if self.noted else 0.14))

    @property
    def row(self) -> int:
        """Pixels of a bar and of the heading above the bars."""
        return round(self.width * 0.046)

    @property
    def bottom(self) -> int:
        """Pixels below the picture."""
        bars = (self.rows + 1) * self.row + _margin(self.width) if self.rows else 0
        return bars + _margin(self.width)


def shrink(frame: NDArray[np.uint8], panel_width: int = PANEL_WIDTH) -> NDArray[np.uint8]:
    """A frame (height, width, 3) at the size in which a panel shows it.

    `compose` does this to every frame it draws; whoever records a long episode can do it at
    once and hold a fraction of the memory.
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
    """Frames (height, width, 3), clips side by side, and the delay of each in ms.

    A clip has a caption over its picture, and below it a bar for each term with what the term has
    paid so far. The bars of a clip share a scale, on which nothing in the episode is cut off; two
    clips share none, as each arm pays in units of its own.

    Every `stride`-th step is drawn, by default about 25 a second of the environment's time; the
    longest clip's last frame always is, and is repeated for `hold_seconds`. A clip that ends
    before it keeps its last frame, dimmed until all have ended.
    """
    if not clips:
        raise ValueError("there is no clip to draw")
    longest = max(clip.length for clip in clips)
    stride = stride or max(1, round(clips[0].fps / DRAWN_PER_SECOND))
    delay_ms = max(20, 10 * round(100 * stride / clips[0].fps))
    speed = max(1, math.ceil(longest / (stride * MAX_DRAWN)))

    clips = [replace(clip, contributions=_largest(clip.contributions)) for clip in clips]
    most_bars, noted = (
        max(len(clip.contributions) for clip in clips),
        any(clip.note for clip in clips),
    )
    sheet = _Sheet(panel_width, speed, noted, most_bars)

    ended = [_panel(clip, clip.length, sheet) for clip in clips]
    dimmed = [_panel(clip, clip.length, sheet, dim=True) for clip in clips]
    drawn = [
        _tile(
            [
                dimmed[i] if step >= clip.length else _panel(clip, step, sheet)
                for i, clip in enumerate(clips)
            ]
        )
        for step in range(0, longest, stride * speed)
    ]
    hold = max(1, round(1000 * hold_seconds / delay_ms))
    return drawn + [_tile(ended)] * hold, delay_ms


def write_gif(path: Path, frames: Sequence[NDArray[np.uint8]], *, delay_ms: int) -> None:
    """Write frames (height, width, 3) of one size as a GIF that loops for ever, atomically.

    Frames share one palette, so that a frame needs only the pixels that changed; equal frames in
    a row become one that is shown longer.
    """
    palette = shared_palette(frames)
    indexed = (
        Image.fromarray(frame).quantize(palette=palette, dither=Image.Dither.NONE)
        for frame in frames
    )
    buffer = io.BytesIO()
    next(indexed).save(
        buffer,
        "GIF",
        save_all=True,
        append_images=indexed,
        palette=bytes(palette.getpalette() or ()).ljust(3 * COLOURS, b"\0"),
        transparency=COLOURS - 1,
        optimize=True,  # a pixel that did not change is written as transparent: that packs well
        disposal=1,
        duration=delay_ms,
        loop=0,
    )
    write_atomically(path, buffer.getvalue())


def shared_palette(frames: Sequence[NDArray[np.uint8]]) -> Image.Image:
    """An image with one palette for all frames, in which a small flag keeps its yellow.

    Made from every seventh pixel of a dozen frames. One round of k-means puts the large areas on
    their exact colour, which the method alone misses by up to 16 of 255.
    """
    chosen = np.unique(np.linspace(0, len(frames) - 1, 12).round().astype(int))
    pixels = [frames[i].reshape(-1, 3)[k % 7 :: 7] for k, i in enumerate(chosen)]
    sample = Image.fromarray(np.concatenate(pixels)[np.newaxis])
    return sample.quantize(COLOURS - 1, method=Image.Quantize.MAXCOVERAGE, kmeans=1)


def _largest(
    paid: Mapping[str, Sequence[float] | NDArray[np.float64]],
) -> dict[str, NDArray[np.float64]]:
    """The terms that come to most at any moment, in their order, and the sum of the others."""
    values = {term: np.asarray(so_far, dtype=float) for term, so_far in paid.items()}
    if len(values) <= MAX_BARS:
        return values
    by_size = sorted(values, key=lambda term: -float(np.abs(values[term]).max()))
    kept = {term: values[term] for term in values if term in by_size[: MAX_BARS - 1]}
    others = np.sum([values[term] for term in by_size[MAX_BARS - 1 :]], axis=0)
    return kept | {f"{len(values) - len(kept)} others": others}


def _panel(clip: Clip, step: int, sheet: _Sheet, *, dim: bool = False) -> Image.Image:
    """One clip after `step` steps: its caption, the picture, its bars."""
    margin, top, width = _margin(sheet.width), sheet.top, sheet.width
    picture = Image.fromarray(shrink(clip.frames[step], width))
    if dim:
        picture = Image.blend(picture, Image.new("RGB", picture.size, PAPER), 0.4)
    panel = Image.new("RGB", (width, top + picture.height + sheet.bottom), PAPER)
    panel.paste(picture, (margin, top))
    draw = ImageDraw.Draw(panel)
    draw.rectangle((margin - 1, top - 1, width - margin, top + picture.height), outline=LINE)
    _caption(draw, clip, step, sheet)
    if clip.contributions:
        _bars(draw, clip, step, top + picture.height + margin, sheet)
    return panel


def _caption(draw: ImageDraw.ImageDraw, clip: Clip, step: int, sheet: _Sheet) -> None:
    """The arm and, once it is known, the outcome; then step and environment return; the note."""
    width = sheet.width
    left, right = _margin(width), width - _margin(width)
    upper, lower = round(width * 0.043), round(width * 0.102)  # the middles of the first two lines
    large, small = _font(width // 25, bold=True), _font(width // 29)
    bar, end = max(2, width // 80), sheet.top - round(width * 0.014)
    draw.rectangle((left, round(width * 0.018), left + bar - 1, end), clip.colour)
    left += 2 * bar + 1

    badge = math.ceil(small.getlength(clip.outcome)) + width // 25
    name = _truncated(clip.arm, large, right - badge - bar - left)
    draw.text((left, upper), name, INK, large, "lm")
    if step == clip.length:
        height = width * 0.026
        box = (right - badge, upper - height, right, upper + height)
        draw.rounded_rectangle(box, width // 100, BADGES[clip.success])
        draw.text((right - badge / 2, upper), clip.outcome, PAPER, small, "mm")

    pace = f"  ·  {sheet.speed}×" if sheet.speed > 1 else ""
    total = _number(clip.returns[step], 1)
    draw.text((left, lower), f"step {step}{pace}", FADED, small, "lm")
    draw.text((right, lower), total, INK, small, "rm")
    digits = max(small.getlength(total), small.getlength("−000.0"))  # so the label stands still
    draw.text((right - digits - width // 50, lower), "environment return", FADED, small, "rm")
    if clip.note:
        tiny = _font(width // 33)
        note = _truncated(clip.note, tiny, right - left)
        draw.text((left, round(width * 0.153)), note, FADED, tiny, "lm")


def _bars(draw: ImageDraw.ImageDraw, clip: Clip, step: int, top: int, sheet: _Sheet) -> None:
    """What each term has paid so far, to the right of zero or to its left; their sum above them."""
    width, font = sheet.width, _font(sheet.width // 31)
    left, right = _margin(width), width - _margin(width)
    zero, reach = round(width * 0.56), width * 0.22  # where zero is, and the longest bar from there
    scale = max(float(np.abs(values).max()) for values in clip.contributions.values()) or 1.0
    decimals = 2 if scale < 10 else 1 if scale < 1000 else 0
    middle = top + sheet.row // 2
    total = sum(float(values[step]) for values in clip.contributions.values())
    draw.text((left, middle), "paid so far by this arm's own reward", FADED, font, "lm")
    draw.text((right, middle), _number(total, decimals), INK, font, "rm")
    for term, values in clip.contributions.items():
        middle += sheet.row
        value = float(values[step])
        draw.text((left, middle), _truncated(term, font, round(width * 0.3)), INK, font, "lm")
        draw.text((right, middle), _number(value, decimals), INK, font, "rm")
        low, high = sorted((zero, zero + round(reach * value / scale)))
        if low < high:
            half = round(sheet.row * 0.32)
            draw.rectangle((low, middle - half, high, middle + half), clip.colour)
    draw.line((zero, top + sheet.row, zero, middle + sheet.row // 2), FADED)


def _number(value: float, decimals: int) -> str:
    rounded = round(value, decimals) + 0.0  # no −0
    return f"{rounded:,.{decimals}f}".replace("-", "−")


def _truncated(text: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    """The text, or as much of both its ends as fits: the arms of a sweep differ in their ends."""
    if font.getlength(text) <= width:
        return text
    for kept in range(len(text) - 1, 0, -1):
        short = text[: kept - kept // 2] + "…" + text[len(text) - kept // 2 :]
        if font.getlength(short) <= width:
            return short
    return "…"


def _tile(panels: Sequence[Image.Image]) -> NDArray[np.uint8]:
    """Up to three panels in a row, more in a grid that is about square."""
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
