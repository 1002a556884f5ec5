"""Throughput of a cohort beside one run of rl_zoo3 and one of SBX, at the same hyperparameters."""

from __future__ import annotations

from benchmarks.speed.measure import Pair, Row, in_turn, on_cores, ratios
from benchmarks.speed.train_once import cohort, sbx, steps_per_second, zoo
from benchmarks.speed.venvs import RL_ZOO3, SBX

RUNS = {"lockstep": 8, "lockstep on EnvPool": 16}  # as many as the planner puts together
AT_LEAST = {
    ("lockstep", "rl_zoo3"): 2.3,
    ("lockstep", "SBX"): 1.6,
    ("lockstep on EnvPool", "rl_zoo3"): 4.0,
    ("lockstep on EnvPool", "SBX"): 2.8,
}


def rows(*, quick: bool) -> list[Row]:
    """Steps a second of all runs together while learning, as ratios to those of the peers."""
    rounds, rollouts = (1, 1) if quick else (5, 4)
    for peer in (RL_ZOO3, SBX):
        peer.python()
    with on_cores(1):
        found = in_turn(
            {
                "lockstep": lambda number: _cohort("lockstep", rollouts, number, "gymnasium"),
                "rl_zoo3": lambda number: steps_per_second(zoo(rollouts, number)),
                "lockstep on EnvPool": lambda number: _cohort(
                    "lockstep on EnvPool", rollouts, number, "envpool"
                ),
                "SBX": lambda number: steps_per_second(sbx(rollouts, number)),
            },
            rounds,
            "steps/s",
        )
    compared = [
        Row(f"{ours} / {peer}", ratios(_pairs(found, ours, peer)), at_least=least)
        for (ours, peer), least in AT_LEAST.items()
    ]
    counts = {name: f"{RUNS[name]} runs" if name in RUNS else "one run" for name in found}
    return compared + [
        Row(f"{name}, {counts[name]}", speeds, "{:,.0f}", "steps/s")
        for name, speeds in found.items()
    ]


def _pairs(found: dict[str, list[float]], a: str, b: str) -> list[Pair]:
    return list(zip(found[a], found[b], strict=True))


def _cohort(name: str, rollouts: int, number: int, backend: str) -> float:
    return steps_per_second(cohort(RUNS[name], rollouts, number, backend=backend))
