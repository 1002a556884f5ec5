"""Environments that observe pictures: training, resume and replay."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import polars as pl
import pytest
import torch
from gymnasium import spaces
from pydantic import ValidationError
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.preprocessing import is_image_space, preprocess_obs
from stable_baselines3.common.torch_layers import CombinedExtractor

from shaperun.envs.base import Transition
from shaperun.runs.run_folder import RunFolder
from shaperun.study.models import RunConfig, parse_study
from shaperun.training.envs import TrainingEnvs
from shaperun.training.evaluation import Evaluation
from shaperun.training.pictures import PicturesExtractor
from shaperun.training.safe_load import read_any_parameters
from shaperun.training.sb3_model import load_policy
from tests.training.test_checkpoint import read_outcome, train_to_end, train_until_killed


class Corridor(gym.Env[Any, Any]):
    """A bright column in a picture (6, 8, 3), which actions move to the right."""

    observation_space = spaces.Box(0, 255, (6, 8, 3), np.uint8)
    action_space = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.place = int(self.np_random.integers(4))
        return self._picture(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.place += int(action)
        return self._picture(), float(action), self.place >= 7, False, {}

    def _picture(self) -> Any:
        picture = np.zeros((6, 8, 3), np.uint8)
        picture[:, self.place] = 250, 100, 20
        return picture


class Cameras(gym.Env[Any, Any]):
    """Two pictures, channels last and first, a small one, and numbers before, between and after."""

    action_space = spaces.Discrete(2)

    def __init__(self) -> None:
        rear: Any = spaces.Box(0, 255, (1, 37, 36), np.uint8)
        self.observation_space = spaces.Dict(
            {
                "battery": spaces.Box(-1, 1, (2,)),
                "front": spaces.Box(0, 255, (36, 40, 3), np.uint8),
                "gear": spaces.Discrete(3),
                "rear": spaces.Tuple([rear]),
                "thumbnail": spaces.Box(0, 255, (4, 4, 3), np.uint8),
            }
        )

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.observation_space.seed(int(self.np_random.integers(2**31)))
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return self.observation_space.sample(), float(action), False, False, {}


gym.register("Corridor-v0", lambda **_: Corridor(), max_episode_steps=12)
gym.register("Cameras-v0", lambda **_: Cameras(), max_episode_steps=12)


def make_config(algorithm: str, env_id: str = "Corridor-v0", **training: Any) -> RunConfig:
    dim = '-obs["front"][0, 0, 1]' if env_id == "Cameras-v0" else "-obs[0, 0, 1]"
    hyperparameters = {"PPO": {"n_steps": 20, "batch_size": 20}, "GRPO": {"group_size": 2}}
    study = parse_study(
        {
            "study": "test",
            "environment": {"id": env_id, "options": {"max_episode_steps": 10}},
            "training": {
                "algorithm": algorithm,
                "total_timesteps": 200,
                "n_envs": 2,
                "hyperparameters": hyperparameters.get(algorithm, {}),
                **training,
            },
            "evaluation": {"episodes": 1, "final_episodes": 20},
            "arms": {"arm": {"mode": "add", "terms": {"dim": dim}, "weights": {"dim": 0.01}}},
        }
    )
    return study.run_config(study.arms["arm"], 1)


@pytest.mark.parametrize(
    ("algorithm", "training"),
    [
        ("PPO", {}),
        ("PPO", {"normalize": {"rewards": True}}),
        ("PPO", {"normalize": {"observations": True}}),
        ("A2C", {}),
        ("GRPO", {}),
    ],
)
def test_a_killed_run_ends_in_the_same_bytes_and_loads_in_stable_baselines3(
    algorithm: str, training: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config(algorithm, **training)
    folder = train_to_end(tmp_path / "whole", config)
    train_until_killed(tmp_path / "killed", config, monkeypatch, at=120)
    killed = train_to_end(tmp_path / "killed", config)
    assert killed.read_record()["resume"] == "exact"
    assert read_outcome(killed) == read_outcome(folder)
    if not training.get("normalize", {}).get("observations"):
        loaded: BaseAlgorithm = (A2C if algorithm == "A2C" else PPO).load(folder.policy)
        obs = np.random.default_rng(0).integers(0, 256, (16, 6, 8, 3)).astype(np.uint8)
        theirs = loaded.predict(obs, deterministic=True)[0]
        assert theirs.tolist() == load_policy(config, folder)(obs).tolist()


@pytest.mark.parametrize("normalize", [False, True])
def test_a_killed_run_with_pictures_in_a_dict_ends_in_the_same_bytes(
    normalize: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config("PPO", "Cameras-v0", normalize={"observations": normalize})
    assert (config.training.policy, config.training.engine) == ("MultiInputPolicy", "sb3")
    folder = train_to_end(tmp_path / "whole", config)
    train_until_killed(tmp_path / "killed", config, monkeypatch, at=120)
    assert read_outcome(train_to_end(tmp_path / "killed", config)) == read_outcome(folder)
    with closing(Evaluation(config)) as evaluation:
        rows = evaluation(load_policy(config, folder), 20, 1.0)
    recorded = pl.read_csv(folder.evaluations)["return"][-20:]
    assert [row["return"] for row in rows] == recorded.to_list()


def test_features_of_a_dict_are_those_of_stable_baselines3() -> None:
    space: Any = Cameras().observation_space
    transposed = spaces.Box(0, 255, (3, 36, 40), np.uint8)
    theirs_space = spaces.Dict({**space.spaces, "front": transposed, "rear": space["rear"][0]})
    del theirs_space.spaces["thumbnail"]  # too small for their network
    theirs = CombinedExtractor(theirs_space)
    flat: Any = make_config("PPO", "Cameras-v0").environment.make().observation_space
    ours = PicturesExtractor(flat, is_scaled=False)
    for network, key in zip(ours.networks, ("front", "rear"), strict=True):
        network.load_state_dict(theirs.extractors[key].state_dict())
    space.seed(0)
    samples = [space.sample() for _ in range(3)]
    rows = torch.tensor(np.array([spaces.flatten(space, s) for s in samples])).float()
    shown = [{**s, "rear": s["rear"][0], "front": s["front"].transpose(2, 0, 1)} for s in samples]
    parts = {}
    for key, part in theirs_space.spaces.items():
        stacked = torch.tensor(np.array([sample[key] for sample in shown]))
        parts[key] = stacked / 255 if is_image_space(part) else preprocess_obs(stacked, part)
    theirs_features, features = theirs(parts), ours(rows)
    by_key = dict(zip(parts, theirs_features.split([2, 256, 3, 256], dim=1), strict=True))
    expected = torch.cat([by_key[key] for key in ("front", "rear", "battery", "gear")], dim=1)
    torch.testing.assert_close(features[:, : expected.shape[1]], expected)
    thumbnails = torch.tensor(np.array([sample["thumbnail"].ravel() for sample in samples]))
    torch.testing.assert_close(features[:, expected.shape[1] :], thumbnails.float())


@pytest.mark.parametrize(
    ("algorithm", "env_id", "policy", "message"),
    [
        ("PPO", "Cameras-v0", "CnnPolicy", "is for pictures of bytes, 36 × 36 or more, .* numbers"),
        ("PPO", "Corridor-v0", "CnnPolicy", "sees 6 × 8 × 3 numbers; choose MlpPolicy"),
        ("PPO", "CarRacing-v3", "MultiInputPolicy", "is for a Dict or Tuple .* choose CnnPolicy"),
        (
            "GRPO",
            "Cameras-v0",
            "MultiInputPolicy",
            "GRPO has no MultiInputPolicy; choose Mlp",
        ),
    ],
)
def test_policies_that_do_not_fit_are_refused(
    algorithm: str, env_id: str, policy: str, message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        make_config(algorithm, env_id, policy=policy)


def test_pictures_for_a_cnn_are_not_normalized() -> None:
    with pytest.raises(ValidationError, match="CnnPolicy takes pictures as bytes"):
        make_config("PPO", "CarRacing-v3", normalize={"observations": True})
    policy = make_config(
        "PPO", "CarRacing-v3", policy="MlpPolicy", normalize={"observations": True}
    )
    assert policy.training.policy == "MlpPolicy"


@pytest.mark.parametrize("algorithm", ["DQN", "TRPO"])
def test_other_learners_look_at_pictures_in_a_dict(algorithm: str, tmp_path: Path) -> None:
    config = make_config(algorithm, "Cameras-v0", total_timesteps=20)
    folder = train_to_end(tmp_path / "run", config)
    names = read_any_parameters(folder.policy)
    assert any("networks.1.cnn" in name for name in names)


def test_the_loaded_policy_is_the_one_that_was_evaluated(tmp_path: Path) -> None:
    """With normalized observations, pictures are plain numbers for stable-baselines3."""
    config = make_config("PPO", normalize={"observations": True}, total_timesteps=400)
    folder = train_to_end(tmp_path / "run", config)
    with closing(Evaluation(config)) as evaluation:
        rows = evaluation(load_policy(config, folder), 20, 1.0)
    recorded = pl.read_csv(folder.evaluations)["return"][-20:]
    assert [row["return"] for row in rows] == recorded.to_list()
    assert recorded.n_unique() > 1


def test_car_racing_is_trained_by_default(tmp_path: Path) -> None:
    config = make_config("PPO", "CarRacing-v3", total_timesteps=16)
    assert config.training.engine == "sb3"
    assert isinstance(train_to_end(tmp_path / "run", config), RunFolder)


def test_lockstep_refuses_pictures() -> None:
    with pytest.raises(ValidationError, match="PPO on pictures is trained by sb3, not by lockstep"):
        make_config("PPO", engine="lockstep")


def test_rollouts_keep_pictures_in_bytes_and_terms_see_numbers() -> None:
    seen: list[Transition] = []
    envs = TrainingEnvs(make_config("PPO"), [0, 1], lambda row: None)
    record = envs.recorder.record
    envs.recorder.record = lambda t, rewards: (seen.append(t), record(t, rewards))[1]  # type: ignore
    envs.reset()
    for _ in range(60):
        envs.send(np.zeros(2, int))
        envs.receive()
    rewards = envs.shape_rewards()
    assert seen[0].obs.dtype == seen[0].next_obs.dtype == np.uint8
    assert set(np.unique(rewards)) == {0.0, -1.0}  # in bytes, −100 would be 156
