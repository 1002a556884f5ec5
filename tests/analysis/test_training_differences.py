"""Arms with different training, and the grid of rewards and learners."""

from __future__ import annotations

from typing import Any

import pytest

from shaperun.analysis import training_differences
from shaperun.study.models import Study, parse_study

GUIDED = {"mode": "potential", "weights": {"upright": 1}}
A2C = {"training": {"algorithm": "A2C"}}
HOT = {"training": {"hyperparameters": {"ent_coef": 0.1}}}


def study(**arms: Any) -> Study:
    return parse_study(
        {
            "study": "s",
            "environment": {"id": "CartPole-v1"},
            "training": {"total_timesteps": 1000},
            "arms": arms,
        }
    )


CROSSED = study(plain={}, guided=GUIDED, plain_a2c=A2C, guided_a2c=GUIDED | A2C, hot=HOT)


def test_baseline_is_the_unshaped_arm_with_the_same_training() -> None:
    baselines = {arm: CROSSED.baseline_of(arm) for arm in CROSSED.arms}
    assert baselines == {
        "plain": "plain",
        "guided": "plain",
        "plain_a2c": "plain",
        "guided_a2c": "plain_a2c",
        "hot": "plain",
    }


def test_baseline_without_such_an_arm_is_that_of_the_study() -> None:
    assert study(plain={}, guided=GUIDED | A2C).baseline_of("guided") == "plain"


def test_grid_of_rewards_and_learners() -> None:
    grid = training_differences.training_grid(CROSSED)
    assert grid is not None
    assert grid.rewards == ["plain", "guided"]
    assert grid.learners == ["PPO", "A2C", "PPO, ent_coef 0.1"]
    assert grid.arms == {
        ("plain", "PPO"): "plain",
        ("guided", "PPO"): "guided",
        ("plain", "A2C"): "plain_a2c",
        ("guided", "A2C"): "guided_a2c",
        ("plain", "PPO, ent_coef 0.1"): "hot",
    }


@pytest.mark.parametrize(
    "arms",
    [
        {"plain": {}, "guided": GUIDED},
        {"plain": {}, "a2c": A2C},
        {"plain": {}, "guided": GUIDED | A2C},
    ],
    ids=["one learner", "one reward", "nothing shared"],
)
def test_no_grid_without_two_learners_of_a_reward(arms: dict[str, Any]) -> None:
    assert training_differences.training_grid(study(**arms)) is None


def test_different_training_is_noted() -> None:
    a2c, hot = training_differences.training_notes(CROSSED)
    assert a2c == (
        "plain_a2c was trained differently from plain: training.algorithm is PPO in plain and A2C "
        "in plain_a2c. A difference between their results cannot be attributed to the reward alone."
    )
    assert "training.hyperparameters.ent_coef is 0.0 in plain and 0.1 in hot" in hot
    assert list(training_differences.training_notes(study(plain={}, guided=GUIDED))) == []
    (mixed,) = training_differences.training_notes(study(plain={}, guided=GUIDED | A2C))
    assert mixed.startswith("guided was trained differently from plain")


def test_algorithms_are_listed_once() -> None:
    assert training_differences.algorithms(CROSSED) == ["PPO", "A2C"]
