"""Arms of sweeps: every point once, repeatable, in range, with names that are valid folders."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shaperun.common.errors import UserError
from shaperun.search.arms import format_arm_name, make_corner_arms, make_sweep_arms
from shaperun.study.models import Arm, Study, parse_study
from tests.conftest import SEARCHED

Ranges = Mapping[str, Mapping[str, object]]

STATE_TERMS = ["distance", "velocity", "angle", "legs"]


def study(sweep: dict[str, Any] | None) -> Study:
    return parse_study(
        {
            "study": "swept",
            "environment": {"id": "LunarLander-v3"},
            "training": {"total_timesteps": 1000},
            "arms": {
                "default": {},
                "base": {"mode": "add", "weights": {"distance": 5, "legs": 1}, "scale": 0.5},
            },
            "sweep": sweep,
        }
    )


def grid(weights: dict[str, list[float]]) -> dict[str, Arm]:
    return make_sweep_arms(study({"method": "grid", "base": "base", "weights": weights}))


def draws(weights: Ranges, *, samples: int = 20, seed: int = 0) -> dict[str, Arm]:
    sweep = {"method": "random", "base": "base", "weights": weights, "samples": samples}
    return make_sweep_arms(study(sweep | {"seed": seed}))


def test_a_study_without_a_sweep_is_refused() -> None:
    with pytest.raises(UserError, match="the study swept has no sweep"):
        make_sweep_arms(study(None))


def test_a_grid_has_every_combination_in_order() -> None:
    arms = grid({"distance": [0, 50], "angle": [1.5, -1]})
    assert list(arms) == [
        "distance=0_angle=1.5",
        "distance=0_angle=-1",
        "distance=50_angle=1.5",
        "distance=50_angle=-1",
    ]
    assert arms["distance=50_angle=-1"] == Arm(
        mode="add", weights={"distance": 50.0, "legs": 1.0, "angle": -1.0}, scale=0.5
    )


def test_the_base_is_unchanged() -> None:
    swept = study({"method": "grid", "base": "base", "weights": {"distance": [1]}})
    make_sweep_arms(swept)
    assert swept.arms["base"].weights == {"distance": 5.0, "legs": 1.0}


def test_draws_are_determined_by_the_seed() -> None:
    weights: Ranges = {
        "distance": {"low": 0, "high": 100},
        "angle": {"low": 0.1, "high": 10, "log": True},
    }
    arms = draws(weights)
    assert len(arms) == 20
    assert list(draws(weights).items()) == list(arms.items())
    assert not draws(weights, seed=1).keys() & arms.keys()
    more = list(draws(weights, samples=30).items())
    assert more[:20] == list(arms.items())  # more samples keep the first ones


def test_draws_fill_their_ranges() -> None:
    weights: Ranges = {
        "distance": {"low": -2, "high": 8},
        "angle": {"low": 1e-3, "high": 1e3, "log": True},
    }
    arms = draws(weights, samples=300).values()
    linear = [arm.weights["distance"] for arm in arms]
    logarithmic = [arm.weights["angle"] for arm in arms]
    assert -2 <= min(linear) < -1.5 < 7.5 < max(linear) <= 8
    assert 1e-3 <= min(logarithmic) < 2e-3 < 5e2 < max(logarithmic) <= 1e3
    assert sum(linear) / 300 == pytest.approx(3, abs=0.6)
    assert sum(map(math.log10, logarithmic)) / 300 == pytest.approx(0, abs=0.4)
    assert {arm.weights["legs"] for arm in arms} == {1.0}


@settings(deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(STATE_TERMS),
        st.lists(st.floats(-1e12, 1e12), min_size=1, max_size=3),
        min_size=1,
    )
)
def test_points_of_a_grid_have_distinct_names(weights: dict[str, list[float]]) -> None:
    arms = grid(weights)
    points = math.prod(len({value + 0.0 for value in values}) for values in weights.values())
    assert len(arms) == points
    assert len(set(map(str.lower, arms))) == points  # some file systems ignore case
    for name, arm in arms.items():
        assert_safe(name)
        assert {term: arm.weights[term] for term in weights} == parse_name(name)


@settings(deadline=None)
@given(
    st.lists(st.floats(1e-300, 1e12), min_size=2, max_size=2).map(sorted),
    st.booleans(),
    st.integers(0, 2**32 - 1),
)
def test_draws_are_in_range_and_match_their_names(ends: list[float], log: bool, seed: int) -> None:
    low, high = ends
    weights = {"distance": {"low": low, "high": high, "log": log}}
    for name, arm in draws(weights, samples=3, seed=seed).items():
        assert_safe(name)
        assert low <= arm.weights["distance"] <= high
        assert parse_name(name) == {"distance": arm.weights["distance"]}


def assert_safe(name: str) -> None:
    """Check a name for folders, command lines and comma-separated lists."""
    assert re.fullmatch(r"[a-z][a-z0-9_=.+-]{0,250}", name)


def parse_name(name: str) -> dict[str, float]:
    return {term: float(value) for term, value in re.findall(r"([a-z]+)=([^_]+)", name)}


def test_names_list_the_weights() -> None:
    weights = {"distance": 50.0, "legs": 1e-7, "angle": -0.25, "velocity": 1e6}
    assert format_arm_name(weights) == "distance=50_legs=1e-07_angle=-0.25_velocity=1e+06"


def search(**weights: Any) -> Study:
    sweep = SEARCHED["sweep"] | {"weights": weights, "method": "tpe"}  # type: ignore[operator]
    return parse_study(SEARCHED | {"sweep": sweep})


def test_few_ranges_have_all_corners() -> None:
    config = search(upright={"low": 0, "high": 10}, centred={"low": 0.1, "high": 10, "log": True})
    arms = make_corner_arms(config)
    assert list(arms) == [
        "upright=0_centred=0.1",
        "upright=0_centred=10",
        "upright=10_centred=0.1",
        "upright=10_centred=10",
    ]
    assert arms["upright=10_centred=0.1"].weights == {"upright": 10.0, "centred": 0.1}
    assert arms["upright=10_centred=0.1"].mode == "add"


def test_many_ranges_have_one_end_at_a_time() -> None:
    names = ("upright", "centred", "push_right", "fell")
    ranges: dict[str, Any] = {name: {"low": 1, "high": 3} for name in names}
    ranges["centred"] = {"low": 0.1, "high": 10, "log": True}
    weights = [arm.weights for arm in make_corner_arms(search(**ranges)).values()]
    assert len(weights) == 8
    assert weights[0] == {"upright": 1.0, "centred": 1.0, "push_right": 2.0, "fell": 2.0}
    assert weights[3] == {"upright": 2.0, "centred": 10.0, "push_right": 2.0, "fell": 2.0}


def test_corners_of_empty_and_huge_ranges() -> None:
    assert list(make_corner_arms(search(upright={"low": 2, "high": 2}))) == ["upright=2"]
    ranges = {n: {"low": -1e12, "high": 1e12} for n in ("upright", "centred", "fell", "balanced")}
    assert {arm.weights["fell"] for arm in make_corner_arms(search(**ranges)).values()} == {
        -1e12,
        0.0,
        1e12,
    }


def test_other_sweeps_have_no_corners() -> None:
    grid = {"method": "grid", "base": "guided", "weights": {"upright": [0, 1]}}
    assert make_corner_arms(parse_study(SEARCHED | {"sweep": grid})) == {}
    assert make_corner_arms(parse_study(SEARCHED | {"sweep": None})) == {}
