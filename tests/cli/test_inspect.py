"""`init`, `terms` and `schema`, and environments that packages register."""

import json
from pathlib import Path

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
