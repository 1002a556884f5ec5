"""Figures of arms show the numbers of their tables, with literal names."""

import itertools
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import matplotlib
import numpy as np
import polars as pl
import pytest
from matplotlib.collections import FillBetweenPolyCollection, LineCollection, QuadMesh
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from shaperun.common.text import format_number, humanize
from shaperun.report.plots import arms as plots
from shaperun.report.plots import response
from shaperun.report.plots import style as canvas

pytestmark = pytest.mark.filterwarnings("error")

LONG = "article-distance=200-velocity=50-angle=50-legs=10-main_engine=0."
HOSTILE = ["default", LONG, "b" * 64, "$x_", "_hidden", "50%_{a}^$\\frac{1}{2}$"]
TERMS = ["distance", "velocity", "angle", "legs", "main_engine", "side_engine"]


def runs_of(
    arms: dict[str, tuple[float, float]], seeds: int = 5, last: int = 1_000_000, every: int = 50_000
) -> pl.DataFrame:
    """Return runs of arms, given their final return and the factor of their shaped return."""
    tables = []
    for seed, (arm, (final, factor)) in itertools.product(range(seeds), arms.items()):
        noise = np.random.default_rng(seed)
        steps = np.arange(every, last + 1, every)
        value = final + (-200 - final) * np.exp(-5 * steps / 1e6) + noise.normal(0, 20, len(steps))
        columns = {"timesteps": steps, "return": value, "shaped_return": factor * value}
        tables.append(pl.DataFrame({"arm": arm, "seed": seed, **columns}))
    return pl.concat(tables)


def center_of(runs: pl.DataFrame) -> pl.DataFrame:
    half = 2 * pl.std("return") / pl.len().sqrt()
    return runs.group_by("arm", "timesteps", maintain_order=True).agg(
        return_center=pl.mean("return"),
        return_low=pl.mean("return") - half,
        return_high=pl.mean("return") + half,
        runs=pl.len(),
    )


def curves(runs: pl.DataFrame, **options: object) -> Figure:
    keywords = {"title": "lunar-lander", "threshold": 200.0, **options}
    return plots.plot_learning_curves(runs, center_of(runs), **keywords)  # type: ignore[arg-type]


TWO = runs_of({"default": (240, 1), "article": (-300, 80)})


def outcome_table(arms: list[str]) -> pl.DataFrame:
    kinds: list[tuple[str, float, bool | None]]
    kinds = [("crashed", 0.25, False), ("landed", 0.7, True), ("timed out", 0.05, None)]
    rows = [(arm, *kind) for arm in arms for kind in kinds]
    return pl.DataFrame(rows, schema=["arm", "outcome", "share", "good"], orient="row")


def contribution_table(arms: list[str]) -> pl.DataFrame:
    values = [-14203.2, -3321.4, -402.9, 12.1, -0.31, -0.0]
    rows = [(arm, *pair) for arm in arms for pair in zip(TERMS, values, strict=True)]
    return pl.DataFrame(rows, schema=["arm", "term", "contribution"], orient="row")


RESPONSE = pl.DataFrame(
    {
        "value": [50.0, 0.0, 100.0],
        "return": [230.0, 120.0, -160.0],
        "return_low": [210.0, 80.0, None],
        "return_high": [250.0, 160.0, None],
        "success_rate": [0.995, 0.7, 0.0],
    }
)
GRID = pl.DataFrame(
    {
        "distance": [0, 0, 50],
        "legs": [0.0, 12.5, 0.0],
        "return": [-140.0, 60.0, 240.0],
        "success_rate": [0.0, 0.5, 1.0],
    }
)


def drawn_texts(figure: Figure) -> list[tuple[str, Bbox]]:
    """Draw the figure and return every visible text with its bounding box."""
    texts: list[Text] = []
    draw = Text.draw

    def record(self: Text, renderer: object) -> None:
        if self.get_visible() and self.get_text().strip():
            texts.append(self)
        draw(self, renderer)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Text, "draw", record)
        figure.draw_without_rendering()
    return [(text.get_text(), text.get_window_extent()) for text in texts]


def check_layout(figure: Figure) -> None:
    """Assert that all texts are within the figure and do not overlap."""
    texts = drawn_texts(figure)
    for text, box in texts:
        assert box.x0 > -1, text
        assert box.y0 > -1, text
        assert box.x1 < figure.bbox.width + 1, text
        assert box.y1 < figure.bbox.height + 1, text
    for (one, a), (other, b) in itertools.combinations(texts, 2):
        assert not a.padded(-1).overlaps(b.padded(-1)), (one, other)


