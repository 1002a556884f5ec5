import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageColor

from shaperun.report import gif

BLUE, ORANGE = "#0072b2", "#d55e00"
Frames = list[NDArray[np.uint8]]


def clip(
    steps: int,
    *,
    arm: str = "default",
    color: str = BLUE,
    shape: tuple[int, int] = (40, 60),
    outcome: str = "landed",
    success: bool | None = True,
    fps: int = 50,
) -> gif.Clip:
    """Return a clip of a white block that moves right by one pixel per step on black."""
    frames = []
    for step in range(steps + 1):
        frame = np.zeros((*shape, 3), np.uint8)
        frame[10:20, step % 50 : step % 50 + 10] = 255
        frames.append(frame)
    returns = [float(-step) for step in range(steps + 1)]
    return gif.Clip(arm, color, frames, returns, outcome, success, fps)


def shows(image: NDArray[np.uint8], color: str) -> bool:
    """Return whether more than 20 pixels have the color."""
    return int((image == ImageColor.getrgb(color)).all(axis=2).sum()) > 20


def read(path: Path) -> tuple[Frames, list[int]]:
    """Return the frames of a GIF and the duration of each in ms."""
    frames, durations = [], []
    with Image.open(path) as image:
        for i in range(getattr(image, "n_frames", 1)):
            image.seek(i)
            frames.append(np.asarray(image.convert("RGB")))
            durations.append(int(image.info["duration"]))
    return frames, durations


def difference(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> int:
    return int(np.abs(a.astype(int) - b.astype(int)).max())


def solid(*colors: Sequence[int]) -> Frames:
    return [np.full((30, 40, 3), color, np.uint8) for color in colors]


def test_plays_in_real_time_and_holds_the_end() -> None:
    frames, delay_ms = gif.compose([clip(21)], hold_seconds=1.5)
    assert delay_ms == 40
    hold = round(1500 / 40)
    assert len(frames) == 11 + hold  # steps 0, 2, …, 20, then 21 for 1.5 s
    assert all(np.array_equal(frame, frames[-1]) for frame in frames[-hold:])
    assert not np.array_equal(frames[-hold - 1], frames[-1])


@pytest.mark.parametrize(("fps", "delay"), [(4, 250), (15, 70), (30, 30), (50, 40), (125, 40)])
def test_delay_is_supported_by_viewers(fps: int, delay: int) -> None:
    assert gif.compose([clip(3, fps=fps)])[1] == delay


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"frames": [np.zeros((1, 1000, 3), np.uint8)]}, "sides in a ratio of at most 20"),
        ({"frames": [np.zeros((0, 10, 3), np.uint8)]}, "sides in a ratio of at most 20"),
        ({"frames": [np.zeros((10, 10), np.uint8)]}, r"pictures \(height, width, 3\)"),
        ({"fps": 0}, "a positive number of frames per second"),
        ({"returns": [math.nan]}, "not finite"),
        ({"contributions": {"up": [math.inf]}}, "not finite"),
    ],
)
def test_a_clip_that_cannot_be_drawn_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(clip(0), **changes)


@pytest.mark.parametrize("changes", [{"panel_width": 5}, {"stride": 0}, {"hold_seconds": math.inf}])
def test_arguments_out_of_range_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="panel_width must be at least 100"):
        gif.compose([clip(1)], **changes)


def test_stride_can_be_given() -> None:
    frames, delay_ms = gif.compose([clip(20)], stride=5, hold_seconds=0)
    assert (len(frames), delay_ms) == (5, 100)


def test_long_episode_is_played_faster() -> None:
    frames, delay_ms = gif.compose([clip(1000)], panel_width=100, hold_seconds=0)
    assert (len(frames), delay_ms) == (251, 40)


def test_panels_are_in_a_row_then_in_a_grid() -> None:
    def size(number: int) -> tuple[int, ...]:
        return gif.compose([clip(1)] * number, panel_width=200)[0][0].shape[:2]

    height = size(1)[0]
    assert [size(n) for n in (1, 2, 3)] == [(height, 200 * n) for n in (1, 2, 3)]
    assert size(4) == (2 * height, 400)
    assert size(5) == (2 * height, 600)


def test_clips_may_differ_in_size() -> None:
    tall = clip(2, shape=(120, 60))
    assert gif.compose([clip(2), tall])[0][0].shape == gif.compose([tall, tall])[0][0].shape


