"""Summaries: ranking, verdicts and intervals."""

from __future__ import annotations

import json
import re

import polars as pl
import pytest

from shaperun.analysis import learning_speed, summary
from shaperun.cli.comparison_table import format_verdict
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
    assert not comparison.is_tested
    text = json.dumps(result.document(), allow_nan=False)
    assert json.loads(text)["comparisons"][0]["low"] is None


@pytest.mark.parametrize(
    ("counts", "text"),
    [
        ([1, 1], "Values of single runs, without intervals, which need 2 runs"),
        ([1, 2], "Interquartile means over runs, with the range of the two runs"),
        ([2, 5], "Interquartile means over runs, with 95% intervals (two runs: their range)"),
        ([3, 1], "Interquartile means over runs, with 95% intervals"),
    ],
)
def test_a_table_is_described_as_it_is(counts: list[int], text: str) -> None:
    arms = {f"a{k}": [float(n) for n in range(count)] for k, count in enumerate(counts)}
    study = study_with(*list(arms)[1:])
    table = runs(plain=arms.pop("a0"), **arms)
    described = summary.describe_estimates(summary.summarize(study, LANDER, table, "length").arms)
    assert described.removesuffix("; identical: the same in all runs") == text


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
    center = learning_speed.center_curves(curves, LANDER)
    assert center["runs"].to_list() == [2, 1]
    assert center["return_center"].to_list() == [2.0, 5.0]
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
    better = [value + 200 + i / 10 for i, value in enumerate(base)]
    for count, paired, verdict in ((9, True, "better"), (8, False, "underpowered")):
        table = runs(plain=base[:count], a=better[:count])
        result = summary.summarize(study_with("a"), LANDER, table, "return").comparisons[0]
        assert (result.paired, result.result.verdict) == (paired, verdict)
    other = runs(plain=base, a=better).with_columns(
        seed=pl.when(pl.col("arm") == "a").then(pl.col("seed") + 1).otherwise(pl.col("seed"))
    )
    assert not summary.summarize(study_with("a"), LANDER, other, "return").comparisons[0].paired


def learning_runs(**steps: list[float | None]) -> pl.DataFrame:
    """Return runs with steps to solve of at most 100; None is a run that never did."""
    flat = [value for values in steps.values() for value in values]
    return runs(**{arm: [1.0] * len(values) for arm, values in steps.items()}).with_columns(
        pl.lit(0.0).alias("auc"),
        pl.Series("steps_to_solved", [100.0 if value is None else value for value in flat]),
        pl.Series("solved", [value is not None for value in flat]),
    )


def test_what_was_never_solved_has_no_difference() -> None:
    table = learning_runs(plain=[None] * 5, a=[None] * 5, b=[10.0, 11, 12, 13, 14])
    result = summary.summarize(study_with("a", "b"), LANDER, table, "return")
    never, one = (
        next(c for c in result.comparisons if (c.arm, c.metric) == (arm, "steps_to_solved"))
        for arm in ("a", "b")
    )
    assert (never.result.verdict, never.never_solved) == ("never solved", ("a", "plain"))
    assert (one.result.verdict, one.never_solved) == ("better", ("plain",))
    document = next(
        c
        for c in result.document()["comparisons"]
        if (c["arm"], c["metric"]) == ("a", "steps_to_solved")
    )
    assert [document[name] for name in ("difference", "low", "high")] == [None] * 3
    assert document["verdict"] == "never solved"
    texts = {
        c.arm: str(format_verdict(c, result)) for c in result.comparisons if c.metric == "return"
    }
    assert "never solved by either arm" in texts["a"]
    assert "steps to solved −88 [−88" not in texts["a"]
    assert re.search(
        r"steps to solved −88 \[−\d+, −\d+\] \(p = .*; never solved by plain\)", texts["b"]
    )


def test_intervals_are_within_the_bounds_of_their_metrics() -> None:
    table = learning_runs(plain=[None, 90.0, 5, 3, None], a=[0.0, 0, 0, 1, 90])
    table = table.with_columns(length=pl.Series([1000.0, 990, 1000, 1000, 10] * 2))
    result = summary.summarize(study_with("a"), LANDER, table, "return")
    bounds = {"length": (1, 1000), "fuel": (0, 330), "steps_to_solved": (0, 100)}
    for arm in result.arms:
        for name, estimate in (arm.metrics | arm.learning).items():
            low, high = (0, 1) if name.endswith("_rate") else bounds.get(name, (-1e9, 1e9))
            assert estimate.low is not None
            assert estimate.high is not None
            assert low <= estimate.low <= estimate.high <= high


@pytest.mark.parametrize(
    ("seeds", "arms", "advice"),
    [
        (1, ("a",), "At least 4 seeds per arm are needed for any verdict."),
        (3, ("a",), "At least 4 seeds per arm are needed for any verdict."),
        (4, ("a", "b"), "At least 5 seeds per arm are needed for any verdict."),
        (4, ("a",), ""),
        (5, ("a", "b"), ""),
    ],
)
def test_seeds_that_the_test_needs_are_not_an_estimate(
    seeds: int, arms: tuple[str, ...], advice: str
) -> None:
    far = {arm: [200.0 + 0.1 * seed for seed in range(seeds)] for arm in arms}
    table = runs(plain=[0.1 * seed for seed in range(seeds)], **far)
    comparisons = summary.summarize(study_with(*arms), LANDER, table, "return").comparisons
    assert {c.advice for c in comparisons if c.metric == "return"} == {advice}
    same = [c for c in comparisons if c.metric == "length"]  # no difference at all
    assert {c.advice for c in same} == {advice}


def test_seeds_estimated_from_the_spread_are_an_estimate() -> None:
    table = runs(plain=[0.0, 20, 40, 60, 80], a=[40.0, 60, 80, 100, 120])
    comparison = summary.summarize(study_with("a"), LANDER, table, "return").comparisons[0]
    assert re.fullmatch(
        r"About \d+ seeds per arm would be needed to detect this difference.", comparison.advice
    )


def test_interval_has_the_decimals_of_its_value() -> None:
    rows = [(0.21, -0.04, 0.36), (0.2, None, None)]
    assert summary.format_intervals("return", rows) == [("0.21", "[−0.04, 0.36]"), ("0.20", "")]
    assert summary.format_metrics("profit", [0.000236]) == ["0.000236"]


def test_equal_rates_are_identical_up_to_rounding() -> None:
    table = runs(plain=[1.0] * 20).with_columns(success_rate=pl.Series([0.3, 0.1 + 0.2] * 10))
    estimate = summary.summarize(study_with("a"), LANDER, table, "return").arms[0]
    text = summary.format_estimate("success_rate", estimate.metrics["success_rate"])
    assert text == ("30%", "identical")
    assert summary.describe_estimates([estimate]).endswith("; identical: the same in all runs")
