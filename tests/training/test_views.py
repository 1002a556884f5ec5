"""Learners that see an environment through wrappers, or its Dict flattened."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import polars as pl
import pytest
from pydantic import ValidationError

from shaperun.study.models import RunConfig, parse_study
from shaperun.training.envs import TrainingEnvs
from shaperun.training.evaluation import Evaluation
from shaperun.training.sb3_model import load_policy
from tests.helpers import reach  # noqa: F401 (registers Reach-v0)
from tests.training.test_checkpoint import read_outcome, train_to_end, train_until_killed

TERMS = {
    "near": '-norm(obs["position"])',
    "closer": 'previous(lowest(info["distance"])) - lowest(info["distance"])',
    "effort": "-sum(square(action))",
}
LEARNERS: dict[str, dict[str, Any]] = {
    "lockstep": {"hyperparameters": {"n_steps": 20, "batch_size": 20, "n_epochs": 2}},
    "sb3": {"engine": "sb3", "hyperparameters": {"n_steps": 20, "batch_size": 20, "n_epochs": 2}},
    "episodic": {"algorithm": "GRPO", "hyperparameters": {"group_size": 2, "batch_size": 32}},
}
WRAPPERS: list[Any] = [
    "FlattenObservation",
    {"FrameStackObservation": {"stack_size": 2}},
    {"RescaleAction": {"min_action": -1, "max_action": 1}},
]


class Boast(gym.Wrapper[Any, Any, Any, Any]):
    """Reports less distance than the environment does."""

    def step(self, action: Any) -> Any:
        *step, info = self.env.step(action)
        info["distance"] = 0.0
        return (*step, {"distance": 0.0})


def make_config(learner: str, wrappers: list[Any], **weights: float) -> RunConfig:
    weights = weights or {"near": 0.1, "closer": 1.0}
    study = parse_study(
        {
            "study": "test",
            "environment": {"id": "Reach-v0", "wrappers": wrappers},
            "training": {"total_timesteps": 400, "n_envs": 2, **LEARNERS[learner]},
            "evaluation": {"every": 200, "episodes": 2, "final_episodes": 3},
            "terms": TERMS,
            "arms": {"arm": {"mode": "add", "weights": weights}},
        },
        allow_code=True,
    )
    return study.run_config(study.arms["arm"], 0)


@pytest.mark.parametrize("wrappers", [[], WRAPPERS], ids=["flat", "wrapped"])
@pytest.mark.parametrize("learner", LEARNERS)
def test_a_killed_run_ends_in_the_same_bytes(
    learner: str, wrappers: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_config(learner, wrappers)
    expected = read_outcome(train_to_end(tmp_path / "whole", run))
    folder = train_until_killed(tmp_path / "killed", run, monkeypatch, at=300)
    assert folder.read_state() != "done"
    assert read_outcome(train_to_end(folder.path, run)) == expected


def test_terms_do_not_depend_on_what_the_learner_sees() -> None:
    rows: dict[str, list[Any]] = {"bare": [], "wrapped": []}
    for name, wrappers in {"bare": [], "wrapped": [*WRAPPERS, f"{__name__}:Boast"]}.items():
        envs = TrainingEnvs(make_config("sb3", wrappers), [2**40, 2**41], rows[name].append)
        envs.reset()
        rng = np.random.default_rng(0)
        for _ in range(120):
            actions = rng.uniform(-2, 2, (2, 2)).astype(np.float32)
            envs.step(actions / 2 if wrappers else actions)  # RescaleAction doubles them
        envs.close()
    assert len(rows["bare"]) == len(rows["wrapped"]) > 5
    for bare, wrapped in zip(rows["bare"], rows["wrapped"], strict=True):
        assert bare.pop("outcome") == wrapped.pop("outcome")
        assert bare == pytest.approx(wrapped, rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("learner", LEARNERS)
def test_the_policy_that_is_loaded_is_the_one_evaluated(learner: str, tmp_path: Path) -> None:
    config = make_config(learner, WRAPPERS)
    folder = train_to_end(tmp_path, config)
    evaluation = Evaluation(config)
    rows = evaluation(load_policy(config, folder), 3, 1.0)
    evaluation.close()
    final = pl.read_csv(folder.evaluations)[-3:]
    assert final["sum_near"].to_list() == [row["sum_near"] for row in rows]


def test_learners_that_cannot_act_are_refused_unless_a_wrapper_helps() -> None:
    data: dict[str, Any] = {
        "study": "test",
        "environment": {"id": "Reach-v0"},
        "training": {"algorithm": "DQN", "total_timesteps": 1000},
        "arms": {"default": {}},
    }
    message = "DQN cannot learn the actions of Reach-v0, a Box space; choose from PPO, A2C"
    with pytest.raises(ValidationError, match=message):
        parse_study(data)
    data["environment"]["wrappers"] = [{"DiscretizeAction": {"bins": 3}}]
    assert parse_study(data).training.algorithm == "DQN"
