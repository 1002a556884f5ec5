"""Figures of sweeps show the values of the trials, with pruned ones marked."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import polars as pl
import pytest
import yaml
from matplotlib import pyplot
from matplotlib.collections import LineCollection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from shaperun.analysis.results import LoadedRuns
from shaperun.report.plots import parallel as parallel_plots
from shaperun.report.plots import pareto, style
from shaperun.report.plots import response as sweep_plots
from shaperun.report.plots import sweep as sweep_figures
from shaperun.report.plots import trials as search_plots
from shaperun.report.plots.trials import SweptWeight
from shaperun.runs.open_study import open_study
from shaperun.search import trial_results
from shaperun.search.driver import confirmation_seeds
from shaperun.search.ranking import rank_trials
from shaperun.search.trial_results import make_trial_table
from shaperun.search.trials import load_trials
from shaperun.study.models import Study
from tests.conftest import SEARCHED, Shaperun
from tests.report.plots.test_arms import GRID, RESPONSE, check_layout, points, words

pytestmark = pytest.mark.filterwarnings("error")

WEIGHTS = [
    SweptWeight("distance", 0, 100),
    SweptWeight("main_engine", 0.01, 10, log=True),
    SweptWeight("legs", 0, 20, levels=(0, 1, 5, 20)),
    SweptWeight("a_term_with_quite_a_long_name_for_an_axis", -3, 3),
]


def trials_of(
    weights: int,
    done: int = 9,
    pruned: int = 0,
    seeds: int = 2,
    objectives: tuple[str, ...] = ("return",),
    fresh: int = 3,
) -> pl.DataFrame:
    """Return a table of trials, finished ones first."""
    rng = np.random.default_rng(0)
    rows = []
    for n in range(done + pruned):
        values = {
            w.column: float(w.low + (w.high - w.low) * rng.uniform()) for w in WEIGHTS[:weights]
        }
        if weights > 2:
            values["weight_legs"] = float(rng.choice(WEIGHTS[2].levels))
        arm = "_".join(f"{k.removeprefix('weight_')}={v:g}" for k, v in values.items())
        state = "done" if n < done else "pruned"
        row: dict[str, Any] = {"trial": n, "arm": arm, "state": state, "runs": seeds, **values}
        row["stopped_at"] = None if n < done else 500 * (1 + n % 2)
        for name in (objective.removeprefix("-") for objective in objectives):
            row[name] = float(rng.uniform()) * (1 if name.endswith("_rate") else 300) - 100 * (
                name == "return"
            )
            spread = 20 * float(rng.uniform()) if seeds > 1 and state == "done" else None
            row[f"{name}_low"] = None if spread is None else row[name] - spread
            row[f"{name}_high"] = None if spread is None else row[name] + spread
        rows.append(row)
    table = pl.DataFrame(rows, infer_schema_length=None, schema_overrides={"stopped_at": pl.Int64})
    table = table.with_columns(
        _best(table.filter(state="done"), objectives), seeds=pl.lit("search")
    )
    again = table.filter("best").with_columns(
        pl.col(objectives[0].removeprefix("-")) - 50,
        runs=pl.lit(fresh, pl.Int64),
        seeds=pl.lit("fresh"),
    )
    return pl.concat([table, again]) if fresh else table


def _best(done: pl.DataFrame, objectives: tuple[str, ...]) -> pl.Expr:
    signed = [(-1 if o[0] == "-" else 1) * done[o.removeprefix("-")].to_numpy() for o in objectives]
    worth = np.stack(signed, axis=1)
    front = [not any((w >= own).all() and (w > own).any() for w in worth) for own in worth]
    return pl.col("trial").is_in(done["trial"].filter(pl.Series(front)).implode()).alias("best")


TWO = ("return", "-crashed_rate")


def scatter(trials: pl.DataFrame, index: int = 0, **options: Any) -> Figure:
    keywords = {"objectives": ("return",), "title": "t", "note": "n", **options}
    return search_plots.plot_response_scatter(trials, weight=WEIGHTS[index], **keywords)


def parallel(trials: pl.DataFrame, weights: int, **options: Any) -> Figure:
    keywords = {"objectives": ("return",), "title": "t", "note": "n " * 60, **options}
    return parallel_plots.plot_parallel_coordinates(trials, weights=WEIGHTS[:weights], **keywords)


def front(trials: pl.DataFrame, objectives: tuple[str, ...] = TWO) -> Figure:
    return pareto.plot_pareto_front(trials, objectives=objectives, title="t", note="n")


SHARES = pl.DataFrame(
    [("return", "distance", 0.4, 0.2), ("return", "legs", 0.1, 0.2)],
    schema=["objective", "weight", "share", "chance"],
    orient="row",
)


def figures() -> Iterator[tuple[str, Figure]]:
    for weights in (1, 2, 3, 4):
        trials = trials_of(weights, pruned=5)
        for index in range(weights):
            yield f"scatter {weights} {index}", scatter(trials, index)
        yield f"parallel {weights}", parallel(trials, weights)
        two = trials_of(weights, objectives=TWO)
        yield f"two scatter {weights}", scatter(two, weights - 1, objectives=TWO)
        yield f"two parallel {weights}", parallel(two, weights, objectives=TWO)
        yield f"front {weights}", front(two)
    yield "one trial", scatter(trials_of(1, done=1, seeds=1, fresh=0))
    yield "one trial, parallel", parallel(trials_of(2, done=1, seeds=1, fresh=0), 2)
    yield "one trial, front", front(trials_of(2, done=1, seeds=1, objectives=TWO, fresh=0))
    yield "shares", search_plots.plot_importance(SHARES, title="t", note="n " * 60)
    both = pl.concat([SHARES, SHARES.with_columns(objective=pl.lit("-crashed_rate"))])
    yield "shares of two", search_plots.plot_importance(both, title="t", note="n")
    for count in (12, 60):
        yield f"front of {count}", front(long_front(count))


def long_front(count: int) -> pl.DataFrame:
    """Return a front of many trials, most of them close together."""
    x = np.linspace(0, 1, count) ** 4
    names = [f"distance={n}.12345_main_engine=0.0123{n}_legs=20" for n in range(count)]
    columns = {"return": 100 * x, "crashed_rate": x}
    ends = {f"{name}_{end}": values for name, values in columns.items() for end in ("low", "high")}
    frame = {"trial": range(count), "arm": names, **columns, **ends}
    return pl.DataFrame(frame).with_columns(
        state=pl.lit("done"), seeds=pl.lit("search"), best=pl.lit(value=True), runs=2
    )


def test_texts_do_not_overlap() -> None:
    for name, figure in figures():
        try:
            check_layout(figure)
        except AssertionError as error:
            raise AssertionError(name) from error


def marks(figure: Figure, marker: str, panel: int = 0) -> list[tuple[float, float]]:
    """Return the positions of the markers of a kind."""
    artists = [x for x in figure.get_axes()[panel].get_lines() if x.get_marker() == marker]
    return [pair for line in artists for pair in zip(*points(line), strict=True)]


def test_scatter_distinguishes_pruned_from_finished_trials() -> None:
    trials = trials_of(2, pruned=4)
    figure = scatter(trials, 1)
    column = "weight_main_engine"
    rows = trials.filter(seeds="search")
    done, stopped = rows.filter(state="done"), rows.filter(state="pruned")
    filled = [x for x in figure.get_axes()[0].get_lines() if x.get_markerfacecolor() != "none"]
    filled = [x for x in filled if x.get_marker() in ("o", "*")]
    assert sum(len(points(x)[0]) for x in filled) == len(done)
    assert marks(figure, "*") == done.filter("best").select(column, "return").rows()
    assert marks(figure, "D") == trials.filter(seeds="fresh").select(column, "return").rows()
    for marker, steps in (("o", 500), ("s", 1000)):
        hollow = stopped.filter(stopped_at=steps).sort("trial")
        artists = [x for x in figure.get_axes()[0].get_lines() if x.get_markerfacecolor() == "none"]
        (line,) = (x for x in artists if x.get_marker() == marker)
        assert list(zip(*points(line), strict=True)) == hollow.select(column, "return").rows()
    written = words(figure)
    assert "pruned after 500 steps, not ranked (2)" in written
    assert "pruned after 1,000 steps, not ranked (2)" in written
    assert f"other finished trials ({len(done) - 1})" in written
    assert "best: distance=" in written
    assert "the same with 3 fresh seeds" in written


def test_fresh_seeds_are_at_the_weight_of_their_trial() -> None:
    axes = scatter(trials_of(1)).get_axes()[0]
    at = {x.get_marker(): x for x in axes.get_lines() if x.get_marker() in ("*", "D", "_")}
    assert at.keys() == {"*", "D", "_"}
    corners = [np.asarray(x.get_transform().transform(x.get_xydata())) for x in at.values()]
    places = {float(corner[0, 0]) for corner in corners}
    assert len(places) == 1  # in pixels


def test_scatter_limits_include_fresh_seeds() -> None:
    trials = trials_of(1, pruned=3)
    lowest = trials.select("return", "return_low", "return_high").min().min_horizontal()[0]
    assert lowest == trials.filter(seeds="search")["return_low"].min()
    far = trials.with_columns(
        pl.when(seeds="fresh").then(-900.0).otherwise("return_low").alias("return_low")
    )
    axes = scatter(far).get_axes()[0]
    assert axes.get_ylim()[0] < -900


def test_logarithmic_weight_has_a_logarithmic_axis() -> None:
    trials = trials_of(2)
    axes = [scatter(trials, index).get_axes()[0] for index in (0, 1)]
    assert [one.get_xscale() for one in axes] == ["linear", "log"]
    low, high = axes[1].get_xlim()
    assert 0.005 < low < 0.01 < 10 < high < 20  # the range, not the drawn values
    assert "mathdefault" not in words(scatter(trials, 1))
    assert WEIGHTS[1].normalize(np.array([0.01, 0.1, 10])) == pytest.approx([0, 1 / 3, 1])
    assert WEIGHTS[2].normalize(np.array([0.0, 1.0, 5.0, 20.0])) == pytest.approx(
        [0, 1 / 3, 2 / 3, 1]
    )
    assert SweptWeight("x", 2, 2).normalize(np.array([2.0, 2.0])).tolist() == [0.5, 0.5]


def drawn(figure: Figure) -> list[Line2D]:
    """Return the lines of the first panel, without legends."""
    return [x for x in figure.get_axes()[0].get_lines() if points(x)[0]]


def segments(figure: Figure) -> list[np.ndarray]:
    artists = figure.get_axes()[0].findobj(LineCollection)
    return [s for x in artists for s in x.get_segments() if len(s) > 2]


def test_line_connects_weights_and_objective() -> None:
    trials = trials_of(3, pruned=4)
    figure = parallel(trials, 3)
    done = trials.filter(seeds="search", state="done")
    assert len(segments(figure)) == len(done) - 1
    best = done.filter("best").row(0, named=True)
    lines = drawn(figure)
    (thick,) = (x for x in lines if x.get_linewidth() == 3)
    places = [WEIGHTS[n].normalize(np.array([best[WEIGHTS[n].column]]))[0] for n in range(3)]
    assert points(thick)[1] == pytest.approx([*places, 1.0])
    stopped = [x for x in lines if x.get_linestyle() == "--"]
    assert [len(points(x)[1]) for x in stopped] == [3] * 4
    assert "best: distance=" in words(figure)


def test_up_is_better_for_minimized_objectives() -> None:
    trials = trials_of(1, objectives=("-crashed_rate",))
    figure = parallel(trials, 1, objectives=("-crashed_rate",))
    (thick,) = (x for x in drawn(figure) if x.get_linewidth() == 3)
    done = trials.filter(seeds="search", state="done")
    assert done.filter("best")["crashed_rate"][0] == done["crashed_rate"].min()
    assert points(thick)[1][-1] == 1


@pytest.mark.parametrize(
    ("objectives", "corner", "steps"),
    [
        (("return", "success_rate"), "upper right", "steps-pre"),
        (("return", "-length"), "lower right", "steps-pre"),
        (("-length", "return"), "upper left", "steps-post"),
        (("-length", "-crashed_rate"), "lower left", "steps-post"),
    ],
)
def test_front_is_a_step_line_that_dominates_all_trials(
    objectives: tuple[str, ...], corner: str, steps: str
) -> None:
    trials = trials_of(1, done=30, objectives=objectives)
    figure = front(trials, objectives)
    axes = figure.get_axes()[0]
    assert f"Better is towards the {corner}." in words(figure)
    (line,) = (x for x in axes.get_lines() if x.get_drawstyle() == steps)
    done = trials.filter(seeds="search", state="done")
    x, y = (objective.removeprefix("-") for objective in objectives)
    assert points(line)[0] == sorted(done.filter("best")[x])
    across, up = (-1 if objective[0] == "-" else 1 for objective in objectives)
    corners = drawn_corners(line)
    for a, b in done.select(x, y).rows():
        assert not any(across * (a - c) > 0 and up * (b - d) > 0 for c, d in corners)
    for arm in done.filter("best")["arm"]:
        assert arm in words(figure)


def drawn_corners(line: Line2D) -> list[tuple[float, float]]:
    """Return the corners of a step line as matplotlib draws them."""
    xs, ys = points(line)
    turns = []
    for (a, b), (c, d) in itertools.pairwise(zip(xs, ys, strict=True)):
        turns += [(a, b), (a, d) if line.get_drawstyle() == "steps-pre" else (c, b)]
    return [*turns, (xs[-1], ys[-1])]


def test_names_beyond_the_maximum_are_counted() -> None:
    written = words(front(long_front(60)))
    assert "on the front (60); 30 more in trials.csv" in written


def test_trials_drawn_twice_are_shown_once() -> None:
    trials = trials_of(2, objectives=TWO)
    twice = pl.concat([trials, trials.with_columns(pl.col("trial") + 100)])
    assert words(front(twice)) == words(front(trials))
    assert words(scatter(twice)) == words(scatter(trials))


def test_shares_within_chance_are_gray() -> None:
    figure = search_plots.plot_importance(SHARES, title="t", note="n")
    bars = figure.get_axes()[0].findobj(Rectangle)[:2]
    assert [bar.get_width() for bar in bars] == [0.4, 0.1]
    assert [to_hex(bar.get_facecolor()).upper() for bar in bars] == [
        search_plots.TRIAL,
        style.GRAY,
    ]
    ticks = [x.get_segments()[0][0][0] for x in figure.get_axes()[0].findobj(LineCollection)]
    assert ticks == [0.2, 0.2]


def test_success_rate_is_optional() -> None:
    response = sweep_plots.plot_response_curve(RESPONSE.drop("success_rate"), weight="w", title="t")
    pairs = sweep_plots.plot_heatmap(GRID.drop("success_rate"), x="distance", y="legs", title="t")
    for figure in (response, pairs):
        check_layout(figure)
        assert "success rate" not in words(figure)
        assert "weight of" in words(figure)


def test_objectives_are_drawn() -> None:
    table = RESPONSE.rename({"return": "profit", "return_low": "profit_low"}).with_columns(
        profit_high=pl.col("return_high"), length=pl.lit(3.0)
    )
    names = ["profit", "-length"]
    curve = sweep_plots.plot_response_curve(table, weight="w", title="t", objectives=names)
    assert [points(axes.get_lines()[0])[1] for axes in curve.get_axes()] == [
        [120, 230, -160],
        [3, 3, 3],
    ]
    pairs = table.rename({"value": "x"}).with_columns(y=pl.lit(1.0))
    grid = sweep_plots.plot_heatmap(
        pairs, x="x", y="y", title="t", objectives=names, statistic="one seed"
    )
    for figure in (curve, grid):
        written = words(figure)
        assert "profit" in written
        assert "length (less is better)" in written
        assert "return" not in written
        assert "success" not in written
    assert "profit, one seed" in words(grid)


@pytest.mark.parametrize(("count", "line"), [(1, "None"), (2, "None"), (3, "-")])
def test_no_line_suggests_a_trend_between_two_points(count: int, line: str) -> None:
    figure = sweep_plots.plot_response_curve(RESPONSE[:count], weight="w", title="t")
    assert {axes.get_lines()[0].get_linestyle() for axes in figure.get_axes()} == {line}


def test_heatmap_of_drawn_pairs_may_be_logarithmic() -> None:
    table = pl.DataFrame({"x": [0.01, 0.3, 8.0], "y": [1.0, 2.0, 3.0], "return": [1.0, 2.0, 3.0]})
    figure = sweep_plots.plot_heatmap(table, x="x", y="y", title="t", log=["x"])
    assert figure.get_axes()[0].get_xscale() == "log"
    assert figure.get_axes()[0].get_yscale() == "linear"
    check_layout(figure)
    assert "mathdefault" not in words(figure)


Search = tuple[Study, pl.DataFrame, pl.DataFrame]


@pytest.fixture(scope="module")
def search(searched: Path) -> Search:
    """A study, its ranking and its table of trials."""
    study, folder = open_study("searched", searched / "results")
    ranked = rank_trials(study, LoadedRuns(folder))
    return study, ranked.ranking, ranked.table


def test_figures_are_deterministic_and_closed(
    searched: Path, search: Search, tmp_path: Path, shaperun: Shaperun
) -> None:
    shutil.copytree(searched / "results", tmp_path / "results")
    (tmp_path / "searched.yaml").write_text(yaml.safe_dump(SEARCHED, sort_keys=False))
    done = shaperun("sweep", "searched.yaml")  # all of it is trained
    assert done.returncode == 0, done.stderr
    there = tmp_path / "results" / "searched" / "sweep"
    with matplotlib.rc_context({"axes.grid": True, "font.size": 20}):
        drawn = list(sweep_figures.draw_figures(*search))
        paths = [path for name, one in drawn for path in style.save(one, tmp_path / name)]
    assert {path.stem for path in paths} == {
        *("response-upright", "response-centred", "heatmap-upright-centred"),
        "parallel-coordinates",  # too few trials for importance, one objective has no front
    }
    for path in paths:
        assert path.read_bytes() == (there / path.name).read_bytes()
    assert pl.read_csv(there / "trials.csv").rows() == search[2].rows()
    assert not pyplot.get_fignums()


def test_trial_table_matches_the_runs(searched: Path, search: Search) -> None:
    study, ranking, trials = search
    assert trials.filter(seeds="search")["trial"].to_list() == list(range(6))
    done = trials.filter(seeds="search", state="done")
    assert set(done["arm"]) == set(ranking["arm"])
    runs = pl.DataFrame(
        {"arm": arm, "seed": seed, "return": final_return(searched, arm, seed)}
        for arm in done["arm"]
        for seed in [*study.seeds]
    )
    for row in done.iter_rows(named=True):
        own = runs.filter(arm=row["arm"])["return"]
        assert (row["return_low"], row["return_high"]) == (own.min(), own.max())
        assert row["return"] == pytest.approx(own.mean())  # of two
    pruned = trials.filter(seeds="search", state="pruned")
    assert pruned["return_low"].null_count() == len(pruned) == 4
    assert pruned["stopped_at"].null_count() == 0
    (best,) = trials.filter(pl.col("best"), seeds="search").to_dicts()
    assert best["return"] == done["return"].max()
    (again,) = trials.filter(seeds="fresh").to_dicts()
    assert (again["arm"], again["runs"]) == (best["arm"], 2)
    fresh = [final_return(searched, best["arm"], seed) for seed in confirmation_seeds(study)]
    assert (again["return_low"], again["return_high"]) == (min(fresh), max(fresh))


def test_pruned_trial_has_no_final_seeds_despite_a_finished_twin(
    searched: Path,
) -> None:
    study, folder = open_study("searched", searched / "results")
    results = trial_results.evaluate_trials(study, LoadedRuns(folder), load_trials(study, folder))
    done = next(one for one in results if one.state == "done")
    twice = [done, replace(done, state="pruned", stopped_at=100)]
    table = make_trial_table(study, LoadedRuns(folder), twice, study.seeds)
    assert table["return_low"].is_null().to_list() == [False, True]


def test_empty_trial_table_has_all_columns(searched: Path) -> None:
    study, folder = open_study("searched", searched / "results")
    loaded = LoadedRuns(folder)
    assert study.sweep
    results = trial_results.evaluate_trials(study, loaded, load_trials(study, folder))
    done = next(one for one in results if one.state == "done")
    sweep = study.sweep.model_copy(update={"objective": ["return", "-length"]})
    two = study.model_copy(update={"sweep": sweep})
    some = make_trial_table(two, loaded, [replace(done, values=(1.0, 2.0))], study.seeds)
    assert some.columns == make_trial_table(two, loaded, [], study.seeds).columns
    assert some["length_low"].null_count() == 0


def final_return(searched: Path, arm: str, seed: int) -> float:
    _, folder = open_study("searched", searched / "results")
    episodes = pl.read_csv(folder.run(arm, seed).evaluations)
    mean = episodes.filter(pl.col("timesteps") == pl.col("timesteps").max())["return"].mean()
    assert isinstance(mean, float)
    return mean


def test_importance_needs_enough_trials() -> None:
    few, enough = trials_of(2, done=15), trials_of(2, done=16, pruned=9)
    assert sweep_figures.share_table(few, WEIGHTS[:2], ["return"]).is_empty()
    table = sweep_figures.share_table(enough, WEIGHTS[:2], ["return"])
    assert table["weight"].to_list() == ["distance", "main_engine"]
    assert table["trials"].to_list() == [16, 16]  # without pruned trials