def words(figure: Figure) -> str:
    """Return all texts of a figure, without line breaks."""
    return "|".join(text.replace("\n", "") for text, _ in drawn_texts(figure))


def lines(figure: Figure, panel: int, width: float, style: str = "-") -> list[Line2D]:
    artists = figure.get_axes()[panel].get_lines()
    return [x for x in artists if x.get_linewidth() == width and x.get_linestyle() == style]


def thin(figure: Figure, panel: int) -> list[list[list[float]]]:
    """Return the points of every thin line."""
    drawn = figure.get_axes()[panel].collections
    artists = [x for x in drawn if isinstance(x, LineCollection) and x.get_linewidth() == [0.7]]
    return [segment.tolist() for collection in artists for segment in collection.get_segments()]


def points(line: Line2D) -> tuple[list[float], list[float]]:
    return np.asarray(line.get_xdata()).tolist(), np.asarray(line.get_ydata()).tolist()


def eight() -> pl.DataFrame:
    names = [*"abcdef", "no-fuel-penalty", "default-but-with-a-longer-name"]
    return runs_of({name: (30.0 * index, 10.0**index) for index, name in enumerate(names)})


def half_finished() -> pl.DataFrame:
    return pl.concat(
        [
            TWO.filter((pl.col("seed") < 2) | (pl.col("timesteps") <= 400_000)),
            runs_of({"potential": (150, 2)}, seeds=1, last=100_000),
        ]
    )


def one_point() -> pl.DataFrame:
    return runs_of({"default": (240, 1)}, seeds=1, last=50_000)


def figures() -> Iterator[tuple[str, Figure]]:
    yield "two arms", curves(TWO)
    yield "one run, one point", curves(one_point())
    yield "five runs, one point", curves(runs_of({"default": (240, 1)}, last=50_000))
    yield "eight arms", curves(eight())
    yield "half finished", curves(half_finished(), arms=["default", "article", "potential", "e"])
    yield "hostile names", curves(runs_of(dict.fromkeys(HOSTILE, (100.0, 1.0)), 1), title=LONG * 3)
    yield "no runs", curves(TWO.clear())
    yield "outcomes", plots.plot_outcomes(outcome_table(HOSTILE), title="t")
    yield "no outcomes", plots.plot_outcomes(outcome_table([""]).clear(), title="t")
    yield "contributions", plots.plot_contributions(contribution_table(HOSTILE), title="t")
    ends = dict.fromkeys(HOSTILE, "its schedule ended at factors from 0 to 0.686, on average 0.171")
    noted = plots.plot_contributions(contribution_table(HOSTILE), title="t", notes=ends)
    yield "noted contributions", noted
    yield "response", response.plot_response_curve(RESPONSE, weight=LONG, title="t")
    yield "one response", response.plot_response_curve(RESPONSE[:1], weight="distance", title="t")
    yield (
        "no response",
        response.plot_response_curve(RESPONSE.clear(), weight="distance", title="t"),
    )
    yield "heatmap", response.plot_heatmap(GRID, x="distance", y="legs", title="t")
    yield "one cell", response.plot_heatmap(GRID[:1], x="distance", y="legs", title="t")
    yield "no cell", response.plot_heatmap(GRID.clear(), x="distance", y="legs", title="t")


def test_texts_do_not_overlap() -> None:
    for name, figure in figures():
        try:
            check_layout(figure)
        except AssertionError as error:
            raise AssertionError(name) from error


def test_runs_are_thin_lines_and_centers_thick_ones() -> None:
    figure = curves(TWO)
    assert len(thin(figure, 0)) == 10
    assert len(lines(figure, 0, 2)) == 2
    assert len(figure.get_axes()[0].findobj(FillBetweenPolyCollection)) == 2
    assert len(figure.get_axes()) == 3
    for panel in (1, 2):
        assert len(thin(figure, panel)) == 5
        assert len(lines(figure, panel, 2)) == 1


def test_curves_show_the_numbers_of_the_tables() -> None:
    figure = curves(TWO)
    one = TWO.filter(arm="default", seed=3).sort("timesteps")
    assert thin(figure, 0)[3] == [list(row) for row in one["timesteps", "return"].iter_rows()]
    center = center_of(TWO).filter(arm="default")
    steps, values = points(lines(figure, 0, 2)[0])
    assert steps == center["timesteps"].to_list()
    assert values == center["return_center"].to_list()
    shaped = TWO.filter(arm="article").group_by("timesteps").agg(pl.mean("shaped_return"))
    _, means = points(lines(figure, 2, 2)[0])
    assert means == pytest.approx(shaped.sort("timesteps")["shaped_return"].to_list())


