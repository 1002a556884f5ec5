"""Summaries: ranking, verdicts and intervals."""

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


def test_arms_are_ranked_and_compared_with_baseline() -> None:
    table = runs(first=[-10.0, -20, -30, -25], plain=[200.0, 210, 190, 205])
    result = summary.summarize(STUDY, LANDER, table, "return")
    assert result.baseline == "plain"  # the first arm that leaves the reward alone
    assert [arm.arm for arm in result.arms] == ["plain", "first"]
    comparison = next(c for c in result.comparisons if c.metric == "return")
    assert comparison.arm == "first"
    assert comparison.result.verdict == "worse"
    assert comparison.result.p_value == pytest.approx(2 / 70)
    document = json.loads(json.dumps(result.document(), allow_nan=False))
    assert document["arms"]["plain"]["runs"] == 4
    assert document["arms"]["plain"]["return"]["mean"] == pytest.approx(201.25)
    assert result.table().columns[:3] == ["arm", "runs", "return_mean"]


def test_one_run_has_no_interval_and_no_winner() -> None:
    result = summary.summarize(STUDY, LANDER, runs(first=[500.0], plain=[-500.0]), "return")
    assert result.arms[0].metrics["return"].low is None
    comparison = next(c for c in result.comparisons if c.metric == "return")
    assert (comparison.result.verdict, comparison.result.seeds_needed) == ("underpowered", 4)
    text = json.dumps(result.document(), allow_nan=False)
    assert json.loads(text)["comparisons"][0]["low"] is None


@pytest.mark.parametrize("by", ["shaped_return", "shaping", "shaped"])
def test_ranking_by_shaped_return_is_refused(by: str) -> None:
    with pytest.raises(UserError, match="units of its own reward"):
        summary.summarize(STUDY, LANDER, runs(plain=[1.0]), by)


def test_curve_center_uses_the_runs_with_that_evaluation() -> None:
    curves = pl.DataFrame(
        {
            "arm": ["a", "a", "a"],
            "seed": [0, 1, 0],
            "timesteps": [0, 0, 10],
            "return": [1.0, 3.0, 5.0],
            "shaped_return": [0.0, 0.0, 0.0],
        }
    )
    center = summary.center_curves(curves, LANDER)
    assert center["runs"].to_list() == [2, 1]
    assert center["return_centre"].to_list() == [2.0, 5.0]
    assert center["return_low"].to_list()[1] is None


def study_with(*arms: str) -> Study:
    data = {name: {"mode": "add", "weights": {"legs": 1}} for name in arms}
    return parse_study(STUDY.model_dump(mode="json") | {"arms": {"plain": {}, **data}})


def test_winner_must_survive_holm_correction() -> None:
    # 4 against 4 runs reach p = 2/70, which suffices for one arm but not for two.
    table = runs(plain=[1.0, 2, 3, 4], a=[11.0, 12, 13, 14], b=[21.0, 22, 23, 24])
    alone = summary.summarize(study_with("a"), LANDER, table, "return").comparisons[0]
    assert (alone.result.verdict, alone.p_adjusted) == ("better", alone.result.p_value)
    both = summary.summarize(study_with("a", "b"), LANDER, table, "return").comparisons
    own = [c for c in both if c.metric == "return"]
    assert [c.result.verdict for c in own] == ["underpowered"] * 2
    assert [c.result.seeds_needed for c in own] == [5, 5]  # Holm's first step is 2.5%
    assert [c.p_adjusted for c in own] == pytest.approx([4 / 70] * 2)


def test_runs_are_paired_from_nine_equal_seeds_on() -> None:
    base = [100.0 * i for i in range(9)]
    better = [value + 350 + i / 10 for i, value in enumerate(base)]
    for count, paired, verdict in ((9, True, "better"), (8, False, "underpowered")):
        table = runs(plain=base[:count], a=better[:count])
        result = summary.summarize(study_with("a"), LANDER, table, "return").comparisons[0]
        assert (result.paired, result.result.verdict) == (paired, verdict)
    other = runs(plain=base, a=better).with_columns(
        seed=pl.when(pl.col("arm") == "a").then(pl.col("seed") + 1).otherwise(pl.col("seed"))
    )
    assert not summary.summarize(study_with("a"), LANDER, other, "return").comparisons[0].paired
