"""A cohort of one run beside the same run by stable-baselines3's own loop."""

from __future__ import annotations

from benchmarks.speed.measure import Row, in_turn, on_cores, ratios
from benchmarks.speed.train_once import cohort, single, steps_per_second


def rows(*, quick: bool) -> list[Row]:
    """Steps a second while learning, as a ratio of the engines."""
    rounds, rollouts = (1, 1) if quick else (5, 4)
    with on_cores(1):
        found = in_turn(
            {
                "lockstep": lambda number: steps_per_second(cohort(1, rollouts, number)),
                "sb3": lambda number: steps_per_second(single(rollouts, number)),
            },
            rounds,
            "steps/s",
        )
    pairs = list(zip(found["lockstep"], found["sb3"], strict=True))
    return [
        Row("one run, lockstep / sb3", ratios(pairs), at_least=1.2),
        *(Row(f"one run, {name}", found[name], "{:,.0f}", "steps/s") for name in found),
    ]
