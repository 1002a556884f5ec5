"""Measures of learning curves with known area and first crossing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shaperun.analysis import results
from shaperun.analysis.learning_speed import AUC, SOLVED, STEPS_TO_SOLVED, learning_speed
from shaperun.runs.open_study import open_study
from shaperun.runs.plan import plan_runs

Points = Sequence[tuple[int, float]]


def curve(points: Points, arm: str = "a", seed: int = 0) -> pl.DataFrame:
    rows = [(arm, seed, steps, float(value)) for steps, value in points]
    names = {"arm": pl.String, "seed": pl.Int64, "timesteps": pl.Int64, "return": pl.Float64}
    return pl.DataFrame(rows, names, orient="row")


def area(points: Points) -> float:
    value: float = learning_speed(curve(points), None)[AUC].item()
    return value


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        ([(0, 0), (100, 100)], 50),
        ([(0, 7), (10, 7), (50, 7)], 7),
        # Ten steps at 50 on average, then ninety at 100: steps count, not evaluations.
        ([(0, 0), (10, 100), (100, 100)], 95),
        # The curve need not begin at step 0.
        ([(1000, 0), (1010, 100), (1100, 100)], 95),
        ([(0, -10), (4, 30), (8, -10)], 10),
        ([(500, 42)], 42),
    ],
)
def test_the_area_under_a_curve(points: Points, expected: float) -> None:
    assert area(points) == pytest.approx(expected, rel=1e-12)


def test_one_row_per_run_in_their_order() -> None:
    tables = [
        curve([(0, 0), (10, 4)], "b", 1),
        curve([(0, 0), (10, 8)], "a", 1),
        curve([(0, 0), (10, 2)], "b", 0),
    ]
    for solved in (None, 3.0):
        speed = learning_speed(pl.concat(tables), solved)
        rows = speed.select("arm", "seed", AUC).rows()
        assert rows == [("b", 1, 2.0), ("a", 1, 4.0), ("b", 0, 1.0)]


def test_steps_until_solved() -> None:
    tables = [
        curve([(0, 0), (10, 99), (20, 100), (30, 5), (40, 200)], seed=0),  # exactly is enough
        curve([(0, 0), (10, 99), (20, 99.9), (35, 0)], seed=1),  # never
        curve([(0, 100), (30, 0)], seed=2),  # from the start
        curve([(0, 0), (35, 100)], seed=3),  # after the end of the shortest run
    ]
    speed = learning_speed(pl.concat(tables), 100.0)
    assert speed.columns == ["arm", "seed", AUC, STEPS_TO_SOLVED, SOLVED]
    assert speed.select(STEPS_TO_SOLVED, SOLVED).rows() == [
        (20.0, True),
        (30.0, False),  # censored where the shortest run ends
        (0.0, True),
        (30.0, True),
    ]
    assert speed.schema[STEPS_TO_SOLVED] == pl.Float64


def test_runs_of_equal_seeds_are_separate() -> None:
    both = pl.concat([curve([(0, 0), (10, 9)], "a"), curve([(0, 0), (10, 1)], "b")])
    speed = learning_speed(both, 5.0)
    assert speed.filter(arm="a")[SOLVED].item()
    assert not speed.filter(arm="b")[SOLVED].item()


def test_without_threshold_only_the_area_is_measured() -> None:
    assert learning_speed(curve([(0, 1), (5, 2)]), None).columns == ["arm", "seed", AUC]


@pytest.mark.parametrize("solved", [None, 5.0])
def test_no_runs_give_an_empty_table(solved: float | None) -> None:
    assert len(learning_speed(curve([]), solved)) == 0


def test_trained_runs_have_learning_speeds(trained: Path) -> None:
    study, folder = open_study("tiny", trained / "results")
    episodes = results.LoadedRuns(folder).episodes(plan_runs(study, study.arms))
    curves = results.learning_curves(episodes, study.evaluation.episodes)
    speed = learning_speed(curves, study.environment.describe().solved)
    assert len(speed) == 4
    for row in speed.iter_rows(named=True):
        # Evaluations are equally spaced: the ends count half.
        values = curves.filter(arm=row["arm"], seed=row["seed"])["return"].to_list()
        assert row[AUC] == pytest.approx((values[0] / 2 + sum(values[1:4]) + values[4] / 2) / 4)
    assert not speed[SOLVED].any()
    assert set(speed[STEPS_TO_SOLVED]) == {2000.0}


steps = st.lists(st.integers(0, 10**7), min_size=1, max_size=8, unique=True).map(sorted)
returns = st.floats(-1e6, 1e6)


@st.composite
def curves_of(draw: st.DrawFn) -> list[tuple[int, float]]:
    return [(step, draw(returns)) for step in draw(steps)]


few = settings(max_examples=40, deadline=None)


@few
@given(curves_of())
def test_area_lies_between_lowest_and_highest_return(points: list[tuple[int, float]]) -> None:
    values = [value for _, value in points]
    assert min(values) - 1e-6 <= area(points) <= max(values) + 1e-6


@few
@given(curves_of(), st.floats(-1e6, 1e6), st.integers(0, 10**6), st.integers(1, 9))
def test_area_shifts_with_returns_but_not_with_steps(
    points: list[tuple[int, float]], shift: float, later: int, slower: int
) -> None:
    moved = [(later + slower * step, value + shift) for step, value in points]
    assert area(moved) == pytest.approx(area(points) + shift, rel=1e-9, abs=1e-5)


@few
@given(curves_of(), returns)
def test_higher_threshold_is_never_reached_sooner(
    points: list[tuple[int, float]], threshold: float
) -> None:
    low, high = (
        learning_speed(curve(points), value).row(0, named=True)
        for value in (threshold, threshold + 10)
    )
    assert low[STEPS_TO_SOLVED] <= high[STEPS_TO_SOLVED] <= points[-1][0]
    assert low[SOLVED] >= high[SOLVED]