def test_curves_are_labeled() -> None:
    written = words(curves(TWO))
    for text in (
        "environment steps",
        "environment return per episode",
        "default (5 runs)",
        "article (5 runs)",
        "solved(200)",
        "thick: mean over runs), not comparable between arms",
        "1M",
        "200k",
    ):
        assert text in written
    assert "not all runs" not in written
    assert "solved" not in words(curves(TWO, threshold=None))
    assert "default (1 run)" in words(curves(one_point()))


@pytest.mark.parametrize(("threshold", "place"), [(4800.0, "above"), (-900.0, "below")])
def test_a_far_threshold_does_not_flatten_the_curves(threshold: float, place: str) -> None:
    figure, plain = curves(TWO, threshold=threshold), curves(TWO, threshold=None)
    assert f"solved at {format_number(threshold)}, {place} the axis" in words(figure)
    assert figure.get_axes()[0].get_ylim() == plain.get_axes()[0].get_ylim()
    check_layout(figure)


def test_axis_fits_returns_of_any_size() -> None:
    tiny = TWO.with_columns(pl.col("return") * 1e-6)
    one = one_point().with_columns(pl.lit(0.000236).alias("return"))
    for runs in (tiny, one):
        low, high = curves(runs, threshold=None).get_axes()[0].get_ylim()
        assert high - low < 0.001


def test_curves_are_described_as_they_are() -> None:
    several = "thin: single runs; thick: interquartile mean over runs; bands: 95% intervals"
    assert several in words(curves(TWO)).replace("\n", "")
    assert plots.describe_curves(center_of(runs_of({"a": (1, 1)}, 2))).endswith(
        "bands: the range of the two runs"
    )
    assert plots.describe_curves(center_of(one_point())) == "lines: single runs"


def test_center_of_fewer_runs_is_dotted() -> None:
    figure = curves(half_finished(), arms=["default", "article", "potential", "later"])
    written = words(figure)
    assert "not all runs reached this step" in written
    assert "later (0 runs)" in written
    assert "no evaluations yet" in written
    steps, values = points(lines(figure, 0, 2)[0])
    assert max(np.array(steps)[np.isfinite(values)]) == 400_000
    assert max(points(lines(figure, 0, 2, ":")[0])[0]) == 1_000_000


def test_arm_has_the_same_color_in_all_figures() -> None:
    arms = ["default", "article"]
    palette = canvas.assign_colors(arms)
    assert [line.get_color() for line in lines(curves(TWO), 0, 2)] == list(palette.values())
    alone = curves(TWO.filter(arm="article"), arms=arms)
    assert lines(alone, 0, 2)[-1].get_color() == palette["article"]
    bars = plots.plot_contributions(
        contribution_table(["article"]), title="t", arms=arms
    ).get_axes()[1]
    assert to_hex(bars.patches[0].get_facecolor()).upper() == palette["article"]


def test_colors_of_many_arms_differ() -> None:
    arms = [str(number) for number in range(40)]
    assert len(set(canvas.assign_colors(arms).values())) == 40
    assert canvas.assign_colors(arms[:3]) == {
        arm: canvas.assign_colors(arms)[arm] for arm in arms[:3]
    }
    assert canvas.assign_colors(["a", "b", "a"]) == canvas.assign_colors(["a", "b"])


def test_names_are_shown_literally() -> None:
    written = words(curves(runs_of(dict.fromkeys(HOSTILE, (100.0, 1.0)), 1), title="$\\alpha$"))
    for arm in HOSTILE:
        assert f"{arm} (1 run)" in written
    assert "$\\alpha$" in written
    figure = plots.plot_outcomes(outcome_table(["$x_$"]), title="t")
    texts = [text for text in figure.findobj(Text) if "$" in text.get_text()]
    assert texts
    assert not any(text.get_parse_math() for text in texts)


def test_outcomes_are_stacked_from_success_to_failure() -> None:
    figure = plots.plot_outcomes(outcome_table(["default", "article"]), title="t")
    bars = figure.get_axes()[0].patches
    starts = [bar.get_path().get_extents(bar.get_patch_transform()).x0 for bar in bars]
    assert starts == pytest.approx([0, 0, 0.7, 0.7, 0.75, 0.75])
    written = words(figure)
    for text in ("landed 70%", "crashed 25%", "|5%|", "timed out", "share of all final episodes"):
        assert text in written


def test_outcomes_that_never_occurred_are_not_in_the_legend() -> None:
    table = outcome_table(["default"])
    never = table[:1].with_columns(outcome=pl.lit("sank"), share=pl.lit(0.0), good=pl.lit(False))
    assert "sank" not in words(plots.plot_outcomes(pl.concat([table, never]), title="t"))


