"""EnvPool as a vector environment: restarts, time limits, and restored episodes."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from shaperun.envs.envpool_support import SUPPORTED
from shaperun.envs.episodes import held_out_seeds
from shaperun.runs.plan import plan_runs
from shaperun.runs.run_folder import RunFolder
from shaperun.study.environment import EnvironmentConfig
from shaperun.study.models import RunConfig, parse_study
from shaperun.training.envpool_vector_env import EnvPoolVectorEnv
from shaperun.training.train import train_run, train_runs
from shaperun.training.vector_env import SequentialVectorEnv, Step
from tests.training.test_checkpoint import killed_at, read_outcome

envpool: Any = pytest.importorskip("envpool")

SEEDS = [2**62 + 7, 5, 2**40]


def make_pool(env_id: str, count: int = 3, **options: Any) -> EnvPoolVectorEnv:
    config = EnvironmentConfig(id=env_id, options=options, backend="envpool")
    return EnvPoolVectorEnv.from_config(config, count)


def sample_actions(copies: EnvPoolVectorEnv, steps: int, seed: int = 0) -> np.ndarray[Any, Any]:
    space = copies.action_space
    space.seed(seed)
    return np.stack([[space.sample() for _ in SEEDS] for _ in range(steps)])


def assert_same(one: Step, other: Step) -> None:
    for a, b in zip(one, other, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("env_id", SUPPORTED)
def test_it_has_the_interface_of_the_sequential_one(env_id: str) -> None:
    ours, theirs = (
        make_pool(env_id),
        SequentialVectorEnv.from_config(EnvironmentConfig(id=env_id), 3),
    )
    assert ours.observation_space == theirs.observation_space
    assert ours.action_space == theirs.action_space
    first, expected = ours.reset(SEEDS), theirs.reset(SEEDS)
    assert (first.shape, first.dtype) == (expected.shape, expected.dtype)
    for actions in sample_actions(ours, 20):
        step, like = ours.step(actions), theirs.step(actions)
        for result, expected_result in zip(step[:4], like[:4], strict=True):
            assert (result.shape, result.dtype) == (expected_result.shape, expected_result.dtype)
    theirs.close()


@pytest.mark.parametrize("env_id", SUPPORTED)
def test_restored_environments_continue_exactly(env_id: str) -> None:
    limit = {"max_episode_steps": 90} if env_id in ("Acrobot-v1", "MountainCar-v0") else {}
    undisturbed = make_pool(env_id, **limit)
    undisturbed.reset(SEEDS)
    ended = 0
    for actions in sample_actions(undisturbed, 240):
        step = undisturbed.step(actions)
        ended += int((step.terminated | step.truncated).sum())
    assert ended > 1 or env_id == "MountainCarContinuous-v0"
    restored = make_pool(env_id, **limit)
    np.testing.assert_array_equal(restored.set_state(undisturbed.get_state()), step.obs)
    for actions in sample_actions(undisturbed, 200, seed=1):
        assert_same(restored.step(actions), undisturbed.step(actions))


def test_a_copy_depends_on_its_seed_and_actions_only() -> None:
    together, alone = make_pool("CartPole-v1"), make_pool("CartPole-v1", 1)
    np.testing.assert_array_equal(together.reset(SEEDS)[1:2], alone.reset(SEEDS[1:2]))
    for actions in sample_actions(together, 100):
        for all_three, one in zip(
            together.step(actions)[:4], alone.step(actions[1:2]), strict=False
        ):
            np.testing.assert_array_equal(all_three[1:2], one)


def test_restarts_match_the_pool() -> None:
    """The pool restarts in a separate step, EnvPoolVectorEnv in the same one."""
    ours = make_pool("CartPole-v1")
    native = envpool.make_gymnasium("CartPole-v1", num_envs=1, seed=[5], num_threads=1)
    obs, expected = ours.reset(SEEDS)[1], native.reset()[0][0]
    for actions in sample_actions(ours, 300):
        np.testing.assert_array_equal(obs, expected)
        step = ours.step(actions)
        after, _, terminated, _, _ = native.step(actions[1:2])
        assert step.terminated[1] == terminated[0]
        obs, expected = step.obs[1], after[0]
        if terminated[0]:
            assert step.last_obs is not None
            np.testing.assert_array_equal(step.last_obs[1], after[0])
            expected = native.step(actions[1:2])[0][0]


def test_an_end_at_the_time_limit_is_terminated_and_truncated() -> None:
    copies = make_pool("CartPole-v1", max_episode_steps=9)
    copies.reset(SEEDS)
    ends = set()
    for _ in range(60):
        step = copies.step(np.ones(3, int))  # falls after 8 to 11 steps
        ends |= set(zip(step.terminated.tolist(), step.truncated.tolist(), strict=True))
    assert ends == {(False, False), (True, False), (False, True), (True, True)}


def test_actions_that_would_crash_the_process_are_refused() -> None:
    copies = make_pool("CartPole-v1")
    copies.reset(SEEDS)
    with pytest.raises(ValueError, match=r"shape of actions: \(2,\)"):
        copies.step(np.zeros(2, int))
    with pytest.raises(AttributeError):
        copies.get_attr("gravity")


@pytest.mark.parametrize("actions", [np.zeros((5, 3)), np.zeros((5, 1)), np.zeros(5)])
def test_states_that_would_crash_the_process_are_refused(actions: Any) -> None:
    copies = make_pool("LunarLanderContinuous-v3")
    copies.reset(SEEDS)
    states = copies.get_state()
    states[1]["actions"] = actions
    for forged in (states, copies.get_state()[:2]):
        with pytest.raises(ValueError, match="belong to another environment"):
            copies.set_state(forged)


def make_configs(**training: Any) -> dict[str, RunConfig]:
    study = parse_study(
        {
            "study": "test",
            "environment": {"id": "LunarLander-v3", "backend": "envpool"},
            "training": {
                "total_timesteps": 1200,
                "n_envs": 3,
                "hyperparameters": {"n_steps": 100, "batch_size": 50, "n_epochs": 2},
                **training,
            },
            "seeds": 1,
            "evaluation": {"every": 600, "episodes": 2, "final_episodes": 2},
            "arms": {
                "default": {},
                "guided": {"mode": "potential", "weights": {"distance": 10}},
            },
        }
    )
    return {run.arm: run.config for run in plan_runs(study, study.arms)}


@pytest.mark.parametrize("engine", ["sb3", "lockstep"])
def test_a_killed_run_ends_in_the_same_bytes(
    engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_configs(engine=engine)["guided"]
    whole, killed = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "killed")
    train_run(whole, config)

    with killed_at(1000, monkeypatch):
        train_run(killed, config)
    train_run(killed, config)
    assert read_outcome(killed) == read_outcome(whole)
    record = killed.read_record()
    assert record["resume"] == "exact"
    assert record["versions"]["envpool"] == version("envpool")
    assert killed.read_config()["environment"]["backend"] == "envpool"


def test_other_runs_do_not_change_a_byte(tmp_path: Path) -> None:
    runs = make_configs()
    folders = {name: RunFolder(tmp_path / "all" / name) for name in runs}
    assert train_runs({folders[name]: run for name, run in runs.items()}) == {}
    for name, run in runs.items():
        alone = RunFolder(tmp_path / "alone" / name)
        train_run(alone, run)
        assert read_outcome(alone) == read_outcome(folders[name])


def test_policies_are_evaluated_in_gymnasium(tmp_path: Path) -> None:
    import polars as pl

    folder = RunFolder(tmp_path / "run")
    train_run(folder, make_configs()["default"])
    first = pl.read_csv(folder.evaluations).row(0, named=True)
    obs, _ = gym.make("LunarLander-v3").reset(seed=held_out_seeds(1)[0])
    assert first["first_distance"] == pytest.approx(-float(np.hypot(*obs[:2].astype(float))))
