"""What stands for a search before its weights are known: the ends of its ranges."""

from __future__ import annotations

from typing import Any

from shaperun.search.arms import corner_arms
from shaperun.study.models import Study, parse_study
from tests.conftest import SEARCHED


def study(**weights: Any) -> Study:
    sweep = SEARCHED["sweep"] | {"weights": weights, "method": "tpe"}  # type: ignore[operator]
    return parse_study(SEARCHED | {"sweep": sweep})


def test_all_corners_of_few_ranges() -> None:
    asked = study(upright={"low": 0, "high": 10}, centred={"low": 0.1, "high": 10, "log": True})
    found = corner_arms(asked)
    assert list(found) == [
        "upright=0_centred=0.1",
        "upright=0_centred=10",
        "upright=10_centred=0.1",
        "upright=10_centred=10",
    ]
    assert found["upright=10_centred=0.1"].weights == {"upright": 10.0, "centred": 0.1}
    assert found["upright=10_centred=0.1"].mode == "add"


def test_of_many_ranges_one_end_at_a_time() -> None:
    names = ("upright", "centred", "push_right", "fell")
    ranges: dict[str, Any] = {name: {"low": 1, "high": 3} for name in names}
    ranges["centred"] = {"low": 0.1, "high": 10, "log": True}
    found = [arm.weights for arm in corner_arms(study(**ranges)).values()]
    assert len(found) == 8
    assert found[0] == {"upright": 1.0, "centred": 1.0, "push_right": 2.0, "fell": 2.0}
    assert found[3] == {"upright": 2.0, "centred": 10.0, "push_right": 2.0, "fell": 2.0}


def test_ranges_without_length_and_huge_ones() -> None:
    assert list(corner_arms(study(upright={"low": 2, "high": 2}))) == ["upright=2"]
    ranges = {n: {"low": -1e308, "high": 1e308} for n in ("upright", "centred", "fell", "balanced")}
    assert {arm.weights["fell"] for arm in corner_arms(study(**ranges)).values()} == {
        -1e308,
        0.0,
        1e308,
    }


def test_what_is_known_has_no_corners() -> None:
    grid = {"method": "grid", "base": "guided", "weights": {"upright": [0, 1]}}
    assert corner_arms(parse_study(SEARCHED | {"sweep": grid})) == {}
    assert corner_arms(parse_study(SEARCHED | {"sweep": None})) == {}
