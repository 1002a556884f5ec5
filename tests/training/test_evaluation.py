from __future__ import annotations

from contextlib import closing
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
import pytest
from gymnasium.envs.box2d.lunar_lander import heuristic

from shaperun.envs.episodes import held_out_seeds
from shaperun.study.models import RunConfig, parse_study
from shaperun.training.envs import TrainingEnvs, training_seeds
from shaperun.training.evaluation import EVAL_BATCH_SIZE, Evaluation, evaluation_columns

LANDER = gym.make("LunarLander-v3")


def fly(obs: npt.NDArray[Any]) -> int:
    return int(heuristic(LANDER, obs))  # type: ignore[no-untyped-call]


def land(obs: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return np.array([fly(row) for row in obs])


def make_config(mode: str = "log", **options: Any) -> RunConfig:
    weights = {"distance": 100, "legs": 10} | ({} if mode == "potential" else {"main_engine": 0.3})
    study = parse_study(
        {
            "study": "test",
            "environment": {"id": "LunarLander-v3", "options": options},
            "training": {"total_timesteps": 100, "hyperparameters": {"gamma": 0.99}},
            "arms": {"arm": {"mode": mode, "weights": weights}},
        }
    )
    return study.run_config(study.arms["arm"], 0)


def test_evaluation_has_options_of_its_own_and_training_does_not() -> None:
    config, light = make_config(), make_config(gravity=-3.0)
    other = light.evaluation.model_copy(update={"options": {"gravity": -3.0}})
    config = config.model_copy(update={"evaluation": other})
    assert Evaluation(config)(land, 3, 1.0) == Evaluation(light)(land, 3, 1.0)
    assert Evaluation(config)(land, 3, 1.0) != Evaluation(make_config())(land, 3, 1.0)
    seeds = training_seeds(np.random.SeedSequence(0), 1)
    paths = []
    for run in (config, make_config(), light):
        with closing(TrainingEnvs(run, seeds, lambda row: None)) as envs:
            envs.reset()
            paths.append(np.concatenate([envs.step(np.array([0]))[0] for _ in range(20)]))
    assert np.array_equal(paths[0], paths[1])
    assert not np.array_equal(paths[0], paths[2])


def test_held_out_seeds_are_fixed_and_disjoint_from_training() -> None:
    assert held_out_seeds(5) == held_out_seeds(100)[:5]
    assert len(set(held_out_seeds(1000))) == 1000
    assert max(held_out_seeds(1000)) < 2**32
    for seed in range(20):
        assert min(training_seeds(np.random.SeedSequence(seed), 64)) >= 2**32


@pytest.mark.parametrize("mode", ["log", "add", "replace", "potential"])
def test_rows_match_a_plain_loop_over_the_environment(mode: str) -> None:
    evaluation = Evaluation(make_config(mode))
    rows = evaluation(land, 20, 1.0)  # more than one batch
    assert [row["episode"] for row in rows] == list(range(20))
    assert [list(row) for row in rows] == [evaluation_columns(evaluation.kernel)] * 20
    for row, seed in list(zip(rows, held_out_seeds(20), strict=True))[::6]:
        obs, _ = LANDER.reset(seed=seed)
        total, length, distance, done = 0.0, 0, 0.0, False
        while not done:
            obs, reward, terminated, truncated, _ = LANDER.step(fly(obs))
            total += float(reward)
            length += 1
            distance -= float(np.hypot(np.float64(obs[0]), np.float64(obs[1])))
            done = terminated or truncated
        assert (row["seed"], row["length"], row["terminated"]) == (seed, length, int(terminated))
        assert row["return"] == pytest.approx(total, rel=1e-12)
        assert row["sum_distance"] == pytest.approx(distance, rel=1e-12)
        assert row["outcome"] in ("landed", "crashed", "out_of_bounds", "timeout")
    evaluation.close()


def test_batches_have_a_constant_size() -> None:
    sizes = set()

    def act(obs: npt.NDArray[Any]) -> npt.NDArray[Any]:
        sizes.add(len(obs))
        return land(obs)

    evaluation = Evaluation(make_config())
    few = evaluation(act, 3, 1.0)
    assert few == evaluation(act, 18, 1.0)[:3]
    assert sizes == {EVAL_BATCH_SIZE}


def test_a_truncated_episode_is_recorded_as_such() -> None:
    rows = Evaluation(make_config("potential", max_episode_steps=30))(land, 4, 1.0)
    assert {(row["length"], row["terminated"], row["outcome"]) for row in rows} == {
        (30, 0, "timeout")
    }


def test_inconsistent_columns_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    evaluation = Evaluation(make_config("add"))
    monkeypatch.setattr(evaluation.kernel, "weights", evaluation.kernel.weights.copy())
    original = evaluation.kernel.contributions_from_sums
    monkeypatch.setattr(
        evaluation.kernel, "contributions_from_sums", lambda *columns: original(*columns) * 1.001
    )
    with pytest.raises(ArithmeticError, match="shaping was recorded"):
        evaluation(land, 1, 1.0)
