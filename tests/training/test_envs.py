from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from stable_baselines3.common.vec_env import VecEnv

from shaperun.envs.base import Transition
from shaperun.rewards.kernel import RewardError
from shaperun.study.models import parse_study
from shaperun.training.envs import TrainingEnvs
from shaperun.training.episode_recorder import Row, episode_columns


def make_envs(
    mode: str,
    weights: dict[str, float],
    rows: list[Row],
    *,
    reward: dict[str, Any] | None = None,
    **options: Any,
) -> TrainingEnvs:
    study = parse_study(
        {
            "study": "test",
            "environment": {"id": "LunarLander-v3", "options": options},
            "training": {"total_timesteps": 1000, "hyperparameters": {"gamma": 0.9}},
            "arms": {"arm": {"mode": mode, "weights": weights, **(reward or {})}},
        }
    )
    return TrainingEnvs(study.run_config(study.arms["arm"], 0), [2**40, 2**41, 2**42], rows.append)


@pytest.mark.parametrize("mode", ["log", "add", "replace", "potential"])
def test_rows_are_sums_over_steps(mode: str) -> None:
    rows: list[Row] = []
    envs = make_envs(mode, {"distance": 10, "legs": 5}, rows)
    assert isinstance(envs, VecEnv)
    envs.reset()
    rng = np.random.default_rng(0)
    learner, lengths, expected = np.zeros(3), np.zeros(3, int), []
    for _ in range(400):
        _, rewards, dones, infos = envs.step(rng.integers(0, 4, 3))
        assert rewards.dtype == np.float32
        learner += rewards
        lengths += 1
        for copy in np.flatnonzero(dones):
            assert infos[copy]["terminal_observation"].shape == (8,)
            expected.append((copy, lengths[copy], learner[copy]))
            learner[copy], lengths[copy] = 0, 0
    assert len(rows) == len(expected) > 5
    for row, (copy, length, total) in zip(rows, expected, strict=True):
        assert list(row) == episode_columns(envs.kernel)
        assert (row["copy"], row["length"]) == (copy, length)
        assert row["shaped_return"] == pytest.approx(total, rel=1e-4)
    assert envs.recorder.timesteps == 1200
    envs.recorder.check()
    envs.close()


def test_truncation_is_reported_to_the_learner() -> None:
    rows: list[Row] = []
    envs = make_envs("log", {}, rows, max_episode_steps=5)
    envs.reset()
    for _ in range(5):
        _, _, dones, infos = envs.step(np.zeros(3, int))
    assert dones.all()
    assert all(info["TimeLimit.truncated"] for info in infos)
    assert {row["outcome"] for row in rows} == {"timeout"}


def test_inconsistent_sums_are_an_error() -> None:
    envs = make_envs("add", {"distance": 10}, [], max_episode_steps=5)
    envs.reset()
    envs.step(np.zeros(3, int))
    envs.recorder._sums[0, -2] += 0.01
    for _ in range(3):
        envs.step(np.zeros(3, int))
    with pytest.raises(ArithmeticError, match="shaped return"):
        envs.step(np.zeros(3, int))


def test_a_lost_step_is_an_error() -> None:
    envs = make_envs("add", {"distance": 10}, [])
    envs.reset()
    envs.step(np.zeros(3, int))
    envs.recorder.check()
    envs.recorder._sums[1] = 0
    with pytest.raises(ArithmeticError, match="sum of all steps"):
        envs.recorder.check()


def test_environments_cannot_be_changed_from_outside() -> None:
    envs = make_envs("log", {}, [])
    assert envs.get_attr("render_mode") == [None] * 3
    with pytest.raises(NotImplementedError):
        envs.set_attr("gravity", -1)


FADING = {"schedule": {"kind": "piecewise", "points": [[0.2, 1.0], [0.5, 0.3], [0.9, 0.0]]}}


@pytest.mark.parametrize("reward", [{}, FADING])
@pytest.mark.parametrize("mode", ["log", "add", "replace", "potential"])
def test_shaping_many_steps_at_once_gives_the_same_rows(mode: str, reward: dict[str, Any]) -> None:
    rows_by_stretch: dict[int, list[Row]] = {1: [], 7: [], 100: []}
    rewards = {}
    for stretch, rows in rows_by_stretch.items():
        weights = {"distance": 10.0, "legs": 5.0} | ({} if mode == "potential" else {"change": 1.0})
        terms = {
            "change": "0 - abs(action - last_action)",
            "record": "highest(y) + std_so_far(x) + total(changed(action))",
        }
        changes = {"terms": terms} | reward
        envs = make_envs(mode, weights, rows, reward=changes)
        envs.reset()
        rng, parts = np.random.default_rng(0), []
        for step in range(400):
            envs.send(rng.integers(0, 4, 3))
            envs.receive()
            if (step + 1) % stretch == 0 or step == 399:
                parts.append(envs.shape_rewards())
        rewards[stretch] = np.concatenate(parts)
        envs.recorder.check()
    assert len(rows_by_stretch[1]) > 5
    for stretch in (7, 100):
        assert rewards[stretch] == pytest.approx(rewards[1], rel=1e-12, abs=1e-12)
        for row, expected in zip(rows_by_stretch[stretch], rows_by_stretch[1], strict=True):
            assert row.pop("outcome") == expected["outcome"]
            assert row == pytest.approx({name: expected[name] for name in row}, rel=1e-9, abs=1e-9)


def test_an_error_names_the_step_among_many() -> None:
    far = {"terms": {"far": "1 / (obs[1] - obs[1]) if obs[1] < 0.5 else 0"}}
    errors = []
    for stretch in (1, 100):
        rows: list[Row] = []
        envs = make_envs("add", {"far": 1.0}, rows, reward=far)
        envs.reset()
        with pytest.raises(RewardError, match=r"the term far is inf .* step [1-9]") as error:
            fly_in_stretches(envs, stretch)
        errors.append((str(error.value), len(rows), envs.recorder.timesteps))
    assert errors[0] == errors[1]


def fails_on_many(transition: Transition) -> Any:
    if len(transition) > 3:
        raise MemoryError("too many at once")
    return np.zeros(len(transition))


def test_an_error_of_many_steps_at_once_is_kept_without_a_position() -> None:
    envs = make_envs("add", {"many": 1.0}, [], reward={"terms": {"many": fails_on_many}})
    envs.reset()
    message = r"^the term many failed: MemoryError: too many at once \(test_envs.py:149\)$"
    with pytest.raises(RewardError, match=message) as error:
        fly_in_stretches(envs, 100)
    assert isinstance(error.value.__cause__, MemoryError)


def fails_on_two_or_more(transition: Transition) -> Any:
    return np.zeros(1)


def test_an_error_has_a_position_only_if_its_row_is_known() -> None:
    reward = {"terms": {"single": fails_on_two_or_more}}
    envs = make_envs("add", {"single": 1.0}, [], reward=reward)
    envs.reset()
    with pytest.raises(RewardError, match=r"expected an array of shape \(3,\), not \(1,\)$"):
        fly_in_stretches(envs, 1)


def fly_in_stretches(envs: TrainingEnvs, stretch: int) -> None:
    for step in range(1, 401):
        envs.send(np.zeros(3, int))
        envs.receive()
        if step % stretch == 0:
            envs.shape_rewards()
