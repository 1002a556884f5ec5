from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
from threadpoolctl import threadpool_info, threadpool_limits

from shaperun.common.files import read_json
from shaperun.runs.run_folder import RunFolder
from shaperun.runs.study_folder import StudyFolder
from shaperun.study.environment import EnvironmentConfig
from shaperun.study.models import RunConfig
from shaperun.study.training import TrainingConfig
from shaperun.training.normalization import ObservationScaling
from shaperun.training.sb3_model import (
    build_algorithm,
    deterministic_policy,
    load_policy,
    use_one_thread,
)


def load_guided_run(trained: Path) -> tuple[RunConfig, RunFolder]:
    folder = StudyFolder(trained / "results" / "tiny").run("guided", 1)
    return RunConfig.model_validate(read_json(folder.config)["config"]), folder


def test_a_policy_acts_the_same_in_stable_baselines3(trained: Path) -> None:
    config, folder = load_guided_run(trained)
    scaling = ObservationScaling.load(folder, (4,))
    theirs = deterministic_policy(PPO.load(folder.policy, device="cpu"), scaling)
    ours = load_policy(config, folder)
    obs = np.random.default_rng(0).normal(size=(200, 4)).astype(np.float32)
    assert (ours(obs) == theirs(obs)).all()
    assert len(set(ours(obs).tolist())) == 2


def test_frozen_scaling_matches_vecnormalize(tmp_path: Path) -> None:
    envs = VecNormalize(DummyVecEnv([make_cartpole] * 3))
    envs.reset()
    for _ in range(200):
        envs.step(np.array([envs.action_space.sample() for _ in range(3)]))
    scaling = ObservationScaling.from_envs(envs)
    assert scaling is not None
    obs = np.random.default_rng(0).normal(scale=20, size=(50, 4)).astype(np.float32)
    assert np.array_equal(scaling(obs), np.asarray(envs.normalize_obs(obs)))
    scaling.save(RunFolder(tmp_path))
    loaded = ObservationScaling.load(RunFolder(tmp_path), (4,))
    assert np.array_equal(loaded(obs), scaling(obs))
    assert ObservationScaling.from_envs(DummyVecEnv([make_cartpole])) is None


def make_cartpole() -> Any:
    return EnvironmentConfig(id="CartPole-v1").make()


@pytest.mark.parametrize(
    ("algorithm", "hyperparameters"),
    [
        ("PPO", {"n_steps": 8, "batch_size": 8, "learning_rate": "lin_1e-3"}),
        ("A2C", {"policy_kwargs": {"net_arch": {"pi": [8], "vf": [16]}, "activation_fn": "relu"}}),
        ("DQN", {"train_freq": [4, "step"], "learning_starts": 8, "buffer_size": 100}),
        ("TRPO", {"n_steps": 8, "batch_size": 8}),
    ],
)
def test_algorithms_learn_with_their_hyperparameters(
    algorithm: str, hyperparameters: dict[str, Any]
) -> None:
    training = TrainingConfig.model_validate(
        {"algorithm": algorithm, "total_timesteps": 64, "hyperparameters": hyperparameters}
    )
    model = build_algorithm(training, DummyVecEnv([make_cartpole]))
    assert type(model).__name__ == algorithm
    model.learn(64)
    if algorithm == "PPO":
        assert model.lr_schedule(0.5) == pytest.approx(5e-4)
    if algorithm == "A2C":
        layers = [type(layer).__name__ for layer in model.policy.mlp_extractor.policy_net]  # type: ignore[union-attr]
        assert layers == ["Linear", "ReLU"]


def test_the_fused_optimizer_keeps_the_options_of_adam() -> None:
    """Asking for the fused kernel must not drop the options that policies set by default."""
    for algorithm in ("PPO", "DQN", "TRPO"):
        training = TrainingConfig.model_validate({"algorithm": algorithm, "total_timesteps": 64})
        model = build_algorithm(training, DummyVecEnv([make_cartpole]))
        create: Any = type(model)
        theirs = create("MlpPolicy", DummyVecEnv([make_cartpole]), device="cpu")
        ours, plain = (m.policy.optimizer.param_groups[0] for m in (model, theirs))
        assert ours["fused"]
        assert {k: v for k, v in ours.items() if k not in ("params", "fused")} == {
            k: v for k, v in plain.items() if k not in ("params", "fused")
        }


def test_matrix_products_of_numpy_use_one_thread() -> None:
    with threadpool_limits(2, "blas"):
        use_one_thread()
        pools = threadpool_info()
        assert {pool["num_threads"] for pool in pools if pool["user_api"] == "blas"} == {1}
