"""How much of the simulator's own speed is left when a cohort learns in it."""

from __future__ import annotations

from benchmarks.speed.measure import Row, on_cores, tell
from benchmarks.speed.train_once import Noted, cohort, steps_per_second

RUNS = 8


def rows(*, quick: bool) -> list[Row]:
    """Speed of learning as a share of the speed of stepping the same worlds in the same way."""
    rounds, rollouts = (1, 1) if quick else (3, 4)
    with on_cores(1):
        found = [_round(rollouts, number) for number in range(rounds)]
    shares = [100 * noted["bare_seconds"] / noted["seconds"] for noted in found]
    bare = [noted["steps"] / noted["bare_seconds"] for noted in found]
    learning = [steps_per_second(noted) for noted in found]
    return [
        Row("lockstep / the bare simulator", shares, "{:.1f}", "%", at_least=60.0),
        Row(f"{RUNS} runs, learning", learning, "{:,.0f}", "steps/s"),
        Row(f"{RUNS} runs, bare simulator", bare, "{:,.0f}", "steps/s"),
    ]


def _round(rollouts: int, number: int) -> Noted:
    noted = cohort(RUNS, rollouts, number, clock="benchmarks.speed.replay_actions")
    tell(f"  round {number + 1}: {noted['seconds']:.1f} and bare {noted['bare_seconds']:.1f} s")
    return noted
