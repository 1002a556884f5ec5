from __future__ import annotations

import json

import polars as pl
import pytest

from shaperun import summary
from shaperun.envs import environments
from shaperun.errors import UserError
from shaperun.study import parse_study

LANDER = environments()["LunarLander-v3"]
STUDY = parse_study(
    {
        "study": "test",
        "environment": {"id": "LunarLander-v3"},
        "training": {"total_timesteps": 100},
        "arms": {
            "first": {"mode": "add", "weights": {"legs": 1}},
            "plain": {},
            "never_trained": {},
        },
    }
)


def runs(**returns: list[float]) -> pl.DataFrame:
    rows = [
        {
            "arm": arm,
            "seed": seed,
            "return": value,
            "success_rate": float(value > 0),
            "crashed_rate": float(value <= 0),
            "out_of_bounds_rate": 0.0,
            "length": 100.0,
            "fuel": 30.0,
        }
        for arm, values in returns.items()
        for seed, value in enumerate(values)
    ]
    return pl.DataFrame(rows)


def test_arms_are_ranked_and_compared_with_the_baseline() -> None:
    table = runs(first=[-10.0, -20, -30, -25], plain=[200.0, 210, 190, 205])
    found = summary.summarize(STUDY, LANDER, table, "return")
    assert found.baseline == "plain"  # the first arm that leaves the reward alone
    assert [arm.arm for arm in found.arms] == ["plain", "first"]
    own = next(c for c in found.comparisons if c.metric == "return")
    assert own.arm == "first"
    assert own.result.verdict == "worse"
    assert own.result.p_value == pytest.approx(2 / 70)
    document = json.loads(json.dumps(found.document(), allow_nan=False))
    assert document["arms"]["plain"]["runs"] == 4
    assert document["arms"]["plain"]["return"]["mean"] == pytest.approx(201.25)
    assert found.table().columns[:3] == ["arm", "runs", "return_mean"]


def test_one_run_has_no_interval_and_no_winner() -> None:
    found = summary.summarize(STUDY, LANDER, runs(first=[500.0], plain=[-500.0]), "return")
    assert found.arms[0].metrics["return"].low is None
    own = next(c for c in found.comparisons if c.metric == "return")
    assert (own.result.verdict, own.result.seeds_needed) == ("underpowered", 4)
    text = json.dumps(found.document(), allow_nan=False)
    assert json.loads(text)["comparisons"][0]["low"] is None


@pytest.mark.parametrize("by", ["shaped_return", "shaping", "shaped"])
def test_a_shaped_return_ranks_nothing(by: str) -> None:
    with pytest.raises(UserError, match="units of its own reward"):
        summary.summarize(STUDY, LANDER, runs(plain=[1.0]), by)


def test_the_centre_of_a_curve_counts_the_runs_that_got_there() -> None:
    curves = pl.DataFrame(
        {
            "arm": ["a", "a", "a"],
            "seed": [0, 1, 0],
            "timesteps": [0, 0, 10],
            "return": [1.0, 3.0, 5.0],
            "shaped_return": [0.0, 0.0, 0.0],
        }
    )
    centre = summary.centre(curves)
    assert centre["runs"].to_list() == [2, 1]
    assert centre["return_centre"].to_list() == [2.0, 5.0]
    assert centre["return_low"].to_list()[1] is None
