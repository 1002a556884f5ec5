"""Every arm's policies under every arm's reward."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from shaperun.analysis import results
from shaperun.analysis.cross_reward import cross_rewards, shaping_arms
from shaperun.runs.open_study import open_study
from shaperun.runs.plan import plan_runs
from shaperun.stats import sample
from shaperun.study.models import Study, parse_study

# Five runs of two episodes per arm; of five runs, the interquartile mean is not the mean.
RETURNS = {
    "default": [[10, 20], [30, 50], [0, 2], [90, 110], [20, 22]],
    "paying": [[1, 3], [2, 4], [300, 500], [6, 8], [0, 0]],
    "own": [[5, 5], [5, 5], [5, 5], [5, 5], [6, 7]],
}
ARMS: dict[str, dict[str, Any]] = {
    "default": {},
    "paying": {"mode": "add", "weights": {"upright": 2, "fell": -10}},
    "own": {"mode": "replace", "weights": {"a": 1, "b": 2}, "terms": {"a": "x", "b": "vx"}},
}


def study(**changes: Any) -> Study:
    return parse_study(
        {
            "study": "s",
            "environment": {"id": "CartPole-v1"},
            "training": {"total_timesteps": 100},
            "arms": ARMS,
            **changes,
        }
    )


def final() -> pl.DataFrame:
    """Final episodes whose term `upright` pays half of their return."""
    return pl.DataFrame(
        [
            {
                "arm": arm,
                "seed": seed,
                "return": float(value),
                "terminated": 1,
                "outcome": "fell" if value < 100 else "off_track",
                "sum_upright": value / 2,
                # Terms that an arm does not record are null.
                "sum_a": 3.0 if arm == "own" else None,
                "sum_b": 0.5 if arm == "own" else None,
            }
            for arm, runs in RETURNS.items()
            for seed, values in enumerate(runs)
            for value in values
        ]
    )


def cell(table: pl.DataFrame, arm: str, reward: str) -> Any:
    return table.filter(arm=arm, reward=reward)["return"].item()


def test_returns_of_all_pairs() -> None:
    table = cross_rewards(final(), study())
    assert table.columns == ["arm", "reward", "return", "missing"]
    assert [tuple(row) for row in table.select("arm", "reward").rows()] == [
        (arm, reward) for arm in ARMS for reward in ("environment", "paying", "own")
    ]
    # The means of the runs are 15, 40, 1, 100, 21; the smallest and largest do not count.
    assert cell(table, "default", "environment") == pytest.approx((15 + 40 + 21) / 3)
    # return + 2 · return / 2 − 10 where it fell: 20, 70, −8, 195, 32
    assert cell(table, "default", "paying") == pytest.approx((20 + 70 + 32) / 3)
    # 2, 3, 400, 7, 0 -> −6, −4, 800, 4, −10
    assert cell(table, "paying", "paying") == pytest.approx((-6 - 4 + 4) / 3)
    assert cell(table, "own", "own") == pytest.approx(3 + 2 * 0.5)
    assert cell(table, "own", "paying") == pytest.approx(0)


def test_missing_terms_are_named() -> None:
    table = cross_rewards(final(), study())
    for arm in ("default", "paying"):
        assert cell(table, arm, "own") is None
        assert table.filter(arm=arm, reward="own")["missing"].item() == "a, b"
    assert set(table.filter(pl.col("return").is_not_null())["missing"]) == {""}
    assert table["return"].null_count() == 2


def test_term_with_another_formula_is_missing() -> None:
    other = ARMS["own"] | {"terms": {"a": "x", "b": "2 * vx"}}
    rows = final().filter(arm="own")
    both = pl.concat([rows, rows.with_columns(pl.lit("other").alias("arm"))])
    table = cross_rewards(both, study(arms={"own": ARMS["own"], "other": other}))
    assert table.filter(arm="own", reward="other")["missing"].item() == "b"
    assert cell(table, "own", "other") is None
    assert cell(table, "other", "other") == pytest.approx(4)


def test_arms_without_shaping_have_a_row_and_no_column() -> None:
    logs = {"mode": "log", "weights": {"upright": 1}}
    rows = final().with_columns(pl.col("arm").replace("own", "logs"))
    known = study(arms={"default": {}, "logs": logs, "paying": ARMS["paying"]})
    table = cross_rewards(rows, known)
    assert set(table["reward"]) == {"environment", "paying"}
    assert set(table["arm"]) == {"default", "logs", "paying"}
    assert [name for name, _ in shaping_arms(known)] == ["paying"]


def test_arm_without_finished_runs_has_a_column_and_no_row() -> None:
    table = cross_rewards(final().filter(pl.col("arm") != "paying"), study())
    assert set(table["arm"]) == {"default", "own"}
    assert cell(table, "default", "paying") == pytest.approx((20 + 70 + 32) / 3)
    assert cross_rewards(final().clear(), study()).is_empty()


def test_reward_without_weights_has_a_column_of_zeros() -> None:
    nothing = {"mode": "replace", "weights": {"upright": 0}}
    rows = final().filter(pl.col("arm") != "own")
    table = cross_rewards(rows, study(arms={"default": {}, "paying": nothing}))
    assert table.filter(reward="paying")["return"].to_list() == [0.0, 0.0]


def test_schedule_applies_its_final_factor() -> None:
    fading = ARMS["paying"] | {"schedule": {"kind": "linear", "from": 1.0, "to": 0.5}}
    table = cross_rewards(final().filter(arm="default"), study(arms={"default": {}, "f": fading}))
    # return + ½ (return − 10 where it fell): 17.5, 55, −3.5, 147.5, 26.5
    assert cell(table, "default", "f") == pytest.approx((17.5 + 55 + 26.5) / 3)


def test_earned_schedule_has_the_mean_factor_of_its_runs() -> None:
    earned = {"kind": "earned", "metric": "return", "from": 0.0, "to": 2.0, "between": [0, 500]}
    known = study(arms={"default": {}, "f": ARMS["paying"] | {"schedule": earned}})
    default = final().filter(arm="default").with_columns(schedule=pl.lit(None, pl.Float64))
    own = default.with_columns(arm=pl.lit("f"), schedule=pl.when(seed=0).then(2.0).otherwise(0.125))
    rows = pl.concat([default, own]).with_columns(timesteps=100)
    table = cross_rewards(rows, known)
    # The factors are 2 and four times 0.125: 0.5 on average, as in the test above.
    for arm in ("default", "f"):
        assert cell(table, arm, "f") == pytest.approx((17.5 + 55 + 26.5) / 3)
    # Without a finished run the factor is unknown.
    alone = cross_rewards(rows.filter(arm="default"), known)
    assert set(alone["reward"]) == {"environment"}


def test_diagonal_is_what_trained_runs_recorded(trained: Path) -> None:
    known, folder = open_study("tiny", trained / "results")
    episodes = results.LoadedRuns(folder).episodes(plan_runs(known, known.arms))
    last = results.final_episodes(episodes)
    table = cross_rewards(last, known)
    assert set(table["reward"]) == {"environment", "guided"}
    means = last.group_by("arm", "seed").agg(pl.col("return", "shaped_return").mean())
    for arm in known.arms:
        rows = means.filter(arm=arm)
        expected = sample.iqm(rows["return"].to_numpy())
        assert cell(table, arm, "environment") == pytest.approx(expected, rel=1e-12)
    expected = sample.iqm(means.filter(arm="guided")["shaped_return"].to_numpy())
    assert cell(table, "guided", "guided") == pytest.approx(expected, rel=1e-9)
    assert not np.isclose(expected, cell(table, "guided", "environment"), rtol=1e-3)