def test_outcome_appears_in_the_last_frame() -> None:
    for success, color in gif.BADGES.items():
        frames, _ = gif.compose([clip(6, success=success)], hold_seconds=0)
        assert [shows(frame, color) for frame in frames] == [False, False, False, True]
    assert all(shows(frame, BLUE) for frame in frames)


def test_ended_clip_is_dimmed_until_all_have_ended() -> None:
    short = clip(2, color=ORANGE, outcome="crashed", success=False)
    frames, _ = gif.compose([clip(10), short], hold_seconds=0)
    left, right = (np.stack(frames)[:, :, half] for half in (slice(400), slice(400, None)))
    assert all(shows(frame, gif.BADGES[False]) for frame in right[1:])
    assert not any(shows(frame, gif.BADGES[True]) for frame in left[:-1])
    assert all(np.array_equal(frame, right[1]) for frame in right[1:-1])
    assert not np.array_equal(right[-1], right[-2])
    assert shows(right[-1], "#000000")
    assert not shows(right[-2], "#000000")


def test_caption_shows_step_and_return() -> None:
    still = gif.Clip("default", BLUE, [clip(0).frames[0]] * 9, [0.0] * 9, "landed", None, 50)
    paid = gif.Clip("default", BLUE, still.frames, [*range(9)], "landed", None, 50)
    first, second = gif.compose([still])[0][:2]
    assert not np.array_equal(first, second)
    assert not np.array_equal(second, gif.compose([paid])[0][1])


def test_long_names_are_shortened_in_the_middle() -> None:
    forty, sixty = (gif.compose([clip(2, arm=arm)])[0][-1] for arm in ("a" * 40, "a" * 60))
    assert np.array_equal(forty, sixty)
    low, high = (gif.compose([clip(2, arm="a" * 60 + end)])[0][-1] for end in ("-10", "-50"))
    assert not np.array_equal(low, high)


def test_shrinking_early_changes_nothing() -> None:
    big = clip(4, shape=(400, 600))
    frames = [gif.shrink(frame) for frame in big.frames]
    small = gif.Clip(big.arm, big.color, frames, big.returns, big.outcome, big.success, big.fps)
    assert frames[0].nbytes < 0.5 * big.frames[0].nbytes
    assert np.array_equal(np.stack(gif.compose([big])[0]), np.stack(gif.compose([small])[0]))


def paying(steps: int, **rates: float) -> gif.Clip:
    """Return a clip with a constant contribution per step and term."""
    paid = {term: [rate * step for step in range(steps + 1)] for term, rate in rates.items()}
    return replace(clip(steps, color=ORANGE), contributions=paid)


def reach(frame: NDArray[np.uint8], color: str = ORANGE) -> tuple[int, int]:
    """Return the first and last column of the bars below the picture."""
    below = (frame[330:] == ImageColor.getrgb(color)).all(axis=2).any(axis=0)
    columns = np.flatnonzero(below)
    return (int(columns[0]), int(columns[-1])) if len(columns) else (0, 0)


def test_bars_grow_from_zero_to_either_side() -> None:
    frames, _ = gif.compose([paying(20, up=1.0)], stride=5, hold_seconds=0)
    left, right = zip(*(reach(frame) for frame in frames), strict=True)
    assert (left[0], right[0]) == (0, 0)  # nothing before the first step
    assert left[1] == left[-1]
    assert right[1] < right[2] < right[-1] < 320
    lengths = [end - left[1] for end in right[1:]]
    assert lengths == pytest.approx([lengths[-1] * part / 4 for part in (1, 2, 3, 4)], abs=1)
    loss, _ = gif.compose([paying(20, up=-1.0)], stride=5, hold_seconds=0)
    assert reach(loss[-1])[1] <= left[-1]
    assert reach(loss[-1])[0] > 0.3 * gif.PANEL_WIDTH  # right of the names


def test_bars_of_one_clip_share_a_scale() -> None:
    small, large = paying(10, a=1.0, b=0.5), paying(10, a=1000.0, b=500.0)
    frames = [gif.compose([one])[0][-1] for one in (small, large)]
    assert reach(frames[0]) == reach(frames[1])
    alone = gif.compose([paying(10, b=0.5)])[0][-1]
    assert reach(alone) == reach(frames[0])


def test_pictures_are_aligned() -> None:
    frames, _ = gif.compose([replace(paying(4, a=1, b=1, c=1), note="seed 3"), clip(4)])
    halves = frames[0][:, :400], frames[0][:, 400:]
    rows = [np.flatnonzero((half == 0).all(axis=2)[:, 200]) for half in halves]
    assert len(rows[0]) > 200
    assert np.array_equal(rows[0], rows[1])


