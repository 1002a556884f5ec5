"""Training throughput beside rl_zoo3's, at the same tuned hyperparameters."""

from __future__ import annotations

from benchmarks.speed.measure import Row, in_turn, on_cores, ratios
from benchmarks.speed.train_once import single, steps_per_second, zoo
from benchmarks.speed.venvs import RL_ZOO3


def rows(*, quick: bool) -> list[Row]:
    """Steps a second while learning, as a ratio to rl_zoo3's."""
    rounds, rollouts = (1, 2) if quick else (5, 4)
    RL_ZOO3.python()
    with on_cores(1):
        found = in_turn(
            {
                "shaperun": lambda number: steps_per_second(single(rollouts, number)),
                "rl_zoo3": lambda number: steps_per_second(zoo(rollouts, number)),
            },
            rounds,
            "steps/s",
        )
    pairs = list(zip(found["shaperun"], found["rl_zoo3"], strict=True))
    return [
        Row("training, shaperun / rl_zoo3", ratios(pairs), at_least=1.0),
        Row("training, shaperun", found["shaperun"], "{:,.0f}", "steps/s"),
        Row("training, rl_zoo3", found["rl_zoo3"], "{:,.0f}", "steps/s"),
    ]
