"""Outcomes and metrics that a study gives its environment."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from shaperun.analysis.results import LoadedRuns, final_episodes, run_metrics
from shaperun.check.check import check_study
from shaperun.common.errors import UserError
from shaperun.envs.episodes import play_episode
from shaperun.envs.generic import get_environment
from shaperun.envs.info import InfoError
from shaperun.envs.metrics import metric_bounds, metric_direction, metric_names
from shaperun.runs.plan import Run
from shaperun.runs.run_folder import RunFolder
from shaperun.runs.study_folder import StudyFolder
from shaperun.study.models import RunConfig, Study
from shaperun.training.train import train_run
from tests.helpers import toy
from tests.helpers.studies import mistake
from tests.training.test_checkpoint import read_outcome, train_to_end, train_until_killed


class Walk(gym.Env[Any, Any]):
    """A walk to 5 from 0; −5 is a cliff. The info counts the steps, and has the end at the end."""

    observation_space = gym.spaces.Box(-5.0, 5.0, (1,))
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.x, self.steps = 0.0, 0
        return np.array([self.x], np.float32), {}

    def step(self, action: Any) -> Any:
        self.x += 1.0 if action else -1.0
        self.steps += 1
        ended = abs(self.x) == 5
        info = {"steps": self.steps, **({"end": {"goal": self.x == 5}} if ended else {})}
        return np.array([self.x], np.float32), float(self.x == 5), ended, False, info


class Judged(Walk):
    """The same walk, which says at every step whether it succeeded."""

    def step(self, action: Any) -> Any:
        *step, info = super().step(action)
        return *step, info | {"is_success": bool(self.x == 5)}


gym.register("Walk-v0", lambda **_: Walk(), max_episode_steps=12)
gym.register("Judged-v0", lambda **_: Judged(), max_episode_steps=12)

OUTCOMES: dict[str, Any] = {
    "arrived": {"when": "terminated and env_reward > 0", "success": True},
    "fell": {"when": "terminated", "success": False},
}
METRICS: dict[str, Any] = {
    "taken": {"value": 'info["steps"]', "of": "last", "better": "lower"},
    "farthest": {"value": "obs[0]", "of": "max", "better": "higher"},
    "turns": {"value": "changed(action)", "of": "sum"},
    "middle": {"value": "obs[0]", "of": "mean"},
    "lowest_x": {"value": "obs[0]", "of": "min"},
}


def study(
    outcomes: dict[str, Any] = OUTCOMES, metrics: dict[str, Any] = METRICS, **changes: Any
) -> Study:
    environment = {"id": "Walk-v0", "outcomes": outcomes, "metrics": metrics}
    sections: dict[str, Any] = {
        "environment": {k: v for k, v in environment.items() if v},
        "training": {
            "total_timesteps": 600,
            "n_envs": 3,
            "hyperparameters": {"n_steps": 50, "batch_size": 50, "n_epochs": 1},
        },
        "evaluation": {"every": 300, "episodes": 2, "final_episodes": 3},
    }
    return toy.study(**sections | changes)


def ends(config: Study, moves: str) -> tuple[str, dict[str, float]]:
    """Return the outcome and the metrics of an episode of moves, + and −."""
    environment, actions = config.environment.describe(), iter(moves)
    env = config.environment.make()
    episode = play_episode(env, environment, lambda _: int(next(actions) == "+"), 0, max_steps=12)
    functions = {name: metric.function for name, metric in environment.metrics.items()}
    return episode.outcome, {
        name: function(episode.transition) for name, function in functions.items() if function
    }


def test_first_outcome_that_is_true_counts() -> None:
    known = study()
    assert ends(known, "+++++")[0] == "arrived"
    assert ends(known, "-----")[0] == "fell"
    assert ends(known, "+-" * 6)[0] == "other"
    assert known.environment.describe().outcomes == {"arrived": True, "fell": False, "other": None}
    swapped = study(dict(reversed(OUTCOMES.items())))
    assert ends(swapped, "+++++")[0] == "fell"  # which is true as well


def test_metrics_are_reduced_over_the_episode() -> None:
    _, metrics = ends(study(), "+-+++++")
    assert metrics == {
        "taken": 7.0,
        "farthest": 5.0,
        "turns": 2.0,
        "lowest_x": 0.0,
        "middle": pytest.approx((1 + 0 + 1 + 2 + 3 + 4 + 5) / 7),
    }


def test_info_of_the_end_and_memory_of_the_episode() -> None:
    outcomes: dict[str, Any] = {"won": {"when": 'info["end"]["goal"]', "success": True}}
    assert ends(study(outcomes, {}), "+++++")[0] == "won"
    with pytest.raises(InfoError, match=r"the outcome won failed: info has no \"end\""):
        ends(study(outcomes, {}), "+-" * 6)
    outcomes = {
        "won": {"when": "terminated and env_reward > 0", "success": True},
        "close": {"when": "highest(obs[0]) >= 3 and not terminated"},
        "slow": {"when": "steps() == 12"},
    }
    config = study(outcomes, {})
    assert [ends(config, m)[0] for m in ("+++++", "+++" + "-+" * 5, "+-" * 6, "-----")] == [
        *("won", "close", "slow", "other")
    ]


def test_names_and_directions() -> None:
    environment = study().environment.describe()
    assert metric_names(environment) == ["return", "success_rate", "fell_rate", "length", *METRICS]
    directions = [metric_direction(name, environment) for name in METRICS]
    assert directions == [-1, 1, 0, 0, 0]
    assert metric_direction("fell_rate", environment) == -1
    bounded = {"success_rate", "fell_rate", "length", "turns"}  # at most one at each of 12 steps
    assert metric_bounds(environment).keys() == bounded


def rows(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def train(path: Path, config: RunConfig) -> RunFolder:
    folder = RunFolder(path)
    train_run(folder, config)
    return folder


REMEMBERING = {"near": {"when": "highest(obs[0]) >= 2", "success": True}, **OUTCOMES}


@pytest.mark.parametrize("training", [{"engine": "sb3"}, {"engine": "lockstep"}])
def test_training_and_evaluation_record_them(training: dict[str, Any], tmp_path: Path) -> None:
    arms = {"default": {}, "paid": {"mode": "add", "weights": {"near": 1, "other": -1}}}
    base = study().model_dump(mode="json")["training"]
    config = study(REMEMBERING, arms=arms, training=base | training)
    folder = StudyFolder(tmp_path)
    run = Run("paid", config.run_config(config.arms["paid"], 0))
    run_folder = train(folder.run("paid", 0).path, run.config)
    recorded = rows(run_folder.episodes)
    assert {row["outcome"] for row in recorded} == {"near", "fell", "other"}
    for row in recorded:  # the kernel's memory agrees with the recorder's
        expected = {"near": 1.0, "other": -1.0}.get(row["outcome"], 0.0)
        assert float(row["shaping"]) == expected
    episodes = final_episodes(LoadedRuns(folder).episodes([run]))
    [metrics] = run_metrics(episodes, config.environment.describe()).to_dicts()
    assert metrics["taken"] == metrics["length"] == np.mean(episodes["length"].to_numpy())
    assert metrics["success_rate"] == np.mean(episodes["farthest"].to_numpy() >= 2)


def test_a_killed_run_remembers_its_episodes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = study({"whole": {"when": 'steps() == info["steps"]'}})
    run = config.run_config(config.arms["default"], 0)
    whole = train_to_end(tmp_path / "whole", run)
    assert {row["outcome"] for row in rows(whole.episodes)} == {"whole"}
    expected = read_outcome(whole)
    train_until_killed(tmp_path / "killed", run, monkeypatch, at=310)
    assert read_outcome(train_to_end(tmp_path / "killed", run)) == expected


def test_only_studies_that_have_them_record_them() -> None:
    plain, own = (s.run_config(s.arms["default"], 0) for s in (study({}, {}), study()))
    assert plain.model_dump(mode="json")["environment"] == {"id": "Walk-v0", "options": {}}
    assert plain.identity != own.identity
    assert RunConfig.model_validate(own.model_dump(mode="json")) == own


def test_check_counts_the_ends_that_no_outcome_matches() -> None:
    config = study()
    result = check_study(config, config.arms)
    [message] = [f.message for f in result.findings if f.rule == "unmatched-ends"]
    counts = [b.outcomes["other"] for b in result.behaviors]
    assert counts[0] == 0  # doing nothing falls
    assert message.startswith(f"{sum(counts)} of 40 recorded episodes end as other (act randomly ")
    config = study({**OUTCOMES, "timeout": {"when": "truncated"}})
    assert "unmatched-ends" not in {f.rule for f in check_study(config, config.arms).findings}


@pytest.mark.parametrize(
    ("outcomes", "metrics", "message"),
    [
        ({"won": {"when": 'info["goal"]'}}, {}, r"the outcome won failed: info has no \"goal\""),
        ({"won": {"when": "sqrt(-1 - steps())"}}, {}, "the outcome won is nan at the end"),
        ({}, {"gold": {"value": 'info["gold"]', "of": "sum"}}, "the metric gold failed: info has"),
        ({}, {"gold": {"value": "1 / (obs[0] - obs[0])", "of": "sum"}}, "the metric gold is inf"),
    ],
)
def test_values_that_cannot_be_computed_stop_check(
    outcomes: dict[str, Any], metrics: dict[str, Any], message: str
) -> None:
    config = study(outcomes, metrics)
    with pytest.raises(UserError, match=f"Walk-v0 cannot be played: {message}"):
        check_study(config, config.arms)


def test_success_in_info_is_taken_without_a_declaration() -> None:
    judged = get_environment("Judged-v0")
    assert judged.outcomes == {"success": True, "failure": False}
    config = study({}, {}, environment={"id": "Judged-v0"})
    assert [ends(config, moves)[0] for moves in ("+++++", "-----", "+-" * 6)] == [
        *("success", "failure", "failure")
    ]
    own = study(environment={"id": "Judged-v0", "outcomes": OUTCOMES})
    assert "success" not in own.environment.describe().outcomes


def test_runs_from_before_success_was_read_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    config = study({}, {}, environment={"id": "Judged-v0"})
    run = config.run_config(config.arms["default"], 0)
    new = run.identity
    known = replace(get_environment("Judged-v0"), outcomes={"terminated": None})
    monkeypatch.setattr("shaperun.study.environment.get_environment", lambda *_: known)
    assert run.identity != new


TEXT = """\
study: walk
environment:
  id: CartPole-v1
  outcomes:
    held: {when: "truncated", success: true}
    fell: {when: "terminated", success: false}
  metrics:
    speed: {value: "abs(vx)", of: mean, better: lower}