def test_smallest_of_many_terms_share_a_bar() -> None:
    rates = {f"t{i}": (-1.0) ** i * i for i in range(12)}
    limited = gif._limit_terms(paying(3, **rates).contributions)
    assert list(limited) == [*(f"t{i}" for i in range(5, 12)), "5 others"]
    assert sum(values[3] for values in limited.values()) == 3 * sum(rates.values())
    eight = paying(3, **dict(list(rates.items())[4:]))
    assert list(gif._limit_terms(eight.contributions)) == list(eight.contributions)
    sizes = [gif.compose([one])[0][0].shape for one in (eight, paying(3, **rates))]
    assert sizes[0] == sizes[1]


def test_zero_contributions_have_no_bars() -> None:
    assert reach(gif.compose([paying(3, still=0.0)])[0][-1]) == (0, 0)


def test_small_returns_and_contributions_keep_their_digits() -> None:
    series = [0.0, -0.00002, 0.000236]
    assert [gif._format_step(series, k) for k in range(3)] == ["0.000000", "−0.000020", "0.000236"]
    assert gif._format_step([-1.5, -12.25], 0) == "−1.5"
    first, second = (
        gif.compose([replace(clip(2), returns=[0, 0, end], contributions={"calm": [0, 0, end]})])
        for end in (0.000236, 0.000118)
    )
    assert not np.array_equal(first[0][-1], second[0][-1])


def test_note_is_shown() -> None:
    first, second = (gif.compose([replace(clip(2), note=f"seed {seed}")])[0][0] for seed in (1, 2))
    assert first.shape == second.shape
    assert not np.array_equal(first, second)


def test_clip_needs_one_return_per_frame() -> None:
    with pytest.raises(ValueError, match="clip 'default' needs one return per frame"):
        gif.Clip("default", BLUE, clip(2).frames, [0.0], "landed", True, 50)
    with pytest.raises(ValueError, match="one value of legs per frame"):
        replace(clip(2), contributions={"legs": [0.0]})
    with pytest.raises(ValueError, match="no clips"):
        gif.compose([])


def test_gif_can_be_read(tmp_path: Path) -> None:
    frames, delay_ms = gif.compose([clip(21), clip(9, color=ORANGE, success=False)])
    path = tmp_path / "new" / "both.gif"
    gif.write_gif(path, frames, delay_ms=delay_ms)
    seen, durations = read(path)
    with Image.open(path) as image:
        assert image.format == "GIF"
        assert image.info["loop"] == 0
    assert len(seen) == 12
    assert sum(durations) == len(frames) * delay_ms
    assert durations[-1] == 1520
    assert max(difference(a, b) for a, b in zip(seen, frames, strict=False)) < 60  # smooth edges
    assert max(np.abs(a - b.astype(float)).mean() for a, b in zip(seen, frames, strict=False)) < 1


@pytest.mark.parametrize(
    "colors", [[(0, 0, 0)], [(0, 0, 0)] * 3, [(255, 0, 0), (0, 0, 255), (255, 0, 0)]]
)
def test_few_colors_are_exact(tmp_path: Path, colors: list[tuple[int, int, int]]) -> None:
    gif.write_gif(tmp_path / "a.gif", solid(*colors), delay_ms=50)
    seen, durations = read(tmp_path / "a.gif")
    played = [frame for frame, ms in zip(seen, durations, strict=True) for _ in range(ms // 50)]
    assert np.array_equal(np.stack(played), np.stack(solid(*colors)))


def test_frames_with_every_color(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    frames = list(generator.integers(0, 256, (3, 30, 40, 3), dtype=np.uint8))
    gif.write_gif(tmp_path / "a.gif", frames, delay_ms=40)
    seen, durations = read(tmp_path / "a.gif")
    assert durations == [40, 40, 40]
    assert np.abs(np.stack(seen).astype(float) - np.stack(frames)).mean() < 30


def test_file_is_replaced_atomically_with_the_same_bytes(tmp_path: Path) -> None:
    path = tmp_path / "a.gif"
    path.write_text("old")
    frames, delay_ms = gif.compose([clip(8)])
    with path.open() as reader:
        gif.write_gif(path, frames, delay_ms=delay_ms)
        assert reader.read() == "old"  # the old file is replaced, not rewritten
    first = path.read_bytes()
    gif.write_gif(path, frames, delay_ms=delay_ms)
    assert path.read_bytes() == first
    assert [file.name for file in tmp_path.iterdir()] == ["a.gif"]
