"""Transitions that the reward kernel shapes per second."""

from __future__ import annotations

from dataclasses import replace
from statistics import median

import numpy as np

from benchmarks.speed.measure import Row, measure_in_turn, on_cores, ratios, seconds
from benchmarks.speed.study import WEIGHTS
from shaperun.envs.base import Transition
from shaperun.envs.builtin import environments
from shaperun.rewards.config import PythonTerm, RewardConfig
from shaperun.rewards.kernel import RewardKernel

BATCH = 4096

# The six terms again, as formulas of a study.
FORMULAS: dict[str, str | PythonTerm] = {
    "distance": "-hypot(x, y)",
    "velocity": "-hypot(vx, vy)",
    "angle": "-abs(angle)",
    "legs": "left_leg + right_leg",
    "main_engine": "-(action == 2)",
    "side_engine": "-(action == 1 or action == 3)",
}


def kernel_rows(*, quick: bool) -> list[Row]:
    """Measure batches with all six terms of LunarLander, as functions and as formulas."""
    rounds, calls = (3, 30) if quick else (15, 200)
    lander = environments()["LunarLander-v3"]
    functions = RewardKernel(lander, RewardConfig(mode="add", weights=WEIGHTS))
    formulas = RewardKernel(
        replace(lander, terms={}), RewardConfig(mode="add", weights=WEIGHTS, terms=FORMULAS)
    )
    batch = draw_transitions(np.random.default_rng(0))

    def time(kernel: RewardKernel) -> float:
        return median(seconds(lambda: kernel(batch)) for _ in range(calls))

    with on_cores(1):
        millions = [BATCH / time(functions) / 1e6 for _ in range(rounds)]
        times = measure_in_turn(
            {"formulas": lambda _: time(formulas), "functions": lambda _: time(functions)}, rounds
        )
    label = f"kernel, {len(functions.names)} terms × {BATCH:,}"
    return [
        Row(label, millions, "{:.1f}", "M/s", at_least=2.0),
        Row("time, formulas / functions", ratios(*times.values()), at_most=2.0),
    ]


def draw_transitions(rng: np.random.Generator) -> Transition:
    """Draw a batch of transitions with the shapes and types of LunarLander's."""
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
