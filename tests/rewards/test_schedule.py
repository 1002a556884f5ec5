"""Schedules: values, continuity, serialization and refused data."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from shaperun.rewards.config import (
    RewardConfig,
    shaping_factor,
)
from shaperun.rewards.schedule import LinearSchedule, PiecewiseSchedule, Schedule


def schedule(**data: Any) -> Any:
    return TypeAdapter(Schedule).validate_python(data)


def linear(start: float, to: float, until: float) -> Any:
    return schedule(kind="linear", **{"from": start}, to=to, until=until)


@pytest.mark.parametrize(
    ("data", "values"),
    [
        ({"kind": "linear"}, {0: 1, 0.25: 0.75, 0.5: 0.5, 1: 0}),
        ({"kind": "linear", "until": 0.5}, {0: 1, 0.25: 0.5, 0.5: 0, 0.75: 0, 1: 0}),
        ({"kind": "linear", "from": 2, "to": 4}, {0: 2, 0.5: 3, 1: 4}),
        ({"kind": "linear", "from": 0, "to": 1, "until": 0.25}, {0: 0, 0.125: 0.5, 0.25: 1, 1: 1}),
        ({"kind": "linear", "from": -1, "to": -1}, {0: -1, 0.3: -1, 1: -1}),
        ({"kind": "piecewise", "points": [[0.5, 3]]}, {0: 3, 0.5: 3, 1: 3}),
        (
            {"kind": "piecewise", "points": [[0.25, 1], [0.5, 0], [1, 2]]},
            {0: 1, 0.25: 1, 0.375: 0.5, 0.5: 0, 0.625: 0.5, 0.75: 1, 1: 2},
        ),
        (
            {"kind": "piecewise", "points": [[0, 0], [0.5, -1], [0.75, -1]]},
            {0: 0, 0.25: -0.5, 0.5: -1, 0.6: -1, 0.75: -1, 1: -1},
        ),
    ],
)
def test_schedule_values_by_hand(data: dict[str, Any], values: dict[float, float]) -> None:
    factor = schedule(**data)
    assert [factor(progress) for progress in values] == list(values.values())


def test_factor_without_a_schedule_is_one() -> None:
    assert [shaping_factor(RewardConfig())(progress) for progress in (0.0, 0.5, 1.0)] == [1, 1, 1]


def test_factor_of_a_reward_with_a_schedule() -> None:
    config = RewardConfig.model_validate({"schedule": {"kind": "linear", "until": 0.5}})
    assert [shaping_factor(config)(progress) for progress in (0.0, 0.25, 0.9)] == [1, 0.5, 0]


properties = settings(deadline=None)

values = st.floats(-100, 100)
shares = st.floats(0, 1)
wide_shares = st.floats(0.01, 1)


@properties
@given(values, values, wide_shares, shares)
def test_linear_schedule_is_linear_and_then_constant(
    start: float, to: float, until: float, progress: float
) -> None:
    factor = linear(start, to, until)
    expected = to if progress >= until else start + (to - start) * progress / until
    assert factor(progress) == pytest.approx(expected, abs=1e-9)
    assert factor(0.0) == start


@st.composite
def point_lists(draw: st.DrawFn) -> list[list[float]]:
    steps = draw(st.lists(st.integers(0, 100), min_size=1, max_size=6, unique=True))
    return [[step / 100, draw(values)] for step in sorted(steps)]


@properties
@given(point_lists(), shares)
def test_piecewise_schedule_interpolates_and_is_constant_outside(
    points: list[list[float]], progress: float
) -> None:
    factor = schedule(kind="piecewise", points=points)
    expected = np.interp(progress, *np.transpose(points))
    assert factor(progress) == pytest.approx(expected, abs=1e-9)
    for share, value in points:
        assert factor(share) == pytest.approx(value, abs=1e-9)
    assert factor(points[0][0] / 2) == points[0][1]
    assert factor((1 + points[-1][0]) / 2) == pytest.approx(points[-1][1], abs=1e-9)


@st.composite
def schedules(draw: st.DrawFn) -> Any:
    if draw(st.booleans()):
        return linear(draw(values), draw(values), draw(wide_shares))
    return schedule(kind="piecewise", points=draw(point_lists()))


@properties
@given(schedules(), shares, shares)
def test_schedule_is_continuous(
    factor: LinearSchedule | PiecewiseSchedule, one: float, other: float
) -> None:
    max_slope = 200 / 0.01  # the largest difference over the shortest interval
    assert abs(factor(one) - factor(other)) <= max_slope * abs(one - other) + 1e-9


@properties
@given(schedules())
def test_schedule_serialization_round_trip(factor: LinearSchedule | PiecewiseSchedule) -> None:
    config = RewardConfig(schedule=factor)
    text = json.dumps(config.model_dump(mode="json"))
    assert RewardConfig.model_validate(json.loads(text)) == config
    assert RewardConfig.model_validate_json(text) == config
    assert RewardConfig.model_validate(config.model_dump()) == config


def test_linear_schedule_is_serialized_with_from() -> None:
    config = RewardConfig(schedule=linear(2, 3, 0.5))
    expected = {"kind": "linear", "from": 2.0, "to": 3.0, "until": 0.5}
    assert config.model_dump(mode="json")["schedule"] == expected
    assert json.loads(config.model_dump_json())["schedule"] == expected


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({}, "discriminator 'kind'"),
        ({"kind": "cosine"}, "'linear', 'piecewise'"),
        ({"kind": "linear", "start": 1}, "Extra inputs"),
        ({"kind": "linear", "points": [[0, 1]]}, "Extra inputs"),
        ({"kind": "linear", "until": 0}, "greater than 0"),
        ({"kind": "linear", "until": 1.5}, "less than or equal to 1"),
        ({"kind": "linear", "to": float("nan")}, "finite number"),
        ({"kind": "linear", "from": float("inf")}, "finite number"),
        ({"kind": "linear", "to": "0"}, "valid number"),
        ({"kind": "linear", "to": None}, "valid number"),
        ({"kind": "piecewise"}, "Field required"),
        ({"kind": "piecewise", "points": []}, "at least 1 item"),
        ({"kind": "piecewise", "points": [[0, 1]] * 101}, "at most 100 items"),
        ({"kind": "piecewise", "points": [0, 1]}, "valid list"),
        ({"kind": "piecewise", "points": [[0]]}, "at least 2 items"),
        ({"kind": "piecewise", "points": [[0, 1, 2]]}, "at most 2 items"),
        (
            {"kind": "piecewise", "points": [[0.5, 1], [0.25, 1]]},
            "must be sorted by share of training",
        ),
        (
            {"kind": "piecewise", "points": [[0.5, 1], [0.5, 2]]},
            "must be sorted by share of training",
        ),
        ({"kind": "piecewise", "points": [[-0.1, 1], [0.5, 2]]}, "from 0 to 1"),
        ({"kind": "piecewise", "points": [[0.5, 1], [1.01, 2]]}, "from 0 to 1"),
        ({"kind": "piecewise", "points": [[0, float("nan")]]}, "finite number"),
        ({"kind": "piecewise", "points": [[float("nan"), 0]]}, "finite number"),
        ({"kind": "piecewise", "points": [["0", 1]]}, "valid number"),
    ],
)
def test_invalid_schedule_is_refused(data: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        RewardConfig.model_validate({"schedule": data})
