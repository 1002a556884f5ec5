"""EnvPool behind the interface of our own copies: restarts, limits, and episodes brought back."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from shaperun.envs.envpool_support import SUPPORTED
from shaperun.envs.episodes import held_out_seeds
from shaperun.runs.plan import planned_runs
from shaperun.runs.run_folder import RunFolder
from shaperun.study.environment import EnvironmentConfig
from shaperun.study.models import RunConfig, parse_study
from shaperun.training import recorder
from shaperun.training import run as trainee
from shaperun.training.envpool_vector_env import EnvPoolVectorEnv
from shaperun.training.train import train_run, train_runs
from shaperun.training.vector_env import SequentialVectorEnv, Step
from tests.training.test_checkpoint import KilledError, outcome

envpool: Any = pytest.importorskip("envpool")

SEEDS = [2**62 + 7, 5, 2**40]


def pool_of(env_id: str, count: int = 3, **options: Any) -> EnvPoolVectorEnv:
    config = EnvironmentConfig(id=env_id, options=options, backend="envpool")
    return EnvPoolVectorEnv.from_config(config, count)


def actions_for(copies: EnvPoolVectorEnv, steps: int, seed: int = 0) -> np.ndarray[Any, Any]:
    space = copies.action_space
    space.seed(seed)
    return np.stack([[space.sample() for _ in SEEDS] for _ in range(steps)])


def assert_same(one: Step, other: Step) -> None:
    for a, b in zip(one, other, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("env_id", SUPPORTED)
def test_it_stands_where_gymnasiums_copies_stand(env_id: str) -> None:
    ours, theirs = pool_of(env_id), SequentialVectorEnv.from_config(EnvironmentConfig(id=env_id), 3)
    assert ours.observation_space == theirs.observation_space
    assert ours.action_space == theirs.action_space
    first, expected = ours.reset(SEEDS), theirs.reset(SEEDS)
    assert (first.shape, first.dtype) == (expected.shape, expected.dtype)
    for actions in actions_for(ours, 20):
        step, like = ours.step(actions), theirs.step(actions)
        for found, wanted in zip(step[:4], like[:4], strict=True):
            assert (found.shape, found.dtype) == (wanted.shape, wanted.dtype)
    theirs.close()


@pytest.mark.parametrize("env_id", SUPPORTED)
def test_what_was_kept_goes_on_as_it_would_have(env_id: str) -> None:
    limit = {"max_episode_steps": 90} if env_id in ("Acrobot-v1", "MountainCar-v0") else {}
    undisturbed = pool_of(env_id, **limit)
    undisturbed.reset(SEEDS)
    ended = 0
    for actions in actions_for(undisturbed, 240):
        step = undisturbed.step(actions)
        ended += int((step.terminated | step.truncated).sum())
    assert ended > 1 or env_id == "MountainCarContinuous-v0"
    restored = pool_of(env_id, **limit)
    np.testing.assert_array_equal(restored.set_state(undisturbed.get_state()), step.obs)
    for actions in actions_for(undisturbed, 200, seed=1):
        assert_same(restored.step(actions), undisturbed.step(actions))


def test_a_copy_depends_on_its_seed_and_its_actions_alone() -> None:
    together, alone = pool_of("CartPole-v1"), pool_of("CartPole-v1", 1)
    np.testing.assert_array_equal(together.reset(SEEDS)[1:2], alone.reset(SEEDS[1:2]))
    for actions in actions_for(together, 100):
        for all_three, one in zip(
            together.step(actions)[:4], alone.step(actions[1:2]), strict=False
        ):
            np.testing.assert_array_equal(all_three[1:2], one)


def test_restarts_are_those_of_the_pool_itself() -> None:
    """Which restarts with a step of its own, where ours restarts in the same one."""
    ours = pool_of("CartPole-v1")
    native = envpool.make_gymnasium("CartPole-v1", num_envs=1, seed=[5], num_threads=1)
    obs, expected = ours.reset(SEEDS)[1], native.reset()[0][0]
    for actions in actions_for(ours, 300):
        np.testing.assert_array_equal(obs, expected)
        step = ours.step(actions)
        after, _, terminated, _, _ = native.step(actions[1:2])
        assert step.terminated[1] == terminated[0]
        obs, expected = step.obs[1], after[0]
        if terminated[0]:
            assert step.last_obs is not None
            np.testing.assert_array_equal(step.last_obs[1], after[0])
            expected = native.step(actions[1:2])[0][0]


def test_at_the_limit_an_end_is_both() -> None:
    """As gymnasium has it: the one does not hide the other."""
    copies = pool_of("CartPole-v1", max_episode_steps=9)
    copies.reset(SEEDS)
    ends = set()
    for _ in range(60):
        step = copies.step(np.ones(3, int))  # falls after 8 to 11 steps
        ends |= set(zip(step.terminated.tolist(), step.truncated.tolist(), strict=True))
    assert ends == {(False, False), (True, False), (False, True), (True, True)}


def test_actions_that_would_crash_the_process_are_refused() -> None:
    copies = pool_of("CartPole-v1")
    copies.reset(SEEDS)
    with pytest.raises(ValueError, match=r"actions of the shape \(2,\)"):
        copies.step(np.zeros(2, int))
    with pytest.raises(AttributeError):
        copies.attribute("gravity")


@pytest.mark.parametrize("kept", [np.zeros((5, 3)), np.zeros((5, 1)), np.zeros(5)])
def test_kept_actions_that_would_crash_the_process_are_refused(kept: Any) -> None:
    """Whoever wrote the checkpoint."""
    copies = pool_of("LunarLanderContinuous-v3")
    copies.reset(SEEDS)
    memory = copies.get_state()
    memory[1]["actions"] = kept
    for forged in (memory, copies.get_state()[:2]):
        with pytest.raises(ValueError, match="of another environment"):
            copies.set_state(forged)


# --- training


def runs_of(**training: Any) -> dict[str, RunConfig]:
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
    return {run.arm: run.config for run in planned_runs(study, study.arms)}


@pytest.mark.parametrize("engine", ["sb3", "lockstep"])
def test_a_killed_run_ends_in_the_same_bytes(
    engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = runs_of(engine=engine)["guided"]
    whole, killed = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "killed")
    train_run(whole, config)

    class Dying(recorder.RunRecorder):
        def on_step(self, timesteps: int) -> None:
            if timesteps >= 1000:
                raise KilledError
            super().on_step(timesteps)

    with monkeypatch.context() as patch:
        patch.setattr(trainee, "RunRecorder", Dying)
        patch.setattr(recorder, "CHECKPOINT_SECONDS", 0.0)
        with pytest.raises(KilledError):
            train_run(killed, config)
    train_run(killed, config)
    assert outcome(killed) == outcome(whole)
    record = killed.read_record()
    assert record["resume"] == "exact"
    assert record["versions"]["envpool"] == version("envpool")
    assert killed.read_config()["environment"]["backend"] == "envpool"


def test_neighbours_change_no_byte(tmp_path: Path) -> None:
    runs = runs_of()
    folders = {name: RunFolder(tmp_path / "all" / name) for name in runs}
    assert train_runs({folders[name]: run for name, run in runs.items()}) == {}
    for name, run in runs.items():
        alone = RunFolder(tmp_path / "alone" / name)
        train_run(alone, run)
        assert outcome(alone) == outcome(folders[name])


def test_policies_are_judged_in_gymnasiums_simulation(tmp_path: Path) -> None:
    import polars as pl

    folder = RunFolder(tmp_path / "run")
    train_run(folder, runs_of()["default"])
    first = pl.read_csv(folder.evaluations).row(0, named=True)
    obs, _ = gym.make("LunarLander-v3").reset(seed=held_out_seeds(1)[0])
    assert first["first_distance"] == pytest.approx(-float(np.hypot(*obs[:2].astype(float))))
