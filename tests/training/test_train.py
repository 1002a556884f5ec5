from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import polars as pl
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecNormalize

from shaperun.common.files import Lock, read_json, read_table
from shaperun.envs.base import Array, Environment
from shaperun.envs.builtin import environments
from shaperun.runs.run_folder import RunFolder, RunRemovedError
from shaperun.runs.study_folder import StudyFolder
from shaperun.study.models import RunConfig, parse_study
from shaperun.study.training import TrainingConfig
from shaperun.training import recorder
from shaperun.training import run as training_run
from shaperun.training.envs import TrainingEnvs
from shaperun.training.evaluation import Evaluation
from shaperun.training.normalization import ObservationScaling
from shaperun.training.run import TrainingRun
from shaperun.training.sb3_model import build_algorithm, deterministic_policy, load_policy
from shaperun.training.train import train_cohort, train_run


class ProbeEnv(gym.Env[Any, Any]):
    """One-step episodes: an action with the observed sign is rewarded with 1, the other with −1."""

    observation_space = spaces.Box(-1, 1, (1,))
    action_space = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.sign = self.np_random.choice([-1.0, 1.0])
        return np.array([self.sign], np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        right = (self.sign > 0) == (action == 1)
        return np.array([self.sign], np.float32), 1.0 if right else -1.0, True, False, {}


@pytest.fixture
def probe() -> Iterator[str]:
    gym.register("Probe-v0", lambda: ProbeEnv())  # type: ignore[arg-type]
    environment = Environment(
        "Probe-v0",
        ("side",),
        lambda end: np.where(end.env_reward > 0, "right", "wrong"),
        {"right": True, "wrong": False},
        time_limit=1,
    )

    @environment.state_term
    def sign(obs: Array) -> Array:
        """Observed sign."""
        return obs[:, 0]

    environments()["Probe-v0"] = environment
    yield "Probe-v0"
    del environments()["Probe-v0"]
    del gym.registry["Probe-v0"]


def make_config(env_id: str, seed: int = 0, **changes: Any) -> RunConfig:
    hyperparameters = {"n_steps": 32, "batch_size": 64, "n_epochs": 4, "gamma": 0.9}
    training = {"total_timesteps": 512, "n_envs": 4, "hyperparameters": hyperparameters}
    document = {
        "study": "test",
        "environment": {"id": env_id},
        "training": training | changes.pop("training", {}),
        "evaluation": {"every": 200, "episodes": 4, "final_episodes": 6}
        | changes.pop("evaluation", {}),
        "arms": {"arm": changes.pop("reward", {})},
    }
    study = parse_study(document)
    return study.run_config(study.arms["arm"], seed)


def train(folder: Path, run: RunConfig) -> RunFolder:
    train_run(RunFolder(folder), run)
    return RunFolder(folder)


@pytest.mark.parametrize("engine", ["sb3", "lockstep"])
def test_ppo_learns_the_values_of_a_probe(engine: str, probe: str, tmp_path: Path) -> None:
    training = {
        "engine": engine,
        "total_timesteps": 4096,
        "hyperparameters": {"n_steps": 64, "batch_size": 64, "learning_rate": 5e-3},
    }
    run = make_config(probe, training=training)
    folder = train(tmp_path / "run", run)
    act = load_policy(run, folder)
    assert act(np.array([[-1.0], [1.0]], np.float32)).tolist() == [0, 1]
    final = pl.read_csv(folder.evaluations)[-6:]
    assert final["return"].to_list() == [1.0] * 6
    assert set(final["outcome"]) == {"right"}
    model = build_algorithm(run.training, TrainingEnvs(run, [0], lambda row: None))
    model.set_parameters(str(folder.policy))
    values = model.policy.predict_values(torch.tensor([[-1.0], [1.0]]))  # type: ignore[operator]
    assert values.detach().numpy().ravel() == pytest.approx([1.0, 1.0], abs=0.1)


def test_a_run_is_determined_by_its_configuration_and_seed(tmp_path: Path) -> None:
    run = make_config(
        "CartPole-v1", training={"normalize": {"observations": True, "rewards": True}}
    )
    one, two = train(tmp_path / "one", run), train(tmp_path / "two", run)
    other = train(tmp_path / "other", run.model_copy(update={"seed": 1}))
    for name in ("episodes", "evaluations", "updates", "normalization"):
        first, second, third = (getattr(f, name).read_bytes() for f in (one, two, other))
        assert first == second
        assert first != third
    obs = np.random.default_rng(0).normal(size=(100, 4)).astype(np.float32)
    acts = [load_policy(run, folder)(obs).tolist() for folder in (one, two)]
    assert acts[0] == acts[1]


def test_arms_with_one_seed_are_paired(tmp_path: Path) -> None:
    rewards: list[dict[str, Any]] = [{}, {"mode": "replace", "weights": {"still": 1}}]
    folders = [
        train(tmp_path / str(place), make_config("CartPole-v1", reward=reward))
        for place, reward in enumerate(rewards)
    ]
    columns = ["seed", "length", "return"]
    first, second = (pl.read_csv(f.evaluations).filter(timesteps=0) for f in folders)
    assert first[columns].equals(second[columns])  # the same initial network
    first, second = (pl.read_csv(f.episodes) for f in folders)
    assert first[0, "length"] == second[0, "length"]  # the same environment and actions


def test_everything_is_recorded_and_adds_up(tmp_path: Path) -> None:
    reward = {"mode": "add", "weights": {"upright": 2, "push_right": 0.5}, "scale": 3}
    folder = train(tmp_path / "run", make_config("CartPole-v1", reward=reward))
    for table in (pl.read_csv(folder.episodes), pl.read_csv(folder.evaluations)):
        terms = 3 * (2 * table["sum_upright"] + 0.5 * table["sum_push_right"])
        assert table["shaping"].to_numpy() == pytest.approx(terms.to_numpy())
        shaped = (table["return"] + table["shaping"]).to_numpy()
        assert table["shaped_return"].to_numpy() == pytest.approx(shaped)
        assert (table["return"] == table["length"]).all()  # CartPole rewards every step with 1
    evaluations = pl.read_csv(folder.evaluations)
    # The untrained policy, every 200 steps while training, and the end.
    counts = evaluations.group_by("timesteps", maintain_order=True).len().rows()
    assert counts == [(0, 4), (200, 4), (400, 4), (512, 6)]
    assert pl.read_csv(folder.updates)["timesteps"].to_list() == [128, 256, 384, 512]
    record = read_json(folder.config)
    assert record["identity"] == folder.read_identity()
    assert {"torch", "gymnasium", "stable-baselines3"} <= record["versions"].keys()
    assert folder.read_progress()["timesteps"] == 512
    assert read_table(folder.episodes) == folder.episodes.read_bytes()


def test_files_of_an_unfinished_run_are_replaced(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.path.mkdir()
    folder.episodes.write_text("rubbish")
    folder.write_failure("an earlier failure")
    assert train(folder.path, make_config("CartPole-v1")).read_state() == "done"
    assert "rubbish" not in folder.episodes.read_text()
    assert folder.read_failure() is None


def test_a_locked_folder_is_refused(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.path.mkdir()
    lock = Lock(folder.lock)
    assert lock.acquire()
    with pytest.raises(RuntimeError, match="another process"):
        train_run(folder, make_config("CartPole-v1"))
    lock.release()
    assert not folder.config.exists()


@pytest.mark.parametrize("engine", ["lockstep", "sb3", "episodic"])
def test_a_folder_that_is_removed_during_training_is_not_made_again(
    engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class RemovingRecorder(recorder.RunRecorder):
        def on_step(self, now: int) -> None:
            if now == 200:
                shutil.rmtree(tmp_path / "study", ignore_errors=True)
            super().on_step(now)

    monkeypatch.setattr(training_run, "RunRecorder", RemovingRecorder)
    algorithm = "REINFORCE" if engine == "episodic" else "PPO"
    training = {"algorithm": algorithm, "engine": engine, "total_timesteps": 400, "n_envs": 1}
    config = make_config("CartPole-v1")
    hyperparameters = {} if engine == "episodic" else {"n_steps": 50, "batch_size": 50}
    section = TrainingConfig.model_validate(training | {"hyperparameters": hyperparameters})
    folder = StudyFolder(tmp_path / "study")
    members = [(str(folder.run("arm", seed).path), seed) for seed in (0, 1)]
    runs = [
        (path, config.model_copy(update={"training": section, "seed": seed}).model_dump_json())
        for path, seed in members
    ]
    with pytest.raises(RunRemovedError, match="was removed during training; run the same command"):
        train_cohort(runs if engine == "lockstep" else runs[:1])
    assert not folder.is_foreign()
    assert not any(path.is_file() for path in folder.path.rglob("run.json"))


def test_a_reward_out_of_range_fails_the_run(tmp_path: Path) -> None:
    reward = {"mode": "add", "terms": {"huge": "1e30 + x"}, "weights": {"huge": 1e12}}
    with pytest.raises(FloatingPointError, match=r"out of range \(1e\+42\); lower the weight"):
        train(tmp_path / "run", make_config("CartPole-v1", reward=reward))


def test_divergence_fails_the_run(tmp_path: Path) -> None:
    wild = {"learning_rate": 1e30, "n_steps": 32, "batch_size": 32}
    run = make_config("CartPole-v1", training={"hyperparameters": wild})
    with pytest.raises(FloatingPointError, match=r"diverged: .* no longer finite"):
        train(tmp_path / "run", run)
    assert RunFolder(tmp_path / "run").read_state() == "interrupted"  # the driver records failures


def test_the_scaling_of_a_policy_is_frozen(tmp_path: Path) -> None:
    """Later training steps must not change the statistics of an evaluation."""
    run = make_config("CartPole-v1", training={"normalize": {"observations": True}})
    envs = VecNormalize(TrainingEnvs(run, [1, 2], lambda row: None))
    model = build_algorithm(run.training, envs)
    envs.reset()
    before = ObservationScaling.from_envs(envs)
    assert before is not None
    mean = before.mean.copy()
    for _ in range(50):
        envs.step(np.array([0, 1]))
    assert np.array_equal(before.mean, mean)
    assert deterministic_policy(model, before)(np.zeros((3, 4), np.float32)).shape == (3,)


@pytest.mark.parametrize(
    ("engine", "algorithm", "n_envs", "scheduled"),
    [
        ("sb3", "PPO", 4, False),
        ("lockstep", "PPO", 4, False),
        ("auto", "DQN", 1, False),
        ("auto", "GRPO", 8, False),
        ("sb3", "PPO", 4, True),
        ("lockstep", "PPO", 4, True),
    ],
)
def test_unchanged_policy_is_not_evaluated_twice(
    engine: str,
    algorithm: str,
    n_envs: int,
    scheduled: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reward = {"mode": "add", "weights": {"upright": 1}}
    reward |= {"schedule": {"kind": "linear"}} if scheduled else {}
    rollout = {"n_steps": 64, "batch_size": 64} if algorithm == "PPO" else {}
    config = make_config(
        "CartPole-v1",
        reward=reward,
        training={
            "algorithm": algorithm,
            "engine": engine,
            "n_envs": n_envs,
            "hyperparameters": {"gamma": 0.9} | rollout,
        },
        evaluation={"every": 64, "episodes": 4, "final_episodes": 6},
    )
    folder = train(tmp_path / "known", config)
    played = len(played_evaluations(monkeypatch, tmp_path / "counted", config))
    rows = pl.read_csv(folder.evaluations)
    points = rows["timesteps"].n_unique()
    assert played == points if scheduled else 1 < played < points
    monkeypatch.setattr(TrainingRun, "known_evaluation", lambda run, *, final: None)
    again = train(tmp_path / "again", config)
    assert read_table(folder.evaluations) == read_table(again.evaluations)


def played_evaluations(
    monkeypatch: pytest.MonkeyPatch, folder: Path, config: RunConfig
) -> list[int]:
    """Train a run; return the number of episodes of each evaluation that is played."""
    played, play = [], Evaluation.play

    def count(evaluation: Evaluation, episodes: int, progress: float) -> Any:
        played.append(episodes)
        return play(evaluation, episodes, progress)

    with monkeypatch.context() as patch:
        patch.setattr(Evaluation, "play", count)
        train(folder, config)
    return played
