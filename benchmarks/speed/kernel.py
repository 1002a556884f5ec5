"""How many transitions the kernel shapes in a second."""

from __future__ import annotations

from dataclasses import replace
from statistics import median

import numpy as np

from benchmarks.speed.measure import Row, alternate, on_cores, ratios, seconds
from benchmarks.speed.study import WEIGHTS
from shaperun.envs.base import Transition
from shaperun.envs.builtin import environments
from shaperun.rewards.config import PythonTerm, RewardConfig
from shaperun.rewards.kernel import RewardKernel

BATCH = 4096

# The six terms once more, as one would write them in a study.
FORMULAS: dict[str, str | PythonTerm] = {
    "distance": "-hypot(x, y)",
    "velocity": "-hypot(vx, vy)",
    "angle": "-abs(angle)",
    "legs": "left_leg + right_leg",
    "main_engine": "-(action == 2)",
    "side_engine": "-(action == 1 or action == 3)",
}


def rows(*, quick: bool) -> list[Row]:
    """Transitions a second, all six terms of LunarLander, in batches; and as formulas."""
    rounds, calls = (3, 30) if quick else (15, 200)
    lander = environments()["LunarLander-v3"]
    kernel = RewardKernel(lander, RewardConfig(mode="add", weights=WEIGHTS))
    written = RewardKernel(
        replace(lander, terms={}), RewardConfig(mode="add", weights=WEIGHTS, terms=FORMULAS)
    )
    batch = transitions(np.random.default_rng(0))
    with on_cores(1):
        figures = [
            BATCH / median(seconds(lambda: kernel(batch)) for _ in range(calls))
            for _ in range(rounds)
        ]
        pairs = alternate(
            lambda: median(seconds(lambda: written(batch)) for _ in range(calls)),
            lambda: median(seconds(lambda: kernel(batch)) for _ in range(calls)),
            rounds,
        )
    what = f"kernel, {len(kernel.names)} terms × {BATCH:,}"
    millions = [figure / 1e6 for figure in figures]
    return [
        Row(what, millions, "{:.1f}", "M/s", at_least=2.0),
        Row("time, formulas / functions", ratios(pairs), at_most=2.0),
    ]


def transitions(rng: np.random.Generator) -> Transition:
    """Transitions that look like LunarLander's to the kernel."""
    before, after = rng.normal(size=(2, BATCH, 8))
    for obs in (before, after):
        obs[:, 6:] = obs[:, 6:] > 0
    ends = rng.random(BATCH) < 0.01
    return Transition(
        obs=before,
        action=rng.integers(4, size=BATCH),
        next_obs=after,
        env_reward=rng.normal(size=BATCH),
        terminated=ends,
        truncated=np.zeros(BATCH, dtype=bool),
        last_action=rng.integers(4, size=BATCH),
    )
