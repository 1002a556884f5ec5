"""What each term paid over training, and which of them taught nothing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from shaperun.analysis import results
from shaperun.analysis.term_history import over_training, term_history, term_notes
from shaperun.runs.open_study import open_study
from shaperun.runs.plan import planned_runs
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
    """Two episodes at each of three evaluations; the last has two more, with other figures."""
    values = {"return": own, **{f"sum_{name}": sums.get(name, [0.0] * 6) for name in NAMES}}
    rows = [
        {
            "arm": arm,
            "seed": 0,
            "timesteps": step,
            "episode": episode,
            "terminated": 1,
            "outcome": "off_track",
            **{n: float(v[2 * place + episode]) if episode < 2 else 1e6 for n, v in values.items()},
        }
        for place, step in enumerate(STEPS)
        for episode in range(4 if step == STEPS[-1] else 2)
    ]
    return pl.DataFrame(rows)


def notes(
    known: Study, own: Sequence[float] = (1, 2, 3, 4, 5, 6), **sums: Sequence[float]
) -> list[str]:
    return term_notes(term_history(recorded("arm", own, **sums), known), "arm")


def test_one_row_an_episode_and_term() -> None:
    episodes = recorded(upright=[1, 2, 3, 4, 5, 6], still=[-1, -3, 0, 0, 0, -2])
    history = term_history(episodes, added(upright=2, still=0.5))
    assert history.columns == ["arm", "seed", "timesteps", "term", "contribution"]
    assert len(history) == 3 * 6
    assert set(history["term"]) == {"environment", "upright", "still"}
    assert history.filter(term="upright")["contribution"].to_list() == [2, 4, 6, 8, 10, 12]
    means = over_training(history)
    assert means.columns == ["arm", "timesteps", "term", "contribution"]
    assert means.filter(term="still").rows() == [
        ("arm", 0, "still", -1.0),
        ("arm", 500, "still", 0.0),
        ("arm", 1000, "still", -0.5),
    ]


def test_the_means_are_in_the_order_of_training() -> None:
    episodes = recorded(upright=[1, 2, 3, 4, 5, 6])
    turned = episodes.sort("timesteps", descending=True)
    means = over_training(term_history(turned, added(upright=1)))
    assert means.filter(term="upright")["timesteps"].to_list() == list(STEPS)


@pytest.mark.parametrize("mode", ["add", "replace"])
def test_the_factor_of_the_schedule_is_that_of_the_moment(mode: str) -> None:
    fading = {"kind": "linear", "from": 1.0, "to": 0.0}
    known = study(mode=mode, weights={"upright": 2}, schedule=fading)
    episodes = recorded(own=[4] * 6, upright=[10] * 6)
    # Past the end of training the factor stays, as it does for the learner.
    late = episodes.with_columns(pl.col("timesteps").replace(1000, 1024))
    means = over_training(term_history(late, known))
    assert means.filter(term="upright")["contribution"].to_list() == [20, 10, 0]
    own = means.filter(term="environment", timesteps=500)["contribution"].item()
    assert own == (4 if mode == "add" else 2)


def test_without_shaping_the_environment_pays_all() -> None:
    history = term_history(recorded("default"), study())
    assert set(history["term"]) == {"environment"}
    assert history["contribution"].to_list() == [1, 2, 3, 4, 5, 6]
    assert term_notes(history, "default") == []


def test_a_term_that_never_moved() -> None:
    found = notes(added(upright=1, off_track=7), upright=[1, 2, 3, 4, 5, 6])
    assert found[0] == "off track came to 7 in every episode and taught nothing"
    assert not any("upright came" in note for note in found)
    # One episode that differs is movement.
    assert notes(added(upright=1, still=1), upright=[1, 2, 3, 4, 5, 6], still=[0] * 5 + [3]) == []


def test_a_term_that_never_moved_off_a_value_that_rounds() -> None:
    constant = {"arm": "arm", "term": "still", "contribution": -3.3}
    moving = [{"arm": "arm", "term": "upright", "contribution": float(n)} for n in range(40)]
    found = term_notes(pl.DataFrame([constant] * 40 + moving), "arm")
    assert found[0] == "still came to −3.3 in every episode and taught nothing"


def test_one_term_that_drowns_the_others() -> None:
    # Of what the terms move, it makes 95%, and then 85%.
    loud, quiet = [0, 95, 0, 95, 0, 95], [5, 0, 5, 0, 5, 0]
    [note] = notes(added(upright=1, centred=1), upright=loud, centred=quiet)
    assert note == "upright makes 95% of what moved the shaping; the rest is drowned"
    assert notes(added(upright=1, centred=3.4), upright=loud, centred=quiet) == []
    # The weight counts, not the raw term.
    [note] = notes(added(upright=0.001, centred=1), upright=loud, centred=quiet)
    assert note.startswith("centred makes 98.1% of what moved")


def test_a_single_term_drowns_nothing() -> None:
    assert notes(added(upright=1), upright=[0, 95, 0, 95, 0, 95]) == []


def test_a_term_that_never_moved_is_not_drowned_as_well() -> None:
    found = notes(added(upright=1, off_track=7), upright=[0, 95, 0, 95, 0, 95])
    assert found == ["off track came to 7 in every episode and taught nothing"]


def test_shaping_that_is_too_weak_to_matter() -> None:
    own, moves = [0, 1000, 0, 1000, 0, 1000], [0, 1, 0, 1, 0, 1]
    [note] = notes(added(upright=9), own=own, upright=moves)
    assert note == "the shaping makes 0.892% of what moved the return: too little to matter"
    assert notes(added(upright=11), own=own, upright=moves) == []
    # Where the learner never saw the environment's reward it cannot be weak beside it.
    alone = study(mode="replace", weights={"upright": 9})
    assert notes(alone, own=own, upright=moves) == []


def test_notes_are_about_one_arm() -> None:
    known = parse_study(
        added(upright=1).model_dump()
        | {"arms": {"a": {"mode": "add", "weights": {"upright": 1}}, "b": ARM_B}}
    )
    episodes = pl.concat([recorded("a", upright=[1, 2, 3, 4, 5, 6]), recorded("b", own=[5] * 6)])
    history = term_history(episodes, known)
    assert term_notes(history, "a") == []
    assert term_notes(history, "b") == ["still came to 0 in every episode and taught nothing"]


ARM_B = {"mode": "add", "weights": {"still": 1}}


def test_terms_add_up_to_what_trained_runs_recorded(trained: Path) -> None:
    known, folder = open_study("tiny", trained / "results")
    episodes = results.evaluation_episodes(folder, planned_runs(known, known.arms))
    means = over_training(term_history(episodes, known))
    assert set(means.filter(arm="guided")["term"]) == {"environment", "upright", "centred"}
    curves = results.curves(episodes, known.evaluation.episodes)
    for arm in known.arms:
        expected = curves.filter(arm=arm).group_by("timesteps").agg(pl.col("shaped_return").mean())
        total = means.filter(arm=arm).group_by("timesteps").agg(pl.col("contribution").sum())
        both = total.join(expected, on="timesteps")
        assert len(both) == 5
        np.testing.assert_allclose(both["contribution"], both["shaped_return"], rtol=1e-9)


def test_an_arm_that_is_paid_nothing_at_all() -> None:
    known = study(mode="replace", weights={"upright": 0})
    both = pl.concat([recorded("default"), recorded("arm")])
    history = term_history(both, known)
    assert set(history["arm"]) == {"default"}
    assert term_notes(history, "arm") == []
