"""Contributions of terms over training, and terms without effect."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from shaperun.analysis import results
from shaperun.analysis.term_history import (
    mean_term_history,
    schedule_notes,
    term_history,
    term_notes,
)
from shaperun.runs.open_study import open_study
from shaperun.runs.plan import plan_runs
from shaperun.study.models import Study, parse_study

STEPS = (0, 500, 1000)
NAMES = ("upright", "still", "centred")


def study(**arm: Any) -> Study:
    return parse_study(
        {
            "study": "s",
            "environment": {"id": "CartPole-v1"},
            "training": {"total_timesteps": 1000},
            "evaluation": {"episodes": 2, "final_episodes": 4},
            "arms": {"default": {}, "arm": arm} if arm else {"default": {}},
        }
    )


def added(**weights: float) -> Study:
    return study(mode="add", weights=weights)


def recorded(
    arm: str = "arm", own: Sequence[float] = (1, 2, 3, 4, 5, 6), **sums: Sequence[float]
) -> pl.DataFrame:
    """Two episodes at each of three evaluations; the last has two more, with other values."""
    values = {"return": own, **{f"sum_{name}": sums.get(name, [0.0] * 6) for name in NAMES}}
    rows = [
        {
            "arm": arm,
            "seed": 0,
            "timesteps": step,
            "episode": episode,
            "terminated": 1,
            "outcome": "off_track",
            **{n: float(v[2 * i + episode]) if episode < 2 else 1e6 for n, v in values.items()},
        }
        for i, step in enumerate(STEPS)
        for episode in range(4 if step == STEPS[-1] else 2)
    ]
    return pl.DataFrame(rows)


def notes(
    known: Study, own: Sequence[float] = (1, 2, 3, 4, 5, 6), **sums: Sequence[float]
) -> list[str]:
    return term_notes(term_history(recorded("arm", own, **sums), known), "arm")


def test_one_row_per_episode_and_term() -> None:
    episodes = recorded(upright=[1, 2, 3, 4, 5, 6], still=[-1, -3, 0, 0, 0, -2])
    history = term_history(episodes, added(upright=2, still=0.5))
    assert history.columns == ["arm", "seed", "timesteps", "term", "contribution"]
    assert len(history) == 3 * 6
    assert set(history["term"]) == {"environment", "upright", "still"}
    assert history.filter(term="upright")["contribution"].to_list() == [2, 4, 6, 8, 10, 12]
    means = mean_term_history(history)
    assert means.columns == ["arm", "timesteps", "term", "contribution"]
    assert means.filter(term="still").rows() == [
        ("arm", 0, "still", -1.0),
        ("arm", 500, "still", 0.0),
        ("arm", 1000, "still", -0.5),
    ]


def test_means_are_in_the_order_of_training() -> None:
    episodes = recorded(upright=[1, 2, 3, 4, 5, 6])
    reversed_ = episodes.sort("timesteps", descending=True)
    means = mean_term_history(term_history(reversed_, added(upright=1)))
    assert means.filter(term="upright")["timesteps"].to_list() == list(STEPS)


@pytest.mark.parametrize("mode", ["add", "replace"])
def test_schedule_applies_its_factor_at_each_evaluation(mode: str) -> None:
    fading = {"kind": "linear", "from": 1.0, "to": 0.0}
    known = study(mode=mode, weights={"upright": 2}, schedule=fading)
    episodes = recorded(own=[4] * 6, upright=[10] * 6)
    # The factor is constant after the end of training, as for the learner.
    late = episodes.with_columns(
        pl.col("timesteps").replace(1000, 1024), (1 - pl.col("timesteps") / 1000).alias("schedule")
    )
    means = mean_term_history(term_history(late, known))
    assert means.filter(term="upright")["contribution"].to_list() == [20, 10, 0]
    own = means.filter(term="environment", timesteps=500)["contribution"].item()
    assert own == (4 if mode == "add" else 2)


EARNED = {"kind": "earned", "metric": "return", "from": 0, "to": 1, "between": [0, 500]}


@pytest.mark.parametrize("mode", ["add", "replace"])
def test_earned_schedule_has_the_factor_that_each_run_recorded(mode: str) -> None:
    known = study(mode=mode, weights={"upright": 2}, schedule=EARNED)
    one = recorded(own=[4] * 6, upright=[10] * 6)
    both = pl.concat([one, one.with_columns(pl.col("seed") + 1)]).with_columns(
        pl.when(seed=0, timesteps=1000).then(0.6).otherwise(0.0).alias("schedule")
    )
    history = term_history(both, known)
    for seed, factors in enumerate([(0, 0, 0.6), (0, 0, 0)]):
        run = history.filter(seed=seed).group_by("timesteps", "term").agg(pl.mean("contribution"))
        paid = run.filter(term="upright").sort("timesteps")["contribution"].to_list()
        assert paid == pytest.approx([20 * factor for factor in factors])
        own = run.filter(term="environment").sort("timesteps")["contribution"].to_list()
        expected = [4.0 if mode == "add" else 4 * (1 - factor) for factor in factors]
        assert own == pytest.approx(expected)
    final = both.filter(timesteps=1000)
    first = results.mean_contributions(final.filter(pl.col("episode") < 2), known)
    assert first.filter(term="upright")["contribution"].item() == pytest.approx(6)
    assert schedule_notes(final, known) == {
        "arm": "its schedule ended at factors from 0 to 0.6, on average 0.3"
    }


def test_schedule_that_ends_at_0_is_said_to() -> None:
    fading = {"kind": "linear", "from": 1.0, "to": 0.0}
    known = study(mode="add", weights={"upright": 2}, schedule=fading)
    both = pl.concat([recorded("default"), recorded("arm")]).with_columns(schedule=0.0)
    assert schedule_notes(both, known) == {"arm": "its schedule ended at a factor of 0"}
    assert schedule_notes(both.clear(), known) == {}


def test_without_shaping_only_the_environment_pays() -> None:
    history = term_history(recorded("default"), study())
    assert set(history["term"]) == {"environment"}
    assert history["contribution"].to_list() == [1, 2, 3, 4, 5, 6]
    assert term_notes(history, "default") == []


def test_a_constant_term_is_noted() -> None:
    result = notes(added(upright=1, off_track=7), upright=[1, 2, 3, 4, 5, 6])
    assert result[0] == "off track paid 7 in every episode, so it had no effect on learning"
    assert not any("upright paid" in note for note in result)
    # A single different episode suffices.
    assert notes(added(upright=1, still=1), upright=[1, 2, 3, 4, 5, 6], still=[0] * 5 + [3]) == []


def test_constant_term_with_rounding() -> None:
    constant = {"arm": "arm", "term": "still", "contribution": -3.3}
    moving = [{"arm": "arm", "term": "upright", "contribution": float(n)} for n in range(40)]
    result = term_notes(pl.DataFrame([constant] * 40 + moving), "arm")
    assert result[0] == "still paid −3.3 in every episode, so it had no effect on learning"


def test_dominant_term() -> None:
    # It makes 95% of the variation, and then 85%.
    strong, weak = [0, 95, 0, 95, 0, 95], [5, 0, 5, 0, 5, 0]
    [note] = notes(added(upright=1, centred=1), upright=strong, centred=weak)
    assert note == (
        "upright makes 95% of the variation in the shaping, so the other terms had almost no effect"
    )
    assert notes(added(upright=1, centred=3.4), upright=strong, centred=weak) == []
    # Weights count.
    [note] = notes(added(upright=0.001, centred=1), upright=strong, centred=weak)
    assert note.startswith("centred makes 98.1% of the variation")


def test_single_term_is_not_dominant() -> None:
    assert notes(added(upright=1), upright=[0, 95, 0, 95, 0, 95]) == []


def test_constant_term_does_not_make_another_dominant() -> None:
    result = notes(added(upright=1, off_track=7), upright=[0, 95, 0, 95, 0, 95])
    assert result == ["off track paid 7 in every episode, so it had no effect on learning"]


def test_weak_shaping() -> None:
    own, moves = [0, 1000, 0, 1000, 0, 1000], [0, 1, 0, 1, 0, 1]
    [note] = notes(added(upright=9), own=own, upright=moves)
    assert note == "the shaping makes 0.892% of the variation in the return, too little to matter"
    assert notes(added(upright=11), own=own, upright=moves) == []
    # It cannot be weak if the learner never sees the environment's reward.
    alone = study(mode="replace", weights={"upright": 9})
    assert notes(alone, own=own, upright=moves) == []


def test_notes_cover_one_arm() -> None:
    known = parse_study(
        added(upright=1).model_dump()
        | {"arms": {"a": {"mode": "add", "weights": {"upright": 1}}, "b": STILL_ARM}}
    )
    episodes = pl.concat([recorded("a", upright=[1, 2, 3, 4, 5, 6]), recorded("b", own=[5] * 6)])
    history = term_history(episodes, known)
    assert term_notes(history, "a") == []
    assert term_notes(history, "b") == [
        "still paid 0 in every episode, so it had no effect on learning"
    ]


STILL_ARM = {"mode": "add", "weights": {"still": 1}}


def test_terms_add_up_to_what_trained_runs_recorded(trained: Path) -> None:
    known, folder = open_study("tiny", trained / "results")
    episodes = results.LoadedRuns(folder).episodes(plan_runs(known, known.arms))
    means = mean_term_history(term_history(episodes, known))
    assert set(means.filter(arm="guided")["term"]) == {"environment", "upright", "centred"}
    curves = results.learning_curves(episodes, known.evaluation.episodes)
    for arm in known.arms:
        expected = curves.filter(arm=arm).group_by("timesteps").agg(pl.col("shaped_return").mean())
        total = means.filter(arm=arm).group_by("timesteps").agg(pl.col("contribution").sum())
        both = total.join(expected, on="timesteps")
        assert len(both) == 5
        np.testing.assert_allclose(both["contribution"], both["shaped_return"], rtol=1e-9)


def test_arm_that_is_paid_nothing() -> None:
    known = study(mode="replace", weights={"upright": 0})
    both = pl.concat([recorded("default"), recorded("arm")])
    history = term_history(both, known)
    assert set(history["arm"]) == {"default"}
    assert term_notes(history, "arm") == []
