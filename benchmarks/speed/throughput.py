"""Environment steps per second of learning, next to other tools and to the bare simulator."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from benchmarks.doc_tables import log
from benchmarks.speed.measure import Row, measure_in_turn, on_cores, ratios
from benchmarks.speed.train_once import (
    Timing,
    speed_row,
    steps_per_second,
    train_cohort,
    train_rl_zoo3,
    train_sb3,
    train_sbx,
)
from benchmarks.speed.venvs import RL_ZOO3, SBX

COHORT = 8  # as many runs as the planner puts together
ENVPOOL_COHORT = 16
LARGE_COHORT = 64

Sides = Mapping[str, Callable[[int], Timing]]
"""A function per side that trains once, given the round."""


def training_rows(*, quick: bool) -> list[Row]:
    """Measure stable-baselines3's loop in shaperun and rl_zoo3."""
    rounds, rollouts = (1, 2) if quick else (5, 4)
    RL_ZOO3.python()
    sides = {"shaperun": partial(train_sb3, rollouts), "rl_zoo3": partial(train_rl_zoo3, rollouts)}
    return _pair_rows("training", sides, rounds, at_least=1.0)


def one_run_rows(*, quick: bool) -> list[Row]:
    """Measure a cohort of one and the same run with stable-baselines3's loop."""
    rounds, rollouts = (1, 1) if quick else (5, 4)
    sides = {"lockstep": partial(train_cohort, 1, rollouts), "sb3": partial(train_sb3, rollouts)}
    return _pair_rows("one run", sides, rounds, at_least=1.2)


def lockstep_rows(*, quick: bool) -> list[Row]:
    """Measure a cohort, on gymnasium and on EnvPool, and one run of rl_zoo3 and of SBX."""
    rounds, rollouts = (1, 1) if quick else (5, 4)
    for peer in (RL_ZOO3, SBX):
        peer.python()
    speeds = _measure_speeds(
        {
            "lockstep": partial(train_cohort, COHORT, rollouts),
            "rl_zoo3": partial(train_rl_zoo3, rollouts),
            "lockstep on EnvPool": partial(
                train_cohort, ENVPOOL_COHORT, rollouts, backend="envpool"
            ),
            "SBX": partial(train_sbx, rollouts),
        },
        rounds,
    )
    targets = {
        ("lockstep", "rl_zoo3"): 2.3,
        ("lockstep", "SBX"): 1.6,
        ("lockstep on EnvPool", "rl_zoo3"): 4.0,
        ("lockstep on EnvPool", "SBX"): 2.8,
    }
    runs = {"lockstep": f"{COHORT} runs", "lockstep on EnvPool": f"{ENVPOOL_COHORT} runs"}
    return [
        *(
            Row(f"{a} / {b}", ratios(speeds[a], speeds[b]), at_least=least)
            for (a, b), least in targets.items()
        ),
        *(speed_row(f"{name}, {runs.get(name, 'one run')}", speeds[name]) for name in speeds),
    ]


def _pair_rows(topic: str, sides: Sides, rounds: int, *, at_least: float) -> list[Row]:
    speeds = _measure_speeds(sides, rounds)
    ratio = Row(f"{topic}, {' / '.join(sides)}", ratios(*speeds.values()), at_least=at_least)
    return [ratio, *(speed_row(f"{topic}, {name}", speeds[name]) for name in speeds)]


def _measure_speeds(sides: Sides, rounds: int) -> dict[str, list[float]]:
    def speed_of(train: Callable[[int], Timing]) -> Callable[[int], float]:
        return lambda number: steps_per_second(train(number))

    with on_cores(1):
        speeds = {name: speed_of(train) for name, train in sides.items()}
        return measure_in_turn(speeds, rounds, "steps/s")


def simulator_share_rows(*, quick: bool) -> list[Row]:
    """Measure learning as a share of the speed of the bare simulator, for the same steps."""
    rounds, rollouts = (1, 1) if quick else (3, 4)
    timings = []
    with on_cores(1):
        for number in range(rounds):
            timing = train_cohort(COHORT, rollouts, number, mode="replay")
            bare = timing["bare_seconds"]
            log(f"  round {number + 1} of {rounds}: {timing['seconds']:.1f}, bare {bare:.1f} s")
            timings.append(timing)
    shares = [100 * timing["bare_seconds"] / timing["seconds"] for timing in timings]
    bare_speeds = [timing["steps"] / timing["bare_seconds"] for timing in timings]
    return [
        Row("lockstep / the bare simulator", shares, "{:.1f}", "%", at_least=60.0),
        speed_row(f"{COHORT} runs, learning", [steps_per_second(timing) for timing in timings]),
        speed_row(f"{COHORT} runs, bare simulator", bare_speeds),
    ]


def memory_rows(*, quick: bool) -> list[Row]:
    """Measure the peak memory of a large cohort; its second rollout starts with the first's."""
    runs, rollouts = (LARGE_COHORT // 8, 1) if quick else (LARGE_COHORT, 2)
    with on_cores(1):
        memory = float(train_cohort(runs, rollouts)["memory"])
    most = None if quick else 2000.0  # the target is for the large cohort
    return [Row(f"memory, {runs} runs in lockstep", [memory], "{:,.0f}", "MB", at_most=most)]
