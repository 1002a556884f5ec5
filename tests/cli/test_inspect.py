"""`init`, `terms` and `schema`, and environments that packages register."""

import json
from pathlib import Path

import pytest
import yaml

from shaperun.envs.builtin import environments
from tests.conftest import Shaperun, call_shaperun

PACKAGE = """\
import gymnasium as gym
from gymnasium.envs.classic_control import CartPoleEnv

gym.register("Mine-v0", CartPoleEnv, max_episode_steps=9)
"""


def test_environment_of_a_package(tmp_path: Path) -> None:
    (tmp_path / "package_of_mine.py").write_text(PACKAGE)
    name = "package_of_mine:Mine-v0"
    refused = call_shaperun("terms", name, cwd=tmp_path)
    assert refused.returncode == 2
    assert f"{name} names Python code; pass --allow-code if you trust it" in refused.stderr
    done = call_shaperun("terms", name, "--allow-code", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "obs[0] … obs[3]" in done.stdout


def test_unknown_environment_says_how_packages_name_theirs(tmp_path: Path) -> None:
    done = call_shaperun("terms", "Nowhere-v7", cwd=tmp_path)
    assert done.returncode == 2
    assert "unknown environment Nowhere-v7" in done.stderr
    assert "(PACKAGE:NAME for one of a package)" in done.stderr


def test_init_writes_a_valid_study(shaperun: Shaperun, tmp_path: Path) -> None:
    assert shaperun("init").returncode == 0
    done = shaperun("train", "study.yaml", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "20 runs" in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["study.yaml"]


def test_terms_and_schema_name_every_term(shaperun: Shaperun) -> None:
    assert "main_engine" in shaperun("terms", "LunarLander-v3").stdout
    assert "upright" in json.dumps(json.loads(shaperun("schema").stdout))


INFERRED = ["Taxi-v4", "FrozenLake-v1", "CliffWalking-v1", "CarRacing-v3", "endless:Endless-v0"]


@pytest.mark.parametrize("name", [*environments(), *INFERRED])
def test_init_writes_a_study_of_any_environment(tmp_path: Path, name: str) -> None:
    endless = PACKAGE.replace("=9", "=None").replace("Mine", "Endless")
    (tmp_path / "endless.py").write_text(endless)
    code = ["--allow-code"] if ":" in name else []
    done = call_shaperun("init", "new.yaml", "--env", name, *code, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    train = " ".join(["shaperun train new.yaml", *code])
    assert f"Wrote new.yaml. To train it: {train}" in done.stdout
    text = (tmp_path / "new.yaml").read_text()
    for term in environments()[name].terms.values() if name in environments() else ():
        assert f"{term.name} (" in text
        assert term.formula in text
    done = call_shaperun("train", "new.yaml", "--dry-run", *code, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "10 runs" in done.stdout
    data = yaml.safe_load(text)
    limited = "max_episode_steps" in data["environment"].get("options", {})
    assert limited == (name in ("CliffWalking-v1", "endless:Endless-v0"))


@pytest.mark.parametrize("name", ["Acrobot-v1", "Pendulum-v1", "FrozenLake-v1", "mine:Mine-v0"])
def test_the_study_that_init_writes_is_checked_and_trained(tmp_path: Path, name: str) -> None:
    (tmp_path / "mine.py").write_text(PACKAGE)
    code = ["--allow-code"] if ":" in name else []
    call_shaperun("init", "--env", name, *code, cwd=tmp_path)
    checked = call_shaperun("check", "study.yaml", *code, cwd=tmp_path)
    assert checked.returncode == 0, checked.stderr
    assert "too-few-updates" not in checked.stdout
    short = ["training.total_timesteps=2048", "seeds=1", "evaluation.final_episodes=2"]
    options = [word for text in short for word in ("--set", text)]
    done = call_shaperun(
        "train", "study.yaml", "-q", "--executor", "inline", *options, *code, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr


def test_init_refuses_environments_that_cannot_be_used(shaperun: Shaperun, tmp_path: Path) -> None:
    for name, why in {
        "Acrobat-v1": "did you mean Acrobot-v1?",
        "mine:Mine-v0": "names Python code; pass --allow-code if you trust it",
    }.items():
        refused = shaperun("init", "--env", name)
        assert refused.returncode == 2
        assert why in refused.stderr
        assert len(refused.stderr.splitlines()) == 1
    assert not list(tmp_path.iterdir())