@pytest.mark.parametrize(
    ("share", "text"),
    [(0, "0%"), (0.004, "<1%"), (0.01, "1%"), (0.994, "99%"), (0.999, ">99%"), (1, "100%")],
)
def test_percentages_are_not_rounded_to_none_or_all(share: float, text: str) -> None:
    assert canvas.format_percent(share) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (200, "200"), (1_500, "1.5k"), (50_000, "50k"), (1e6, "1M"), (-28_050, "−28.05k")],
)
def test_ticks_are_short(value: float, text: str) -> None:
    assert canvas.format_short(value) == text


def test_contributions_are_labeled() -> None:
    table = pl.concat(
        [
            contribution_table(["article"]),
            pl.DataFrame({"arm": "default", "term": "environment", "contribution": 241.3}),
        ]
    )
    figure = plots.plot_contributions(
        table, title="t", arms=["default", "article", "later"], notes={"article": "ended at 0"}
    )
    written = words(figure)
    for text in (
        "|ended at 0|",
        "|−14,203|",
        "|−403|",
        "|12.1|",
        "|−0.31|",
        "|0|",
        "|241|",
        *map(humanize, TERMS),
    ):
        assert text in written
    assert written.count("no weighted terms") == 1
    gray = figure.get_axes()[0].patches[0].get_facecolor()
    assert to_hex(gray).upper() == canvas.GRAY


def test_response_is_sorted_by_weight() -> None:
    upper, lower = response.plot_response_curve(RESPONSE, weight="distance", title="t").get_axes()
    assert points(upper.get_lines()[0]) == ([0, 50, 100], [120, 230, -160])
    assert points(lower.get_lines()[0]) == ([0, 50, 100], [0.7, 0.995, 0])
    assert lower.get_xlabel() == "weight of distance"


def test_heatmap_leaves_missing_pairs_empty() -> None:
    figure = response.plot_heatmap(GRID, x="distance", y="legs", title="t")
    for axes, cells in zip(figure.get_axes(), ([-140, 240, 60], [0, 1, 0.5]), strict=True):
        [mesh] = axes.findobj(QuadMesh)
        values = mesh.get_array()
        assert values is not None
        assert values[~np.ma.getmaskarray(values)].tolist() == cells
        assert axes.patch.get_hatch()
    written = words(figure)
    for text in ("weight of distance", "weight of legs", "|12.5|", "|−140|", "|50%|", "|100%|"):
        assert text in written


def test_large_heatmap_has_a_color_bar() -> None:
    pairs = [(x, y, float(x * y), x * y / 200) for x in range(12) for y in range(12)]
    table = pl.DataFrame(
        pairs, schema=["distance", "legs", "return", "success_rate"], orient="row"
    ).with_columns(pl.lit(None, pl.Float64).alias("success_rate"))
    figure = response.plot_heatmap(table, x="distance", y="legs", title="t")
    assert len(figure.get_axes()) == 4
    check_layout(figure)


def test_saving_is_deterministic(tmp_path: Path) -> None:
    figure = curves(TWO)
    first = canvas.save(figure, tmp_path / "curves-v1.5")
    again = canvas.save(figure, tmp_path / "again")
    copy = canvas.save(curves(TWO), tmp_path / "copy")
    assert [path.name for path in first] == ["curves-v1.5.png", "curves-v1.5.svg"]
    for one, two, three in zip(first, again, copy, strict=True):
        assert one.read_bytes() == two.read_bytes() == three.read_bytes()
        assert matplotlib.__version__.encode() not in one.read_bytes()


def test_svg_is_well_formed_with_hostile_names(tmp_path: Path) -> None:
    arms = ["a--b", "</g><script>alert(1)</script>", "-->&amp;\"'"]
    figure = plots.plot_outcomes(outcome_table(arms), title="-- <b>")
    tree = ElementTree.fromstring(canvas.save(figure, tmp_path / "outcomes")[1].read_bytes())  # noqa: S314
    assert not [element for element in tree.iter() if element.tag.endswith("script")]


def test_global_settings_are_unchanged() -> None:
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "red", "text.usetex": True}):
        before = dict(matplotlib.rcParams)
        figure = curves(one_point())
        assert dict(matplotlib.rcParams) == before
    assert to_hex(figure.get_axes()[0].get_facecolor()) == "#ffffff"
    check_layout(figure)
    code = "import sys, shaperun.report.plots.arms; sys.exit('matplotlib.pyplot' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
