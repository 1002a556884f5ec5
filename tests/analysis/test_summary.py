from __future__ import annotations

import json

import polars as pl
import pytest

from shaperun.analysis import summary
from shaperun.common.errors import UserError
from shaperun.envs.builtin import environments
from shaperun.study.models import Study, parse_study

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
    centre = summary.center_curves(curves)
    assert centre["runs"].to_list() == [2, 1]
    assert centre["return_centre"].to_list() == [2.0, 5.0]
    assert centre["return_low"].to_list()[1] is None


def of_arms(*arms: str) -> Study:
    data = {name: {"mode": "add", "weights": {"legs": 1}} for name in arms}
    return parse_study(STUDY.model_dump(mode="json") | {"arms": {"plain": {}, **data}})


def test_a_winner_must_survive_holms_correction() -> None:
    # 4 against 4 runs reach p = 2/70 each: alone enough, and with two arms not.
    table = runs(plain=[1.0, 2, 3, 4], a=[11.0, 12, 13, 14], b=[21.0, 22, 23, 24])
    alone = summary.summarize(of_arms("a"), LANDER, table, "return").comparisons[0]
    assert (alone.result.verdict, alone.p_adjusted) == ("better", alone.result.p_value)
    both = summary.summarize(of_arms("a", "b"), LANDER, table, "return").comparisons
    own = [c for c in both if c.metric == "return"]
    assert [c.result.verdict for c in own] == ["underpowered"] * 2
    assert [c.result.seeds_needed for c in own] == [5, 5]  # Holm's first step is 2.5%
    assert [c.p_adjusted for c in own] == pytest.approx([4 / 70] * 2)


def test_runs_are_paired_where_six_seeds_are_the_same() -> None:
    base = [0.0, 100, 200, 300, 400, 500]
    better = [value + 250 + place / 10 for place, value in enumerate(base)]
    for count, paired, verdict in ((6, True, "better"), (5, False, "underpowered")):
        table = runs(plain=base[:count], a=better[:count])
        found = summary.summarize(of_arms("a"), LANDER, table, "return").comparisons[0]
        assert (found.paired, found.result.verdict) == (paired, verdict)
    other = runs(plain=base, a=better).with_columns(
        seed=pl.when(pl.col("arm") == "a").then(pl.col("seed") + 1).otherwise(pl.col("seed"))
    )
    assert not summary.summarize(of_arms("a"), LANDER, other, "return").comparisons[0].paired
