"""Versions of the code and the data that runs name."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from shaperun.runs.code_files import hash_code
from shaperun.study.models import parse_study
from tests.conftest import made_once, run_shaperun

MODULES = {
    "worlds": """\
import gymnasium as gym
from gymnasium.envs.classic_control import CartPoleEnv

class World(CartPoleEnv):
    def __init__(self, data=None, **options):
        super().__init__(**options)

gym.register("World-v0", World, max_episode_steps=20)
""",
    "views": """\
import gymnasium as gym
import numpy as np

class Scaled(gym.ObservationWrapper):
    size = 4
    def __init__(self, env):
        super().__init__(env)
        self.observation_space = gym.spaces.Box(-99, 99, (self.size,))
    def observation(self, obs):
        return np.resize(2 * obs, self.size).astype("float32")
""",
    "pays.terms": "def height(obs):\n    return obs[:, 2]\n",
}
STUDY: dict[str, Any] = {
    "study": "coded",
    "environment": {
        "id": "worlds:World-v0",
        "options": {"data": "maps/data.txt"},
        "wrappers": ["views:Scaled"],
    },
    "training": {
        "total_timesteps": 40,
        "n_envs": 2,
        "hyperparameters": {"n_steps": 10, "batch_size": 20},
    },
    "seeds": [0],
    "evaluation": {"every": 40, "episodes": 2, "final_episodes": 2},
    "terms": {"height": {"python": "pays.terms:height", "state_only": True}},
    "arms": {"default": {}},
}
FILES = ("worlds", "views", "pays.terms", "file maps/data.txt")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    def train(folder: Path) -> None:
        for name, text in MODULES.items():
            file = folder / f"{name.replace('.', '/')}.py"
            file.parent.mkdir(exist_ok=True)
            file.write_text(text)
        (folder / "maps").mkdir()
        (folder / "maps/data.txt").write_text("1")
        (folder / "coded.yaml").write_text(yaml.safe_dump(STUDY))
        done = run_shaperun("train", "coded.yaml", "-q", "--allow-code", cwd=folder)
        assert done.returncode == 0, done.stderr

    return made_once(tmp_path_factory, "coded", train)


@pytest.fixture
def coded(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_run_records_every_file_that_it_names(coded: Path) -> None:
    record = json.loads((coded / "results/coded/runs/default/0/run.json").read_text())
    assert sorted(record["code"]) == sorted(FILES)


def test_other_versions_are_named(coded: Path) -> None:
    command = ("coded.yaml", "--allow-code", "--set", "seeds=2")
    shown = [n.removeprefix("file ") if " " in n else f"{n.replace('.', '/')}.py" for n in FILES]
    assert "another version" not in run_shaperun("compare", *command, cwd=coded).stdout
    for name in shown:
        with (coded / name).open("a") as file:
            file.write("\n")
    trained = run_shaperun("train", *command, cwd=coded).stderr  # only seed 1
    compared = " ".join(run_shaperun("compare", *command, cwd=coded).stdout.split())
    for name in shown:
        sentence = f"default/0 was trained with another version of {name} than the present one"
        assert f"{sentence}." in trained
        assert f"{sentence}; differences between runs may come from that." in compared
    filmed = run_shaperun("record-gif", *command, "--seed", "0", cwd=coded)
    named = "trained with another version of pays/terms.py, views.py, worlds.py, maps/data.txt"
    assert named in " ".join(filmed.stderr.split())


def test_a_policy_of_another_version_is_not_damaged(coded: Path) -> None:
    views = coded / "views.py"
    views.write_text(views.read_text().replace("size = 4", "size = 5"))
    failed = run_shaperun("record-gif", "coded.yaml", "--allow-code", cwd=coded)
    assert failed.returncode == 2
    assert "was trained with another version of views.py and does not fit" in failed.stderr
    assert "damaged" not in failed.stderr


def test_names_that_are_no_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    data = STUDY | {"environment": {"id": "CartPole-v1"}, "terms": {}}
    config = parse_study(data).run_config(parse_study(data).arms["default"], 0)
    texts = {"a": "x" * 5000, "b": ["\0", "~nobody/x", "."], "c": {"d": "/dev/zero"}}
    environment = config.environment.model_copy(update={"options": texts, "id": "gone.module:X-v0"})
    assert hash_code(config.model_copy(update={"environment": environment})) == {}
