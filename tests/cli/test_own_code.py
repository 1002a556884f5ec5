"""Messages about environments and modules of the user that fail."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from shaperun.training import evaluation
from tests.conftest import Shaperun

MODULE = '''
import sys

import gymnasium as gym
import numpy as np


class Own(gym.Env):
    """It fails in the fifth step as its options say."""

    metadata = {"render_modes": ["rgb_array"]}
    observation_space = gym.spaces.Box(-9, 9, (2,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def __init__(self, kind="", render_mode=None):
        self.kind, self.render_mode = kind, render_mode
        if kind == "blind":
            self.metadata = {"render_modes": ["human"]}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.n = 0
        return np.zeros(2, np.float32), {}

    def step(self, action):
        self.n += 1
        obs, info = np.full(2, self.n % 7, np.float32), {}
        late = self.n == 5
        if self.kind == "raise" and late:
            raise RuntimeError("the motor broke\\nin two")
        if self.kind == "exit" and late:
            sys.exit(0)
        if self.kind == "odd" and late:
            raise BaseException
        if self.kind == "nan" and late:
            obs[1] = np.nan
        if self.kind == "four":
            return obs, 1.0, False, info
        if self.kind == "text":
            return obs, "much", False, False, info
        if self.kind == "print":
            print("stepping")
        if self.kind == "shape" and late:
            obs = np.zeros(3, np.float32)
        if self.kind == "integers":
            return obs, 1.0, int(late), None, info
        if self.kind == "no info":
            return obs, 1.0, late, False, None
        if self.kind == "cycle":
            info["self"] = info
        return obs, 1.0, self.kind != "endless" and self.n > 9, False, info

    def render(self):
        if self.kind == "floats":
            return np.zeros((9, 9, 3))
        return None if self.kind == "none" else np.zeros((9, 9, 3), np.uint8)


gym.register("Own-v0", Own)
'''
STUDY = """\
study: own
environment: {{id: "own_failing:Own-v0", ends_itself: true, options: {{kind: "{kind}"}}}}
training:
  total_timesteps: 128
  n_envs: 2
  engine: {engine}
  hyperparameters: {{n_steps: 32, batch_size: 32}}
seeds: 1
evaluation: {{every: 128, episodes: 1, final_episodes: 1}}
arms:
  default: {{}}
  far: {{mode: add, weights: {{far: 1}}, terms: {{far: "previous(obs[0])"}}}}
"""

Write = Callable[..., None]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    (tmp_path / "own_failing.py").write_text(MODULE)
    monkeypatch.delitem(sys.modules, "own_failing", raising=False)

    def write(kind: str, engine: str = "sb3") -> None:
        (tmp_path / "own.yaml").write_text(STUDY.format(kind=kind, engine=engine))

    return write


SHAPES = "reset must return (observation, info), and step (observation, reward, terminated"


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("raise", "RuntimeError: the motor broke (own_failing.py:30)"),
        ("exit", "SystemExit: 0 (own_failing.py:32)"),
        ("odd", "BaseException (own_failing.py:34)"),
        (
            "nan",
            "the observation of own_failing:Own-v0 is nan at entry 1 (episode 0, step 5); correct "
            "the environment",
        ),
        ("four", f"ValueError: not enough values to unpack (expected 5, got 4); {SHAPES}"),
        ("text", "the environment's reward is 'much', not a number; correct the environment"),
        ("shape", "an observation has shape (3,), and one before it (2,); correct the environment"),
        ("no info", "step returned None as info, not a dictionary; correct the environment"),
        ("cycle", "the info of a step contains itself; correct the environment"),
    ],
)
def test_check_says_where_the_environment_fails(
    kind: str, message: str, write: Write, shaperun: Shaperun
) -> None:
    write(kind)
    done = shaperun("check", "own.yaml", "--allow-code")
    assert done.returncode == 2
    assert done.stderr.startswith(f"own_failing:Own-v0 cannot be played: {message}")
    assert "own_failing.py" in shaperun("--debug", "check", "own.yaml", "--allow-code").stderr or (
        "own_failing.py" not in message
    )


@pytest.mark.parametrize("engine", ["sb3", "lockstep"])
@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("raise", "RuntimeError: the motor broke (own_failing.py:30)"),
        ("exit", "SystemExit: 0 (own_failing.py:32)"),
        ("nan", "is nan at entry 1 (episode 0, step 5); correct the environment"),
    ],
)
def test_training_says_where_the_environment_fails(
    kind: str, message: str, engine: str, write: Write, shaperun: Shaperun, tmp_path: Path
) -> None:
    write(kind, engine)
    done = shaperun("train", "own.yaml", "--allow-code", "--executor", "inline")
    assert done.returncode == 1
    failure = next(line for line in done.stderr.splitlines() if "default/0 failed" in line)
    assert message in failure
    text = (tmp_path / "results/own/runs/default/0/error.txt").read_text()
    assert text.startswith("Traceback")
    assert message in text.splitlines()[-1]


def test_integers_end_episodes(write: Write, shaperun: Shaperun) -> None:
    write("integers")
    done = shaperun("check", "own.yaml", "--allow-code", "--json")
    rankings = json.loads(done.stdout)["rankings"]
    assert [row["length"] for row in rankings["default"]] == [5, 5]
    # Environment return, and the sum of 1, 1, 2, 3, 4.
    assert [row["shaped_return"] for row in rankings["far"]] == [5 + 11, 5 + 11]


def test_check_finds_that_episodes_do_not_end(write: Write, shaperun: Shaperun) -> None:
    write("endless")
    done = shaperun("check", "own.yaml", "--allow-code", "--json")
    warnings = {w["rule"]: w["message"] for w in json.loads(done.stdout)["warnings"]}
    assert (
        "(repeat action 0: 6, act randomly: 6) had not ended after 2,000"
        in warnings["endless-episodes"]
    )
    assert "{max_episode_steps: 500}" in warnings["endless-episodes"]
    write("integers")
    done = shaperun("check", "own.yaml", "--allow-code", "--json")
    assert "endless-episodes" not in {w["rule"] for w in json.loads(done.stdout)["warnings"]}


def test_training_does_not_wait_for_ever(
    write: Write, shaperun: Shaperun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluation, "MAX_EPISODE_STEPS", 50)
    write("endless")
    done = shaperun("train", "own.yaml", "--allow-code", "--executor", "inline")
    assert done.returncode == 1
    assert "endless-episodes: 12 of 12" in done.stderr
    assert "an episode has not ended after 50 steps; set a time limit, as in env" in done.stderr


def test_prints_of_an_environment_are_not_in_the_document(write: Write, shaperun: Shaperun) -> None:
    write("print")
    done = shaperun("check", "own.yaml", "--allow-code", "--json")
    assert json.loads(done.stdout)["study"] == "own"
    assert "stepping" in done.stderr


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("blind", 'metadata["render_modes"] has human, and pictures need "rgb_array"; list it'),
        ("floats", "render returned float64 (9, 9, 3); with render_mode="),
        ("none", "render returned None; with render_mode="),
    ],
)
def test_films_say_what_render_must_return(
    kind: str, message: str, write: Write, shaperun: Shaperun
) -> None:
    write(kind)
    assert shaperun("train", "own.yaml", "--allow-code", "--executor", "inline").returncode == 0
    done = shaperun("record-gif", "own.yaml", "--allow-code")
    assert done.returncode == 2
    assert done.stderr.startswith(f"own_failing:Own-v0 cannot be rendered: {message}")
    assert "render must return an array (height, width, 3) of uint8" in done.stderr
