"""Every command on an environment of a module, with outcomes and metrics of its study."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from shaperun.study.loader import load_study
from tests.conftest import Shaperun

GRID = '''
import gymnasium as gym
import numpy as np


class Grid(gym.Env):
    """A grid with a goal, a pit, and coins found by chance, which its info counts."""

    observation_space = gym.spaces.Box(0, 4, (2,), np.float32)
    action_space = gym.spaces.Discrete(4)

    def __init__(self, render_mode=None):
        self.render_mode = render_mode

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.at, self.coins = np.zeros(2, int), 0
        return self.at.astype(np.float32), {}

    def step(self, action):
        self.at = np.clip(self.at + [(1, 0), (-1, 0), (0, 1), (0, -1)][action], 0, 4)
        self.coins += int(self.np_random.random() < 0.1)
        goal, pit = (self.at == 4).all(), (self.at == 2).all()
        obs = self.at.astype(np.float32)
        return obs, float(goal), bool(goal or pit), False, {"coins": self.coins}


gym.register("Grid-v0", Grid, max_episode_steps=20)
'''
GRID_STUDY = """\
study: grid
environment:
  id: grid_of_mine:Grid-v0
  outcomes:
    arrived: {when: "terminated and env_reward > 0", success: true}
    fell: {when: terminated, success: false}
  metrics:
    coins: {value: 'info["coins"]', of: last, better: higher}
training:
  total_timesteps: 256
  n_envs: 2
  hyperparameters: {n_steps: 64, batch_size: 64, n_epochs: 1}
seeds: 2
evaluation: {every: 128, episodes: 2, final_episodes: 3}
terms: {near: {formula: "exp(-k * hypot(obs[0] - 4, obs[1] - 4))", k: 1}}
arms:
  default: {}
  guided: {mode: add, weights: {fell: -1, near: 1}, terms: {near: {k: 0.5}}}
sweep:
  base: guided
  method: random
  weights: {near: {low: 0.1, high: 1}, near.k: {low: 0.1, high: 2, log: true}}
  objective: [coins, -fell_rate]
  samples: 3
  confirm: 1
"""


def final_means(results: Path, arm: str, column: pl.Expr) -> list[float]:
    """Return the means over the last evaluation of both seeds, from the recorded episodes."""
    paths = [results / "runs" / arm / seed / "evaluations.csv" for seed in "01"]
    last = pl.col("timesteps") == pl.col("timesteps").max()
    return [pl.read_csv(path).filter(last).select(column.mean()).item() for path in paths]


def test_a_grid_world_from_study_to_report(shaperun: Shaperun, tmp_path: Path) -> None:
    (tmp_path / "grid_of_mine.py").write_text(GRID)
    (tmp_path / "grid.yaml").write_text(GRID_STUDY)
    results = tmp_path / "results/grid"

    def run(*command: str) -> str:
        done = shaperun(*command, "grid.yaml", "--allow-code")
        assert done.returncode == 0, done.stderr
        return done.stdout

    checked = json.loads(run("check", "--json"))
    assert "unmatched-ends" in {warning["rule"] for warning in checked["warnings"]}
    assert {"arrived", "fell", "other"} & {b["outcome"] for b in checked["rankings"]["guided"]}
    run("train", "--workers", "1")
    compared = json.loads(run("compare", "--json", "--by", "coins"))
    assert_means_are_those_of_the_episodes(compared, results)
    swept = run("sweep", "--workers", "1")
    assert {"near.k", "coins"} <= {*swept.split()}
    ranking = json.loads((results / "sweep/ranking.json").read_text())["ranking"]
    assert all({"near", "near.k", "fell_rate"} <= row.keys() for row in ranking)
    for row in ranking:
        coins = final_means(results, row["arm"], pl.col("coins"))
        assert row["coins"] == pytest.approx(sum(coins) / 2)
    assert (results / "sweep/response-near.k.svg").exists()
    best = load_study(results / "sweep/best.yaml", allow_code=True)
    assert best.environment.metrics.keys() == {"coins"}
    run("report", "--quiet")
    report = (results / "report.html").read_text()
    assert "coins" in report
    episodes = pl.read_csv(results / "compare/episodes.csv")
    assert episodes["coins"].null_count() == 0


def assert_means_are_those_of_the_episodes(compared: dict[str, Any], results: Path) -> None:
    columns = {
        "coins": pl.col("coins"),
        "success_rate": pl.col("outcome") == "arrived",
        "fell_rate": pl.col("outcome") == "fell",
    }
    for metric, column in columns.items():
        means = {arm: sum(final_means(results, arm, column)) / 2 for arm in ("default", "guided")}
        for arm, mean in means.items():
            assert compared["arms"][arm][metric]["mean"] == pytest.approx(mean)
        [difference] = [c["difference"] for c in compared["comparisons"] if c["metric"] == metric]
        assert difference == pytest.approx(means["guided"] - means["default"])