training: {total_timesteps: 1000}
arms:
  default: {}
  paid: {mode: add, weights: {held: 1, tilt: -1}, terms: {tilt: "angle"}}
sweep: {method: grid, base: paid, weights: {held: [1, 2]}, objective: -speed}
"""


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"truncated"', '"1 + truncted"', "5:23: environment.outcomes.held.when: unknown name"),
        ('"truncated"', "true", "5:18: environment.outcomes.held.when: found true, expected text"),
        ("true}", "1}", "5:40: environment.outcomes.held.success: found 1, expected true or false"),
        ("success: true", "succes: true", "5:31: environment.outcomes.held.succes: unknown key"),
        (
            "fell:",
            "other:",
            "6:5: environment.outcomes.other: other is how episodes end that",
        ),
        ("fell:", "upright:", "6:5: environment.outcomes.upright: the name upright is already in"),
        ("fell:", "length:", "6:5: environment.outcomes.length: the name length is already in use"),
        (
            "fell:",
            "Fell:",
            "6:5: environment.outcomes.Fell: invalid name 'Fell', expected",
        ),
        ('"abs(vx)"', '"vz"', "8:20: environment.metrics.speed.value: unknown name vz"),
        (
            "of: mean",
            "of: first",
            "8:35: environment.metrics.speed.of: found 'first', expected",
        ),
        ("of: mean, ", "", "8:12: environment.metrics.speed.of: missing"),
        ("lower", "more", "8:49: environment.metrics.speed.better: found 'more', expected one of"),
        ("tilt", "fell", "12:59: arms.paid.terms.fell: the name fell is already in use by an outc"),
        ("tilt", "speed", "12:60: arms.paid.terms.speed: the name speed is already in use by a me"),
        (
            "fell:",
            "success:",
            "6:5: environment.outcomes.success: the outcome success is no succes",
        ),
        ("-speed", "speed", "13:71: sweep.objective: larger speed is not better; write -speed"),
    ],
)
def test_mistake_gives_one_message(file: Path, old: str, new: str, message: str) -> None:
    assert mistake(file, TEXT, old, new).startswith(message)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("length", "already in use by a column of the results"),
        ("fell", "already in use by an outcome"),
        ("upright", "already in use by a term of"),
        ("auc", "already in use by a column of the results"),
        ("fell_rate", "ends with _rate"),
        ("sum_speed", "starts with sum_"),
    ],
)
def test_names_of_metrics(file: Path, name: str, message: str) -> None:
    line = mistake(file, TEXT.replace("-speed", "return"), "speed:", f"{name}:")
    assert line.startswith(f"8:5: environment.metrics.{name}: ")
    assert message in line


def test_a_metric_without_a_direction_is_no_objective(file: Path) -> None:
    line = mistake(file, TEXT.replace("-speed", "speed"), ", better: lower", "")
    assert "environment.metrics.speed does not say which values are better" in line
